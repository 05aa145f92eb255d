"""The papers' claims held against our numbers: one line a claim, with its verdict.

There is a verdict only at the paper's scale and with at least two runs of our own on each side;
elsewhere it is "not run", and the sign of our difference is information.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from cp2.reporting.claims.contrasts import Error, Measured, combined, contrasts
from cp2.reporting.claims.read import Claim, Stated
from cp2.reporting.formats import markdown, markdown_table
from cp2.reporting.tables import TableView
from cp2.settings.claims import Ordering
from cp2.tables.published import PUBLISHED_STD

Verdict = Literal["reproduced", "not reproduced", "not distinguishable", "not run"]
RULE = (
    "A stated difference counts as reproduced where ours agrees with it within two standard errors "
    "(ours over seeds; theirs from the spread that the paper prints for the number, else for the "
    f"data set, else {PUBLISHED_STD} points a run) and has its sign beyond two standard errors of "
    "ours; an order or a limit where ours is on its side beyond two standard errors. Errors that "
    "are estimated from few runs count for more than two, by Student's t (4.5 at two runs a side "
    "that spread alike; Welch's degrees of freedom), so that a true zero is called reproduced no "
    "more often. Where ours cannot be told from no difference, or from the limit, the verdict is "
    "“not distinguishable”. Runs “of one pretraining” differ by their finetuning alone: how far "
    "pretrainings lie apart is not in their errors. Imported scores and weights settle nothing. "
    "There is a verdict only at the paper's scale and with at least two runs on each side."
)
_FEW = 2  # runs a side below which there is no verdict
_ASSUMED = f"the paper prints no spread for it: {PUBLISHED_STD} points a run assumed"


@dataclass(frozen=True)
class ClaimView:
    """A claim with our differences and the verdict.

    Attributes:
        reason: why there is none, or what it was assumed for.
    """

    claim: Claim
    measured: tuple[Measured, ...]
    verdict: Verdict
    reason: str


def view_claims(
    claims: Sequence[Claim],
    orderings: dict[str, tuple[Ordering, ...]],
    views: Sequence[TableView],
    scale: str,
) -> list[ClaimView]:
    """Every claim of the papers whose tables the campaign has, with its verdict."""
    papers = {(view.settings.published or view.name).partition("_")[0] for view in views}
    return [
        _view(claim, orderings.get(claim.id, ()), views, scale)
        for claim in claims
        if claim.paper in papers
    ]


def _view(
    claim: Claim, orderings: tuple[Ordering, ...], views: Sequence[TableView], scale: str
) -> ClaimView:
    if not orderings and not claim.left:
        return ClaimView(claim, (), "not run", "its numbers are in no table")
    if not orderings and claim.delta and not claim.right:
        return ClaimView(claim, (), "not run", "the other side of it is in no table")
    sides = contrasts(claim, orderings, views)
    found = tuple(one for one in sides if isinstance(one, Measured))
    gaps = [one for one in sides if isinstance(one, str)]
    reason = gaps[0] if gaps else _no_verdict(claim, found, scale)
    if reason:
        return ClaimView(claim, found, "not run", reason)
    stated = claim.stated
    assert stated is not None
    verdicts = [_verdict(stated, one) for one in found]
    held = stated.relation == "=" and any(one.assumed for one in found)
    return ClaimView(claim, found, _together(verdicts), _ASSUMED if held else "")


def _no_verdict(claim: Claim, found: Sequence[Measured], scale: str) -> str | None:
    """Why complete cells do not settle the claim; None where they do."""
    if claim.stated is None:
        return f"{claim.published!r} is no number that a difference could be held against"
    if scale != "paper":
        return f"{scale} scale: the sign is information only"
    elsewhere = [one.elsewhere for one in found if one.elsewhere]
    if elsewhere:
        return f"{elsewhere[0]}, which settle nothing about our runs"
    if any(one.runs < _FEW for one in found):
        return "one run a cell: there is no spread to judge by"
    if claim.stated.percent and not all(one.base for one in found):
        return "there is nothing that it could be a percentage of"
    if any(one.timed for one in found) and not claim.stated.percent:
        return "seconds of other devices than the paper's"
    return None


def _verdict(stated: Stated, ours: Measured) -> Verdict:
    """Reproduced, not reproduced, or our runs cannot tell.

    A direction or a limit (">0", ">=2.0", "<1%") is reproduced where our difference lies on its
    side beyond two standard errors of ours, and not where it lies on the other side beyond them.
    A stated difference also has to agree with ours within two standard errors of both. Zero and
    single values only have to agree.
    """
    match stated.relation:
        case ">" | ">=" | "<" | "<=":
            return _on_side(stated, ours)
    both = combined([ours.error or Error(0.0), ours.theirs])
    if abs(ours.value - stated.number) > both.slack:
        return "not reproduced"
    if stated.number == 0 or ours.level:
        return "reproduced"
    return _on_side(Stated(">" if stated.number > 0 else "<", 0.0, False), ours)


def _on_side(stated: Stated, ours: Measured) -> Verdict:
    unit = 100 / ours.base if stated.percent and ours.base else 1.0
    low, high = unit * ours.low - stated.number, unit * ours.high - stated.number
    if stated.relation in ("<", "<="):
        low, high = -high, -low
    reached = low >= 0 if stated.relation.endswith("=") else low > 0
    if reached:
        return "reproduced"
    return "not reproduced" if high < 0 else "not distinguishable"


def _together(verdicts: list[Verdict]) -> Verdict:
    """Of a claim about several differences: all of them have to be borne out."""
    for one in ("not reproduced", "not distinguishable"):
        if one in verdicts:
            return one
    return "reproduced"


def ours_difference(measured: Measured) -> str:
    """ "+1.4 ± 0.2 (n 3)", after the column's name where a claim is about several.

    A single value has no sign; numbers that are not of our runs are marked.
    """
    digits = measured.digits
    sign = f"{measured.value:{'' if measured.level else '+'}.{digits}f}".replace("-", "−")
    spread = f" ± {measured.error.value:.{digits}f}" if measured.error else ""
    column = f"{measured.name}: " if measured.name else ""
    shared = " of one pretraining" if measured.one_pretraining else ""
    mark = f", {measured.elsewhere}" if measured.elsewhere else ""
    return f"{column}{sign}{spread} (n {measured.runs}{shared}{mark})"


def count_verdicts(claims: Sequence[ClaimView]) -> dict[str, int]:
    """Verdict -> number of claims, in a fixed order, without those that never occur."""
    counts = Counter(str(view.verdict) for view in claims)
    order = ("reproduced", "not reproduced", "not distinguishable", "not run")
    return {verdict: counts[verdict] for verdict in order if counts[verdict]}


def inconsistencies(claims: Sequence[ClaimView]) -> list[str]:
    """Where a paper's text says other, or more, than its own tables."""
    return [
        f"{view.claim.id}: {_statement(view)}. {view.claim.note}".strip()
        for view in claims
        if view.claim.status in ("INCONSISTENT", "loose")
    ]


def claims_markdown(claims: Sequence[ClaimView], title: str) -> str:
    """All claims as a GitHub table."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in count_verdicts(claims).items())
    cells = [
        (
            f"{view.claim.id}: {_statement(view)}",
            view.claim.published,
            "; ".join(map(ours_difference, view.measured)),
            view.verdict + (f": {view.reason}" if view.reason else ""),
        )
        for view in claims
    ]
    headers = ["claim", "stated", "ours", "verdict"]
    table = pd.DataFrame(cells, columns=headers).map(markdown).set_index("claim")
    lines = [f"# Claims: {title}", "", f"{counts}. {RULE}", ""]
    lines.append(markdown_table(table, headers, "lrrl"))
    odd = inconsistencies(claims)
    if odd:
        lines += ["", "## The paper against itself", "", *(f"- {text}" for text in odd)]
    return "\n".join(lines) + "\n"


def _statement(view: ClaimView) -> str:
    place = view.claim.place
    return view.claim.statement + (f" ({place})" if place else "")
