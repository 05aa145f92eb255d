"""The page: whole, self-contained, escaped, with partial results and with none."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from fake_runs import Make, finish_cell, write_done, write_losses, write_picture
from PIL import Image

from cp2.errors import UserError
from cp2.plan.graph import Plan
from cp2.reporting.provenance import RunRecord, chain, remake_command
from cp2.reporting.report import write_report, write_table
from cp2.settings.load import Configuration, load_campaign


def fill(configuration: Configuration, plan: Plan) -> None:
    """One cell done with all before it; one pretraining with losses and a picture."""
    results = configuration.results
    finish_cell(plan, "cp2_fcn", 4, results, [0.754, 0.758])  # CP2 200, voc2012
    for key in plan.tables["cp2_fcn"].cells[4].runs:
        write_picture(plan.runs[key].folder(results).pictures / "0.png")
    for run in plan.ancestors(list(plan.tables["cp2_fcn"].cells[4].runs)):
        if run.stage in ("pretrain", "finetune"):
            write_done(run, results)
    (pretrain,) = plan.stage("pretrain")
    write_losses(pretrain, results)
    write_picture(pretrain.folder(results).pictures / "composed.png", (1000, 20))


class Page(HTMLParser):
    """Links, ids, sources and the balance of tags of a page."""

    VOID = ("meta", "img", "link", "br", "input")
    UNSEEN = ("style", "script")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if identity := given.get("id"):
            assert identity not in self.ids
            self.ids.add(identity)
        self.links += [given["href"] or ""] if "href" in given else []
        self.sources += [given["src"] or ""] if "src" in given else []

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in self.UNSEEN:
            self.words += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    fill(configuration, plan)
    path = write_report(configuration, plan, published)
    assert path == configuration.reports / "index.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    pictures = Page((path.parent / "pictures.html").read_text(encoding="utf-8"))
    assert pictures.open == []
    assert len(page.sources) == len(pictures.sources) == 2  # results, losses; predictions, composed
    for source in page.sources:
        assert b"<svg" in base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))
    for source in pictures.sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,"))[1:4] == b"PNG"
    assert "@import" not in text
    assert "url(" not in text
    for one in (page, pictures):
        for link in one.links:
            if link.startswith("#"):
                assert link[1:] in one.ids
            elif link != "data:,":  # no icon
                assert (path.parent / link).is_file()


def test_every_number_leads_to_its_runs(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    fill(configuration, plan)
    text = write_report(configuration, plan, published).read_text(encoding="utf-8")
    cell = plan.tables["cp2_fcn"].cells[4]
    assert "75.6 ± 0.3 (2)" in Page(text).words
    assert '<a class="origin" href="#cp2_fcn-cp2-200-voc2012-miou"' in text
    part = text.partition('<details id="cp2_fcn-cp2-200-voc2012-miou"')[2].partition(
        '<details id="cp2_fcn-5"'
    )[0]
    assert part
    details = json.loads(text.partition('id="details">')[2].partition("</script>")[0])
    for key in chain(plan, cell.runs):
        assert f"<code>{key.partition('/')[2]}</code>" in part
        assert f'data-run="{key}"' in part
        recipe = yaml.safe_load(details["recipes"][details["runs"][key]["recipe"]])
        assert recipe == plan.runs[key].recipe.model_dump(mode="json")
    for words in ("0123456789", "node7 · cpu", "3 min 20 s", "75.40", "75.80", "snakemake"):
        assert words in part


def test_names_are_escaped(make: Make, published: Path) -> None:
    configuration, plan = make("mini")
    text = write_report(configuration, plan, published).read_text(encoding="utf-8")
    assert "Tiny &lt;campaign&gt; &amp; friends" in text
    assert "<campaign>" not in text


def test_nothing_done_is_a_report_too(make: Make, published: Path) -> None:
    configuration, plan = make("mini")
    path = write_report(configuration, plan, published)
    text = path.read_text(encoding="utf-8")
    assert Page(text).sources == []
    assert "not done: 0 of 2 runs" in text
    assert "published (paper scale)" in text
    assert ">gap</button>" not in text
    assert "No run is done yet." in text
    assert "No pictures yet." in path.with_name("pictures.html").read_text(encoding="utf-8")
    evaluations = len(list(plan.stage("evaluate")))
    assert f"<span>evaluate</span><b>0 / {evaluations}</b>" in text


def test_the_same_runs_give_the_same_files(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    fill(configuration, plan)
    path = write_report(configuration, plan, published)
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {
        ".html",
        ".md",
        ".csv",
        ".tex",
        ".png",
        ".svg",
        ".json",
    }
    before = {file: file.read_bytes() for file in files}
    write_report(configuration, plan, published)
    assert {file: file.read_bytes() for file in files} == before


def test_large_pictures_are_embedded_as_jpeg(
    make: Make, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cp2.reporting.page.LARGE", 10)
    configuration, plan = make("paper")
    fill(configuration, plan)
    page = write_report(configuration, plan, published).with_name("pictures.html")
    sources = Page(page.read_text(encoding="utf-8")).sources
    assert len(sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    with Image.open(configuration.reports / "figures" / "composed.png") as image:
        assert image.format == "PNG"


def test_one_table(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    path = write_table(configuration, plan, "cp2_fcn", published)
    assert path == configuration.reports / "tables" / "cp2_fcn.md"
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".csv", ".html", ".md", ".tex"]
    with pytest.raises(UserError, match=r"no table 'cp2_fnc' in campaign 'tiny'.*cp2_fcn"):
        write_table(configuration, plan, "cp2_fnc", published)


def test_the_command_names_targets_before_the_settings() -> None:
    assignments = ["campaign.seeds.finetune=[0, 1]"]
    configuration = load_campaign("demo", assignments)
    assert remake_command(configuration, []) == (
        "snakemake --cores all --config campaign=demo 'set=campaign.seeds.finetune=[0, 1]'"
    )
    two = load_campaign("demo", [*assignments, "campaign.scale=mini"])
    assert remake_command(two, []).endswith(
        """'set=["campaign.seeds.finetune=[0, 1]", "campaign.scale=mini"]'"""
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert RunRecord("pretrain/x", 0, True, None, None, seconds, 1).duration == text
