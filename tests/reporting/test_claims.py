import csv
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from cp2.errors import UserError, WrongFile
from cp2.reporting.claims.judge import (
    claims_markdown,
    inconsistencies,
    ours_difference,
    view_claims,
)
from cp2.reporting.claims.read import Claim, Stated, read_claims
from cp2.reporting.report import write_report
from cp2.reporting.tables import TableView
from cp2.settings.claims import Ordering, read_orderings
from cp2.settings.tables import Column, Row, TableSettings
from cp2.tables.frame import COLUMNS, cell_frame
from cp2.tables.published import read_published

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"


def lines(**rows: list[float]) -> pd.DataFrame:
    """One column of a table; a row's scores in percent, one a seed."""
    given = {"table": "cp2_t", "column": "voc", "unit": "percent", "digits": 1, "planned": True}
    found = [
        given | {"row": row, "run": f"evaluate/{row}-{seed}", "value": value}
        for row, scores in rows.items()
        for seed, value in enumerate(scores or [None])
    ]
    return pd.DataFrame(found, columns=list(COLUMNS), dtype=object).astype({"value": float})


def table(**rows: list[float]) -> TableView:
    """The same as a table."""
    settings = TableSettings(
        name="cp2_t",
        title="T",
        source="S",
        published="cp2_t",
        protocol="p",
        head="h",
        columns=(Column(name="voc", dataset="voc2012"),),
        rows=tuple(Row(name=row, backbone="b") for row in rows),
    )
    return TableView(settings, cell_frame(lines(**rows)), "paper")


def with_columns(view: TableView, **columns: object) -> TableView:
    """The same table with other values in columns of its frame."""
    return replace(view, frame=view.frame.assign(**columns))


def named(view: TableView, name: str) -> TableView:
    return replace(view, settings=view.settings.model_copy(update={"name": name}))


def claim(delta: str, left: str = "a", right: str = "b", claimed: str = "") -> Claim:
    refs = [f"cp2_t|{row}|voc" if row else "" for row in (left, right)]
    return Claim("cp2-01", "a is better", "Sec. 1", delta, claimed, *refs, "consistent", "")


def verdict(stated: Claim, view: TableView, scale: str = "paper", **orderings: list[Ordering]):
    (found,) = view_claims([stated], {k: tuple(v) for k, v in orderings.items()}, [view], scale)
    return found


def test_a_difference_with_its_standard_error():
    left, right = [78.0, 79.0, 78.6], [76.0, 77.0, 77.4, 76.4]
    found = verdict(claim("+1.8"), table(a=left, b=right)).measured[0]
    assert found.value == pytest.approx(statistics.mean(left) - statistics.mean(right))
    error = math.sqrt(statistics.variance(left) / 3 + statistics.variance(right) / 4)
    assert found.error.value == pytest.approx(error)
    assert found.runs == 3
    welch = stats.ttest_ind(left, right, equal_var=False)
    assert found.error.freedom == pytest.approx(welch.df)
    assert (found.low, found.high) == pytest.approx(welch.confidence_interval(math.erf(2**0.5)))


def test_the_error_of_a_single_value_is_students():
    scores = [78.0, 79.0, 78.6]
    found = verdict(claim("", "a", "", claimed="78.5"), table(a=scores)).measured[0]
    bounds = stats.ttest_1samp(scores, 0).confidence_interval(math.erf(2**0.5))
    assert (found.low, found.high) == pytest.approx(bounds)


@pytest.mark.parametrize(
    ("pretrainings", "error", "freedom", "shared"),
    [
        ([0, 0, 0, 0], statistics.stdev([76.0, 76.2, 78.0, 78.2]) / 2, 3, True),
        ([0, 0, 1, 1], statistics.stdev([76.1, 78.1]) / 2**0.5, 1, False),
        ([0, 1, 2, 3], statistics.stdev([76.0, 76.2, 78.0, 78.2]) / 2, 3, False),
    ],
)
def test_finetunings_of_one_pretraining_are_not_independent(pretrainings, error, freedom, shared):
    scores = [76.0, 76.2, 78.0, 78.2]
    frame = lines(a=scores).assign(pretrain_seed=pretrainings)
    view = replace(table(a=scores), frame=cell_frame(frame))
    found = verdict(claim("", "a", "", claimed="78.5"), view).measured[0]
    assert found.error.value == pytest.approx(error)
    assert found.error.freedom == freedom
    assert (" of one pretraining" in ours_difference(found)) == shared


