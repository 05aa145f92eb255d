"""The steps of docs/add-a-method.md, followed in a copy of the project and in another package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from addons import write_addon

ROOT = Path(__file__).parents[2]
HELPERS = (ROOT / "tests" / "training", ROOT / "tests")  # noise.py; campaigns.py
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")

TRAIN = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from noise import relative, write_noise
from cp2.training.clock import Deadline
from cp2.training.pretrain import pretrain
folder = Path(sys.argv[1])
folder.mkdir()
configuration, plan = write_noise(folder)
run = next(r for r in plan.stage("pretrain") if r.tags["method"] == "moco-v2")
run = relative(configuration, run, "nnclr")
pretrain(run, configuration.results, configuration.campaign.execution, Deadline())
from cp2.models.weights import load_weights
print(json.dumps(sorted(load_weights(run.folder(configuration.results).model)[0])))
"""


def _block(language: str, after: str) -> str:
    found = re.search(rf"{re.escape(after)}.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_pages_method_is_trained(tmp_path):
    project = tmp_path / "project"
    for folder in ("cp2", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, project / folder, ignore=ignored)
    (project / "cp2/methods/nnclr.py").write_text(_block("python", "`cp2/methods/nnclr.py`:"))
    (project / "configs/methods/nnclr.yaml").write_text(
        _block("yaml", "`configs/methods/nnclr.yaml`")
    )
    settings = project / "cp2/settings/methods.py"
    text = settings.read_text(encoding="utf-8")
    line = _block("python", "## 3. The line")
    assert text.count('    kind: Literal["moco-v2-plus"]\n') == 1
    settings.write_text(text.replace('    kind: Literal["moco-v2-plus"]\n', line))
    _train(project, tmp_path, project)


def test_the_method_of_another_package_is_trained(tmp_path):
    project, packages = tmp_path / "project", tmp_path / "packages"
    shutil.copytree(ROOT / "configs", project / "configs")
    (project / "configs/methods/nnclr.yaml").write_text(
        _block("yaml", "`configs/methods/nnclr.yaml`")
    )
    settings, entries = (
        _block(language, "## In a package of your own") for language in ("python", "toml")
    )
    modules = {"settings": settings, "nnclr": _block("python", "`cp2/methods/nnclr.py`:")}
    entries = entries.replace('project.entry-points."cp2.methods"', "cp2.methods").replace('"', "")
    write_addon(packages, modules, entries, "my_methods")
    _train(project, tmp_path, packages, ROOT)


def _train(project, tmp_path, *packages):
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, tmp_path / "noise", *HELPERS],
        cwd=project,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "step 6/6  loss" in done.stdout
    assert done.stdout.splitlines()[-1] == '["backbone", "fc", "keys"]'
