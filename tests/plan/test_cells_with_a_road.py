"""Of the three papers' cells, how many can be filled; the others name what is not released."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[2]
CAMPAIGNS = ("paper", "paper_densecl_ablations", "paper_pixcon_ablations")
BY_HAND = "orl_r50_coco_800ep.pth"  # of a public folder; the file has no address of its own
REASONS = {
    "no method here, and no weights of it are released": 21,  # Odin, UniVIP
    "whether its folder holds weights of COCO+ is not known": 2,  # ORL
    "its file is no longer offered": 3,  # OpenSelfSup's MoCo v2
}


def printed(table):
    """Rows and columns for which the paper has no dash; None: no paper has the table."""
    path = ROOT / "reports" / "published" / f"{table}.csv"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        return {(r["row"], r["column"]): bool(r["value"]) for r in csv.DictReader(file)}


def cells_with(mirror, stand_ins):
    changes = [f"campaign.stand_ins={stand_ins}", "campaign.extra_rows=false"]
    changes += [f"campaign.execution.mirrors=['{mirror}']"]
    plans = [build_plan(load_campaign(name, changes, ROOT / "configs")) for name in CAMPAIGNS]
    return [
        cell
        for plan in plans
        for name, table in plan.tables.items()
        for cell in table.cells
        if (printed(name) or {}).get((cell.row, cell.column), True)
    ]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """With both: stand-ins, and the file that has to be fetched by hand."""
    mirror = tmp_path_factory.mktemp("mirror")
    (mirror / BY_HAND).touch()
    return cells_with(mirror, "true")


def filled(cells):
    return sum(bool(cell.runs) for cell in cells)


def test_cells_that_can_be_filled(cells, tmp_path):
    """As shipped, with stand-ins, and with the file by hand as well."""
    shipped = cells_with(tmp_path, "false")
    assert len(shipped) == len(cells) == 530
    assert filled(shipped) == 462
    pairs = list(zip(shipped, cells, strict=True))
    stand_ins = [now for was, now in pairs if "stand_ins: true one" in (was.missing or "")]
    by_hand = [now for was, now in pairs if (was.missing or "").startswith(BY_HAND)]
    assert filled(stand_ins) == len(stand_ins) == 486 - 462
    assert filled(by_hand) == len(by_hand) == 504 - 486
    assert filled(cells) == 504 == 530 - sum(REASONS.values())


def test_the_others_name_what_is_not_released(cells):
    reasons = Counter(
        next((known for known in REASONS if known in cell.missing), cell.missing)
        for cell in cells
        if not cell.runs
    )
    assert reasons == REASONS


def test_moco_v3_stands_in_with_its_heads(plan_of):
    plan = plan_of("title: T\nscale: paper\ntables: [cp2_vits_stand_in]\n")
    cells = plan.tables["cp2_vits_stand_in"].cells
    assert len(cells) == 6
    assert all(cell.runs for cell in cells)
    recipe = plan.run("checkpoint", "moco-v3-vits16-300").recipe
    assert (recipe.backbone.heads, recipe.checkpoint.layout) == (12, "moco")