@pytest.mark.parametrize(
    ("delta", "left", "right", "expected"),
    [
        ("+1.4", [78.6, 78.6], [77.2, 77.2], "reproduced"),
        ("+1.4", [77.9, 77.9], [77.2, 77.2], "not reproduced"),  # 0.7 off, 2 x 0.28 allowed
        ("+1.4", [77.6, 78.2], [77.1, 77.3], "not distinguishable"),  # the same, with a spread
        ("+1.4", [78.59, 78.61], [77.19, 77.21], "reproduced"),  # 4.5 x 0.01 for the sign
        ("+1.4", [77.89, 77.91], [77.19, 77.21], "not reproduced"),  # 2.02 x 0.28 allowed
        ("-3.3", [75.3, 75.3], [78.6, 78.6], "reproduced"),
        ("0 (none)", [78.9, 78.9], [78.8, 78.8], "reproduced"),
        ("0 (none)", [79.9, 79.9], [78.8, 78.8], "not reproduced"),
        ("+0.4", [77.2, 77.2], [77.2, 77.2], "not distinguishable"),  # nothing is no +0.4
        ("+0.4", [77.1, 77.5], [77.0, 77.4], "not distinguishable"),  # +0.1 +- 0.3
        ("+0.4", [77.3, 77.3], [77.2, 77.2], "reproduced"),
        ("+0.4", [77.1, 77.1], [77.2, 77.2], "not reproduced"),  # within the errors, but reversed
        ("-0.4", [77.3, 77.3], [77.2, 77.2], "not reproduced"),
        ("+1.4", [75.8, 75.8], [77.2, 77.2], "not reproduced"),
        (">0", [78.1, 78.3], [78.0, 78.2], "not distinguishable"),
        (">0", [78.9, 79.1], [78.0, 78.2], "reproduced"),
        (">0", [77.1, 77.3], [78.0, 78.2], "not reproduced"),
        ("<0", [77.1, 77.3], [78.0, 78.2], "reproduced"),
        ("<0", [78.0, 78.0], [78.0, 78.0], "not distinguishable"),
        ("<=0", [78.0, 78.0], [78.0, 78.0], "reproduced"),
        ("<=0", [78.1, 78.3], [78.0, 78.2], "not distinguishable"),
        ("<=0", [78.1, 78.1], [78.0, 78.0], "not reproduced"),
        ("~0", [78.1, 78.1], [78.0, 78.0], "reproduced"),
        ("~0", [79.0, 79.0], [78.0, 78.0], "not reproduced"),
        (">=2.0", [80.5, 80.5], [78.0, 78.0], "reproduced"),
        (">=2.0", [80.0, 80.6], [78.0, 78.2], "not distinguishable"),
        (">=2.0", [79.3, 79.3], [78.0, 78.0], "not reproduced"),
        ("<1%", [100.9, 100.9], [100.0, 100.0], "reproduced"),
        ("<1%", [100.7, 101.1], [100.0, 100.0], "not distinguishable"),
        ("<1%", [101.1, 101.1], [100.0, 100.0], "not reproduced"),
    ],
)
def test_verdicts(delta, left, right, expected):
    assert verdict(claim(delta), table(a=left, b=right)).verdict == expected


@pytest.mark.parametrize("text", ["better", "~1/10", "~1/10; ~1/3", "AP75>AP50", "+1.4 or so", ""])
def test_a_statement_that_is_no_number_has_no_verdict(text):
    found = verdict(claim(text), table(a=[78.0, 78.0], b=[77.0, 77.0]))
    assert found.verdict == "not run"
    assert f"{text!r} is no number" in found.reason


def test_statements_as_relations():
    stated = {text: claim(text).stated for text in ("+1.4", "<1%", "~0", "-0.2 (approx)", ">=2.0")}
    assert stated == {
        "+1.4": Stated("=", 1.4, False),
        "<1%": Stated("<", 1.0, True),
        "~0": Stated("=", 0.0, False),
        "-0.2 (approx)": Stated("=", -0.2, False),
        ">=2.0": Stated(">=", 2.0, False),
    }


