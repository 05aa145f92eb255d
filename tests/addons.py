"""Packages of other people, as pip leaves them: modules and a dist-info with entry points."""

from pathlib import Path


def write_addon(folder: Path, modules: dict[str, str], entries: str, name: str = "addon") -> None:
    """Put a package into a folder that is on sys.path.

    Args:
        modules: name -> code.
        entries: content of entry_points.txt.
    """
    (folder / name).mkdir(parents=True)
    for module, code in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entries)
