"""Files of methods, and methods that change a few things of another one."""

from pathlib import Path
from typing import Any

from cp2.errors import UserError
from cp2.settings.messages import nearest
from cp2.settings.yaml_files import merge, read_mapping


def read_method(file: Path, asked: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """A method's keys, laid over those of the method that its file names as its `base`.

    What a campaign or `--set` changes of the base is not handed down.

    Args:
        asked: the methods that led here.
    Returns:
        The keys, and the files that they are from, for error texts.
    Raises:
        UserError: no such method, or methods that are each other's base.
    """
    tree = read_mapping(file)
    base = tree.pop("base", None)
    if base is None:
        return tree, str(file)
    if not isinstance(base, str):
        raise UserError(f"{file}: base: must be the name of a method, found {base!r}")
    if base in (file.stem, *asked):
        raise UserError(f"{file}: base: {base!r} has this method as its own base")
    below = file.with_name(f"{base}.yaml")
    if not below.is_file():
        known = [path.stem for path in file.parent.glob("*.yaml")]
        raise UserError(f"{file}: base: no method {base!r}; {nearest(base, known)}")
    inherited, _ = read_method(below, (*asked, file.stem))
    return merge(inherited, tree, {}, "", ("methods", file.stem)), f"{file} (base: {base})"