@pytest.mark.parametrize(
    ("error", "expected", "assumed"),
    [
        (None, "reproduced", True),  # 2 x 0.28 allowed
        (0.1, "not reproduced", False),  # 2 x 0.14
        (0.2, "reproduced", False),
    ],
)
def test_the_papers_own_spread_counts(error, expected, assumed):
    view = with_columns(table(a=[78.0, 78.0], b=[77.0, 77.0]), published_error=error)
    found = verdict(claim("+1.5"), view)
    assert (found.verdict, "0.2 points a run assumed" in found.reason) == (expected, assumed)


def test_spreads_that_the_papers_print():
    names = ["cp2_deeplabv3", "pixcon_segmentation", "densecl_voc_seg"]
    numbers = read_published(PUBLISHED, names)
    spreads = numbers["published_spread"]
    assert dict(spreads["cp2_deeplabv3"].groupby("column").unique()) == {
        "voc2012 mIoU": [0.2],
        "cityscapes mIoU": [0.2],
        "ade20k mIoU": [0.1],
    }
    pixcon = numbers.loc["pixcon_segmentation", "BYOL", "voc seg mIoU"]
    assert pixcon["published_spread"] == 0.28
    assert pixcon["published_error"] == pytest.approx(0.28 / math.sqrt(5))
    assert math.isnan(spreads["densecl_voc_seg", "super. IN", "voc2012 mIoU"])


@pytest.mark.parametrize("mark", ["imported scores", "imported weights"])
def test_numbers_made_elsewhere_settle_nothing(mark):
    view = with_columns(table(a=[78.0, 78.0], b=[77.0, 77.0]), imported=[mark, ""])
    found = verdict(claim("+1.0"), view)
    assert (found.verdict, found.reason.startswith(f"a: {mark}")) == ("not run", True)
    assert f"+1.0 ± 0.0 (n 2, a: {mark})" in claims_markdown([found], "T")


def test_the_table_of_that_name_comes_first_and_authors_weights_never():
    ours = table(a=[78.0, 78.0], b=[77.0, 77.0])
    other = named(table(a=[70.0, 70.0], b=[70.0, 70.0]), "cp2_other")
    authors = named(with_columns(other, imported="imported weights"), "cp2_authors")

    def value(*views: TableView) -> list[float]:
        (found,) = view_claims([claim("+1.0")], {}, views, "paper")
        return [one.value for one in found.measured]

    assert value(other, authors, ours) == [pytest.approx(1.0)]
    assert value(authors, other) == [0.0]
    assert value(authors) == []
    waiting = table(a=[], b=[77.0, 77.0])
    assert value(waiting, other) == [pytest.approx(-7.0)]  # a from the table that has it


def test_a_value_shows_no_sign():
    found = verdict(claim("", right="", claimed="78.6"), table(a=[78.6, 78.6]))
    assert "| 78.6 ± 0.0 (n 2) |" in claims_markdown([found], "T")


def test_a_difference_without_its_other_side():
    found = verdict(claim("<0", right=""), table(a=[78.6, 78.6]))
    assert (found.verdict, found.reason) == ("not run", "the other side of it is in no table")


@pytest.mark.parametrize(("score", "expected"), [(78.3, "reproduced"), (77.9, "not reproduced")])
def test_a_single_value(score, expected):
    stated = claim("", right="", claimed="78.6")
    assert verdict(stated, table(a=[score, score])).verdict == expected


@pytest.mark.parametrize(
    ("view", "scale", "reason"),
    [
        (table(a=[78.0], b=[77.0, 77.0]), "paper", "one run a cell"),
        (table(a=[78.0, 78.0], b=[]), "paper", "b: not done: 0 of 1 runs"),
        (table(a=[78.0, 78.0]), "paper", "a row of it is not in this campaign"),
        (table(a=[78.0, 78.0], b=[77.0, 77.0]), "demo", "demo scale: the sign is information"),
    ],
)
def test_no_verdict_says_why(view, scale, reason):
    found = verdict(claim("+1.0"), view, scale)
    assert found.verdict == "not run"
    assert reason in found.reason


