"""Ids of every run of every campaign: a change of one throws away results that people have.

After a change on purpose (a raised ALGORITHM_VERSION, a new campaign, row or seed), with a line in
CHANGELOG:

    python tests/plan/test_ids_are_held.py

writes the files anew; `git diff tests/plan/run_ids` then shows which runs it concerns.
"""

from pathlib import Path

import pytest

from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "run_ids"
CAMPAIGNS = sorted(
    path.stem for path in (ROOT / "configs").glob("*.yaml") if path.stem != "checkpoints"
)


def lines_of(campaign: str) -> list[str]:
    """`<stage>/<run id> <first 16 digits of its digest>`, sorted.

    The digest says more than the id where ids are plain names (data sets, checkpoints).
    """
    changes = ["campaign.execution.mirrors=[]"]  # files of this machine make rows of theirs
    runs = build_plan(load_campaign(campaign, changes, ROOT / "configs")).runs.values()
    return sorted(f"{run.key} {run.digest[:16]}" for run in runs)


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_every_run_keeps_its_id(campaign):
    held = (FOLDER / f"{campaign}.txt").read_text(encoding="utf-8").splitlines()
    found = lines_of(campaign)
    gone, new = sorted(set(held) - set(found)), sorted(set(found) - set(held))
    assert not gone, f"{len(gone)} runs lost their ids, first {gone[0]}"
    assert not new, f"{len(new)} runs are not in {FOLDER.name}/{campaign}.txt, first {new[0]}"


def test_every_file_is_of_a_campaign():
    assert sorted(path.stem for path in FOLDER.iterdir()) == CAMPAIGNS


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in CAMPAIGNS:
        (FOLDER / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines_of(name)))
