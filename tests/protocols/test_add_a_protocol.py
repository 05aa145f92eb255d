"""docs/add-a-protocol.md followed, in a copy of the project and as a package of its own, up to
the printed table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from addons import write_addon
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-protocol.md").read_text(encoding="utf-8")
FILES = (
    "cp2/settings/protocols/patch_vote.py",
    "cp2/plan/protocols/patch_vote.py",
    "cp2/protocols/patch_vote.py",
    "configs/protocols/patch-vote.yaml",
    "configs/tables/patch_vote.yaml",
)
COLOURS = np.array([[200, 30, 30], [30, 30, 200]], dtype=np.uint8)
CAMPAIGN = """
title: votes
scale: demo
tables: [patch_vote, cp2_fcn]
select:
  cp2_fcn: {{rows: [random init], columns: [voc2012 mIoU, votes]}}
epochs: {{200: 1}}
seeds: {{pretrain: [0], finetune: [0, 1]}}
substitute:
  {{labelled: squares, unlabelled: squares, voc2012: squares, resnet18: resnet-tiny,
    resnet50: resnet-tiny}}
overrides:
  datasets:
    squares: {{kind: labelled, title: squares, root: {root}/squares, classes: squares}}
  methods:
    moco-v2: {{views: {{crop_size: 32}}, batch_size: 4, queue_size: 8}}
  tables:
    cp2_fcn:
      columns:
        - {{name: voc2012 mIoU, dataset: voc2012}}
        - {{name: votes, dataset: labelled, protocol: patch-vote}}
execution: {{results: {root}/results, reports: {root}/reports, workers: 0, log_every: 2}}
"""
RUN = """
import sys
from cp2.cli.main import main
from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

def cp2(*words):
    sys.argv = ["cp2", *words, "--campaign", sys.argv[-1]]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)

plan = build_plan(load_campaign(sys.argv[-1]))
cp2("plan", "--cost")
for run in plan.ancestors(list(plan.tables["patch_vote"].runs)):
    cp2(run.stage, run.id)
for words in ("plan", "status", "table patch_vote", "report", "track"):
    cp2(*words.split())
"""


def _block(file: str) -> str:
    """The code block that follows the file's name."""
    language = "python" if file.endswith(".py") else "yaml"
    found = re.search(rf"`{re.escape(file)}`.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found, file
    return found[1]


def _write_squares(folder: Path) -> None:
    """Images of a red and a blue half: 12 to train, 4 to validate, one of them wrongly labelled."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(16):
        label = np.zeros((64, 64), dtype=np.uint8)
        label[:, 32:] = 1
        label = label if i % 2 else 1 - label
        noise = rng.integers(0, 50, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(COLOURS[label] + noise).save(folder / f"images/{i}.png")
        Image.fromarray(1 - label if i == 12 else label).save(folder / f"labels/{i}.png")
    (folder / "train.txt").write_text("".join(f"{i}\n" for i in range(12)))
    (folder / "val.txt").write_text("".join(f"{i}\n" for i in range(12, 16)))


def _join_the_project(project: Path) -> None:
    """The page's files in a copy of the package."""
    shutil.copytree(ROOT / "cp2", project / "cp2", ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        assert not (project / file).exists(), f"{file} is there: the page needs another example"
        (project / file).write_text(_block(file), encoding="utf-8")
    registry = project / "cp2/settings/protocols/__init__.py"
    text, line = registry.read_text(encoding="utf-8"), _block("cp2/settings/protocols/__init__.py")
    assert text.count("AnyProtocol = ") == 1
    registry.write_text(text[: text.index("AnyProtocol = ")] + line, encoding="utf-8")


def _join_by_entry_point(project: Path) -> None:
    """The page's files in a package of its own, changed as its last section says."""
    code = {}
    for name, file in zip(("settings", "plan", "runner"), FILES, strict=False):
        text = _block(file).replace("cp2.settings.protocols.patch_vote", "my_votes.settings")
        code[name] = text.replace("cp2.plan.protocols.patch_vote", "my_votes.plan")
    for name, before, line in (
        ("settings", "    kind: Literal", '    module = "my_votes.plan"\n\n'),
        ("plan", "    metrics = ", '    runner = "my_votes.runner"\n'),
    ):
        assert line.strip() in PAGE
        assert code[name].count(before) == 1
        code[name] = code[name].replace(before, line + before)
    entry = "[cp2.protocols]\npatch-vote = my_votes.settings:PatchVoteSettings\n"
    assert '[project.entry-points."cp2.protocols"]\npatch-vote = "my_votes.set' in PAGE
    write_addon(project, code, entry, "my_votes")
    for file in FILES[3:]:
        (project / file).write_text(_block(file), encoding="utf-8")


@pytest.mark.parametrize("join", [_join_the_project, _join_by_entry_point])
def test_the_pages_protocol_prints_a_table(tmp_path, join):
    project = tmp_path / "project"
    for folder in ("configs", "reports/published"):
        shutil.copytree(ROOT / folder, project / folder)
    join(project)
    (project / "configs/classes/squares.yaml").write_text(
        f"classes: [red, blue]\npalette: {COLOURS.tolist()}\n"
    )
    _write_squares(tmp_path / "squares")
    campaign = tmp_path / "votes.yaml"
    campaign.write_text(CAMPAIGN.format(root=tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (project, ROOT)))}
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", RUN, str(campaign)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "patch accuracy 75.000 percent on 4 images" in done.stdout
    assert "unknown: 3 runs, no samples are known for protocols of kind patch-vote" in done.stdout
    table = (tmp_path / "reports/votes/tables/patch_vote.md").read_text(encoding="utf-8")
    assert "Percent, mean" in table
    assert "Protocol: Vote of the nearest patches; squares: 5 neighbours." in table
    # Two seeds of random weights, one pretraining whose score no seed changes.
    assert re.search(r"\| random init +\| 75\.00 ± 0\.00 \(2\)", table)
    assert re.search(r"\| MoCo v2 +\| +75\.00 \(1\)", table)
    mixed = (tmp_path / "reports/votes/tables/cp2_fcn.md").read_text(encoding="utf-8")
    assert "Vote of the nearest patches; squares: 5 neighbours" in mixed