def test_the_sign_is_shown_at_another_scale():
    found = verdict(claim("+1.0"), table(a=[20.0, 20.0], b=[21.5, 21.5]), "demo")
    assert found.measured[0].value == pytest.approx(-1.5)
    assert "−1.5 ± 0.0 (n 2)" in claims_markdown([found], "Demo")


def test_the_best_of_some_rows():
    view = table(a=[78.0, 78.0], b=[77.0, 77.0], c=[79.0, 79.0], d=[78.5, 78.5])
    best = Ordering(table="cp2_t", left=("a", "c"), right=("b", "d"))
    found = verdict(claim(">0", "", ""), view, **{"cp2-01": [best]})
    assert (found.verdict, found.measured[0].value) == ("reproduced", pytest.approx(0.5))
    worse = Ordering(table="cp2_t", left=("a",), right=("b", "d"))
    found = verdict(claim(">0", "", ""), view, **{"cp2-01": [best, worse]})
    assert found.verdict == "not reproduced"


@pytest.mark.parametrize(
    ("delta", "expected"), [("+1", "not run"), ("<1%", "reproduced"), (">0", "not run")]
)
def test_seconds_of_other_devices_are_compared_in_percent_only(delta, expected):
    view = with_columns(table(a=[500.0, 500.2], b=[499.0, 499.1]), unit="seconds")
    found = verdict(claim(delta), view)
    assert found.verdict == expected
    assert found.measured[0].timed


def test_an_ordering_in_some_columns():
    view = table(a=[78.0, 78.0], b=[77.0, 77.0])
    here = Ordering(table="cp2_t", left=("a",), right=("b",), columns=("voc",))
    assert verdict(claim(">0", "", ""), view, **{"cp2-01": [here]}).verdict == "reproduced"
    other = Ordering(table="cp2_t", left=("a",), right=("b",), columns=("ade",))
    found = verdict(claim(">0", "", ""), view, **{"cp2-01": [other]})
    assert (found.verdict, "its columns are not in this campaign" in found.reason) == (
        "not run",
        True,
    )


def test_the_best_row_has_to_beat_every_row_beyond_their_own_errors():
    """The strongest rival is certain, the second is not."""
    view = table(a=[78.0, 78.0], b=[77.0, 77.0], c=[75.9, 77.9])
    best = Ordering(table="cp2_t", left=("a",), right=("b", "c"))
    found = verdict(claim(">0", "", ""), view, **{"cp2-01": [best]})
    assert found.verdict == "not distinguishable"
    assert found.measured[0].value == pytest.approx(1.0)
    freedom_one = 13.968  # Student's t that is passed as seldom as 2 of a normal distribution
    assert found.measured[0].low == pytest.approx(1.1 - freedom_one, abs=1e-3)
    certain = Ordering(table="cp2_t", left=("a",), right=("b",))
    both = verdict(claim(">0", "", ""), view, **{"cp2-01": [certain, best]})
    assert both.verdict == "not distinguishable"


def test_the_error_of_how_far_rows_lie_apart():
    """No bootstrap: the two least certain rows of each side, whichever lie outermost."""
    view = table(a=[78.0, 78.0], b=[78.4, 78.6], c=[75.0, 75.0], d=[77.0, 79.0], e=[76.0, 76.4])
    closer = Ordering(table="cp2_t", left=("a", "b"), right=("c", "d", "e"), range=True)
    found = verdict(claim("<0", "", ""), view, **{"cp2-01": [closer]})
    error = math.sqrt(0.1**2 + 1.0**2 + 0.2**2)
    factor = stats.t.ppf(stats.norm.cdf(2), error**4 / (0.1**4 + 1.0**4 + 0.2**4))
    assert found.measured[0].error.value == pytest.approx(error)
    assert found.measured[0].low == pytest.approx(-2.5 - factor * error)
    assert found.verdict == "not distinguishable"


def test_how_far_rows_lie_apart():
    view = table(a=[78.0, 78.0], b=[78.5, 78.5], c=[75.0, 75.0], d=[78.0, 78.0])
    closer = Ordering(table="cp2_t", left=("a", "b"), right=("c", "d"), range=True)
    found = verdict(claim("<0", "", ""), view, **{"cp2-01": [closer]})
    assert (found.verdict, found.measured[0].value) == ("reproduced", pytest.approx(-2.5))


