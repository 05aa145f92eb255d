"""Files of methods and campaigns, which may change a few things of another one, their base."""

import os.path
from pathlib import Path
from typing import Any

from cp2.errors import UserError
from cp2.settings.base import expanded
from cp2.settings.messages import nearest
from cp2.settings.yaml_files import Key, merge, read_mapping

_NO_CAMPAIGNS = ("checkpoints",)  # files of configs/ that are none


def named_file(name: str, folder: Path) -> Path:
    """The file of a campaign or a site that is given by its name, or by its path.

    Raises:
        UserError: the path has a `~` or `$NAME` that nobody knows.
    """
    if not name.endswith((".yaml", ".yml")):
        return folder / f"{name}.yaml"
    try:
        return Path(expanded(name))
    except ValueError as error:
        raise UserError(str(error)) from None


def is_there(file: Path) -> bool:
    """Whether there is such a file; one whose name is longer than names can be is not."""
    return os.path.isfile(file)  # noqa: PTH113 - Path.is_file raises for such names


def check_project(configs: Path) -> None:
    """Refuse a folder without configurations.

    Raises:
        UserError: it has none.
    """
    if not configs.is_dir():
        raise UserError(
            f"{configs}/ is not here; change to the project's folder (`cp2 init` makes one)"
        )


def read_campaign(
    campaign: str, configs: Path, origins: dict[Key, str], asked: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A campaign's keys, laid over those of the campaign that it names as its `base`.

    Args:
        origins: gets the file of every key that a `base` has and the campaign changes or adds.
        asked: the campaigns that led here.
    Raises:
        UserError: no such campaign, or campaigns that are each other's base.
    """
    file = named_file(campaign, configs)
    if not is_there(file):
        check_project(configs)
        known = [p.stem for p in configs.glob("*.yaml") if p.stem not in _NO_CAMPAIGNS]
        by = f" (base of {asked[-1]})" if asked else ""
        raise UserError(f"campaign {campaign!r}{by}: no file {file}; {nearest(campaign, known)}")
    tree = read_mapping(file)
    tree.setdefault("name", file.stem)
    base = tree.get("base")
    if base is None:
        return tree
    if not isinstance(base, str):
        raise UserError(f"{file}: base: must be the name of a campaign, found {base!r}")
    if base in (campaign, *asked):
        raise UserError(f"{file}: base: {base!r} has this campaign as its own base")
    below = read_campaign(base, configs, origins, (*asked, campaign))
    return merge(below, tree, origins, str(file), ("campaign",))


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
    if not is_there(below):
        known = [path.stem for path in file.parent.glob("*.yaml")]
        raise UserError(f"{file}: base: no method {base!r}; {nearest(base, known)}")
    inherited, _ = read_method(below, (*asked, file.stem))
    return merge(inherited, tree, {}, "", ("methods", file.stem)), f"{file} (base: {base})"
