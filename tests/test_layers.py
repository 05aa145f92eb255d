"""Imports point downwards only; see docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cp2"
LAYERS = (  # lowest first; rooms of one layer do not import each other
    ("redaction",),
    ("errors",),
    ("record",),
    ("stages",),
    ("settings",),
    ("drawing",),
    ("plan",),
    ("cluster", "tables"),
    ("data",),
    ("augment", "models"),
    ("methods",),
    ("training", "tracking", "reporting"),
    ("protocols",),
    ("costs",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
WITHOUT_TORCH = (
    "redaction",
    "errors",
    "record",
    "stages",
    "settings",
    "drawing",
    "plan",
    "cluster",
)
HEAVY = {"torch", "torchvision", "timm", "torchmetrics", "mlflow", "pandas", "matplotlib"}
FILES = sorted(PACKAGE.rglob("*.py"))


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(file: Path) -> set[str]:
    """Full names of all imported modules, wherever in the file they are imported."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _rooms_imported(file: Path) -> set[str]:
    return {name.split(".")[1] for name in _imports(file) if name.startswith("cp2.")}


def _allowed(upper: str, lower: str) -> bool:
    return upper == lower or LEVEL[lower] < LEVEL[upper]


def test_every_room_has_its_layer():
    rooms = {_room(file) for file in FILES} - {"__init__"}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_downwards(file):
    if file == PACKAGE / "__init__.py":
        return  # `cp2.scores` imports when it is called; see below
    upwards = {room for room in _rooms_imported(file) if not _allowed(_room(file), room)}
    assert not upwards, f"{_room(file)} must not import {sorted(upwards)}"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_without_torch(room):
    files = [file for file in FILES if _room(file) == room]
    assert files
    for file in files:
        heavy = HEAVY & {name.split(".")[0] for name in _imports(file)}
        assert not heavy, f"{file.relative_to(PACKAGE)} imports {sorted(heavy)}"


def test_rooms_without_torch_load_none_through_others():
    modules = [
        ".".join(("cp2", *file.relative_to(PACKAGE).with_suffix("").parts))
        for file in FILES
        if _room(file) in WITHOUT_TORCH and file.name != "__init__.py"
    ]
    modules.append("cp2.data.preparers")  # the stage `dataset`
    code = f"import sys, {', '.join(modules)}\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_package_itself_loads_nothing():
    code = f"import sys, cp2\nprint(sorted({HEAVY!r} & set(sys.modules)), *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    heavy, *modules = done.stdout.split()
    assert heavy == "[]"
    assert [name for name in modules if name.startswith("cp2.")] == []


def test_the_help_loads_no_settings():
    """`cp2 --help` is printed in less time than pydantic takes to build their models."""
    code = (
        "import sys, cp2.cli.main\nprint({'cp2.settings', 'cp2.plan', 'pydantic'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.strip() == "set()"


def test_files_stay_short():
    long = {str(f.relative_to(PACKAGE)): n for f in FILES if (n := _lines(f)) > 300}
    assert not long


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())