def test_a_claim_without_a_table():
    found = verdict(claim("-0.2 (approx)", "", ""), table(a=[1.0, 1.0]))
    assert (found.verdict, found.reason) == ("not run", "its numbers are in no table")


def test_other_papers_are_left_out():
    other = Claim("densecl-01", "s", "S", "+1", "", "densecl_x|a|b", "", "consistent", "")
    assert view_claims([other], {}, [table(a=[1.0])], "paper") == []


def test_every_claim_of_cp2_can_be_judged():
    """Each has two cells, one cell, an ordering, or is said to be in no table."""
    orderings = read_orderings(PUBLISHED)
    claims = {one.id: one for one in read_claims(PUBLISHED) if one.paper == "cp2"}
    assert len(claims) == 46
    for one in claims.values():
        assert one.left or one.id in orderings or one.status == "not_in_tables", one.id
    assert set(orderings) <= {one.id for one in read_claims(PUBLISHED)}


def test_rows_and_columns_of_the_claims_exist():
    numbers = set()
    for path in PUBLISHED.glob("*_*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                numbers |= {(path.stem, line["row"]), (path.stem, line["row"], line["column"])}
    for name, orderings in read_orderings(PUBLISHED).items():
        for ordering in orderings:
            for row in (*ordering.left, *ordering.right):
                places = [(column,) for column in ordering.columns or ()] or [()]
                assert all((ordering.table, row, *place) in numbers for place in places), name


def test_orderings_of_the_relatives_hold_in_the_papers():
    """densecl-37 and densecl-42 as far as their notes say; pixcon-46 where both cells are there."""
    values = {}
    for path in PUBLISHED.glob("*_*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                if line["value"]:
                    place = path.stem, line["column"], line["row"]
                    values[place] = float(line["value"])
    checked = 0
    for name in ("densecl-37", "densecl-42", "pixcon-45", "pixcon-46", "pixcon-49"):
        for one in read_orderings(PUBLISHED)[name]:
            columns = one.columns or {c for t, c, _ in values if t == one.table}
            for column in columns:
                sides = [
                    [values.get((one.table, column, row)) for row in rows]
                    for rows in (one.left, one.right)
                ]
                if None in sides[0] + sides[1]:
                    continue
                checked += 1
                if one.range:
                    spans = [max(side) - min(side) for side in sides]
                    assert spans[0] < spans[1]
                elif name == "pixcon-45":
                    assert max(sides[0]) <= max(sides[1])
                else:
                    assert max(sides[0]) > max(sides[1]), (name, column)
    assert checked == 4 + 3 + 3 + (8 + 8 + 5 + 2) + 1


def test_the_papers_against_themselves():
    claims = [one for one in read_claims(PUBLISHED) if one.paper == "cp2"]
    views = view_claims(claims, {}, [table(a=[1.0])], "paper")
    texts = inconsistencies(views)
    assert [text.partition(":")[0] for text in texts] == ["cp2-05", "cp2-34"]
    assert texts[0].endswith("papers say +1.6 for the same pair")


def test_damaged_files(tmp_path):
    with pytest.raises(WrongFile, match="claims are not there"):
        read_claims(tmp_path)
    (tmp_path / "claims.csv").write_text("id,statement\ncp2-1,a\n")
    with pytest.raises(WrongFile, match="has no column 'source'"):
        read_claims(tmp_path)
    (tmp_path / "orderings.yaml").write_text("cp2-18: [{table: t, left: [a], right: []}]\n")
    with pytest.raises(UserError, match=r"orderings.yaml: cp2-18.*right"):
        read_orderings(tmp_path)


def test_a_campaign_shows_claims_of_its_papers(make, published):
    configuration, plan = make("paper")
    assert configuration.campaign.tables == ("cp2_fcn",)
    page = write_report(configuration, plan, published).read_text(encoding="utf-8")
    assert "CP2 &lt;beats&gt; supervised" in page
    assert "of another paper" not in page
    assert "not &amp; all" in page
    assert (configuration.reports / "claims.md").is_file()


def test_the_place_of_a_claim_without_line_numbers():
    places = {one.id: one.place for one in read_claims(PUBLISHED)}
    assert places["cp2-01"] == "abstract"
    assert places["cp2-05"] == "intro, Fig. 1"
    assert places["cp2-10"] == ""
