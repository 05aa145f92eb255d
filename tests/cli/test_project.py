"""A project without a clone: the wheel, `cp2 init`, `--project`."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.record.project import CONTENT, init_project

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    """Standard output; fails with standard error."""
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def kept() -> set[str]:
    """What a checkout has, without what is ignored."""
    return set(run("git", "ls-files", *CONTENT, cwd=ROOT).splitlines())


def test_the_wheel_carries_all_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    places = project["tool"]["setuptools"]["data-files"]
    carried = {
        str(Path(place.removeprefix("share/cp2").lstrip("/")) / path.name)
        for place, patterns in places.items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    assert kept() <= carried


def test_an_installed_wheel_makes_a_project(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    copy = tmp_path / "copy"
    run("git", "clone", "-q", str(ROOT), str(copy), cwd=tmp_path)
    quiet = ("--quiet", "--no-deps", "--no-index")
    run(*pip, "wheel", *quiet, "--no-build-isolation", "-w", ".", str(copy), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    prefix = tmp_path / "prefix"
    run(
        *pip,
        "install",
        *quiet,
        "--ignore-installed",
        "--prefix",
        str(prefix),
        str(wheel),
        cwd=tmp_path,
    )
    (installed,) = prefix.glob("**/site-packages")
    cp2 = (sys.executable, "-m", "cp2")
    said = run(*cp2, "init", "mine", cwd=tmp_path, path=installed)
    assert said == "mine: made; cd mine && cp2 plan\n"
    made = content(tmp_path / "mine")
    assert made >= set(run("git", "ls-files", *CONTENT, cwd=copy).splitlines())
    script = tmp_path / "mine" / "workflow" / "scripts" / "slurm-status"
    assert os.access(script, os.X_OK)
    plan = run(*cp2, "--project", "mine", "plan", cwd=tmp_path, path=installed)
    assert "43 runs: 0 done" in plan
    dry = run(sys.executable, "-m", "snakemake", "-n", cwd=tmp_path / "mine", path=installed)
    assert "rule evaluate" in dry


def test_a_checkout_makes_one_too(tmp_path: Path) -> None:
    init_project(tmp_path / "mine")
    assert kept() <= content(tmp_path / "mine")


def test_folders_in_use(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; give the name of an empty or a new folder"):
        init_project(tmp_path)
    with pytest.raises(UserError, match="is not empty"):
        init_project(tmp_path / "notes.txt")
    command = [sys.executable, "-m", "cp2", "--project", str(tmp_path), "plan"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has no configs/; `cp2 init` makes a project" in done.stderr
