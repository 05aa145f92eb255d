"""From configs/*.yaml and the command line to one checked `Configuration`.

Order of precedence, lowest first: the named files in configs/<section>/, the campaign's
`overrides`, `--set section.name.key=value` from the command line.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cp2.errors import UserError
from cp2.settings.based_files import is_there, named_file, read_campaign, read_method
from cp2.settings.campaign import CampaignSettings
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.datasets import ClassList, DatasetSettings
from cp2.settings.grids import write_out_grids
from cp2.settings.joined import joined
from cp2.settings.messages import has_kind, nearest, validated
from cp2.settings.methods import MethodSettings
from cp2.settings.metrics import ProtocolSettings
from cp2.settings.models import BackboneSettings, HeadSettings
from cp2.settings.protocols import AnyProtocol
from cp2.settings.tables import TableSettings
from cp2.settings.yaml_files import Key, assignment, kind_of, merge, read_mapping

SECTIONS: dict[str, Any] = {
    "datasets": DatasetSettings,
    "backbones": BackboneSettings,
    "heads": HeadSettings,
    "methods": MethodSettings,
    "protocols": AnyProtocol,
    "tables": TableSettings,
    "checkpoints": CheckpointSettings,
    "classes": ClassList,
}
_JOINED = {"methods": PretrainingSettings, "protocols": ProtocolSettings}
_FOLDERS = {"backbones": "models/backbones", "heads": "models/heads"}


@dataclass
class Configuration:
    """A campaign and everything configurable that it may refer to, read on demand and checked."""

    campaign: CampaignSettings
    configs: Path
    assignments: tuple[str, ...]
    overrides: dict[str, Any]
    origins: dict[Key, str]
    source: str  # the campaign as given: a name or a path
    _read: dict[tuple[str, str], Any] = field(default_factory=dict)

    def dataset(self, name: str) -> DatasetSettings:
        return self._named("datasets", name)

    def backbone(self, name: str) -> BackboneSettings:
        return self._named("backbones", name)

    def head(self, name: str) -> HeadSettings:
        return self._named("heads", name)

    def protocol(self, name: str) -> ProtocolSettings:
        return self._named("protocols", name)

    def table(self, name: str) -> TableSettings:
        return self._named("tables", name)

    def checkpoint(self, name: str) -> CheckpointSettings:
        return self._named("checkpoints", name)

    def classes(self, name: str) -> ClassList:
        return self._named("classes", name)

    def method(self, name: str, changes: dict[str, Any] | None = None) -> PretrainingSettings:
        """A method, with the changes that one table row makes to it."""
        if not changes:
            return self._named("methods", name)
        key = ("methods", f"{name} {json.dumps(changes, sort_keys=True)}")
        if key not in self._read:
            self._read[key] = self._check("methods", name, changes)
        return self._read[key]

    def used(self, name: str) -> str:
        """The name that stands in for `name` at this campaign's scale."""
        return self.campaign.substitute.get(name, name)

    def names(self, section: str) -> list[str]:
        """What a section holds, with the data sets that the campaign itself defines."""
        if section == "checkpoints":
            return sorted(read_mapping(self.configs / "checkpoints.yaml"))
        folder = self.configs / _FOLDERS.get(section, section)
        defined = self.overrides.get(section, {}) if section == "datasets" else {}
        own = {name for name, keys in defined.items() if "kind" in keys}
        return sorted(own | {path.stem for path in folder.glob("*.yaml")})

    def check_overrides(self) -> None:
        """Read all that is overridden, used or not: a misspelt override would be silent.

        Raises:
            UserError: an override of something that does not exist, or a wrong value.
        """
        for section, names in self.overrides.items():
            for name in names:
                self._named(section, name)

    def inherited_selection(self, table: str) -> bool:
        """Whether `select.<table>` was written for other tables than this campaign's own list."""
        tables = self.origins.get(("campaign", "tables"))
        (selected, *_) = [*_below(("campaign", "select", table), self.origins), ""]
        return tables not in (None, selected) and not selected.startswith("--set")

    @property
    def results(self) -> Path:
        return Path(self.campaign.execution.results)

    @property
    def reports(self) -> Path:
        return Path(self.campaign.execution.reports) / self.campaign.name

    @property
    def world_folder(self) -> Path:
        """Where the demo world's files are; {world} in URLs is this."""
        return self.results / "world"

    def _named(self, section: str, name: str) -> Any:
        key = (section, name)
        if key not in self._read:
            self._read[key] = self._check(section, name, None)
        return self._read[key]

    def _check(self, section: str, name: str, changes: dict[str, Any] | None) -> Any:
        overrides = self.overrides.get(section, {}).get(name, {})
        tree, file = self._tree(section, name, overrides)
        origins = dict(self.origins)
        tree = merge(tree, overrides, {}, "", (section, name))
        if changes:
            changed = f"{file} as changed by a table row"
            tree = merge(tree, changes, origins, changed, (section, name))
        tree = _replace_world(tree, self.world_folder)
        tree["name"] = name
        if section == "tables":
            tree = write_out_grids(tree, str(file))

        def origin(key: Key) -> str:
            return _origin((section, name), key, origins, file)

        return validated(_model(section, tree.get("kind")), tree, origin)

    def _tree(
        self, section: str, name: str, overrides: dict[str, Any]
    ) -> tuple[dict[str, Any], Path | str]:
        """What the files say, and where."""
        if section == "checkpoints":  # many small entries: one file
            file = self.configs / "checkpoints.yaml"
            every = read_mapping(file)
            if name not in every:
                raise UserError(
                    f"{file}: no checkpoint {name!r} ({self._asker(section, name)}); "
                    f"{nearest(name, every)}"
                )
            return _mapping(every, name, file), file
        folder = self.configs / _FOLDERS.get(section, section)
        file = folder / f"{name}.yaml"
        if not is_there(file):
            if section == "datasets" and "kind" in overrides:  # defined by the campaign
                return {}, named_file(self.source, self.configs)
            known = self.names(section)
            kind = section.removesuffix("es" if section == "classes" else "s")
            raise UserError(
                f"{folder}: no {kind} {name!r} ({self._asker(section, name)}); "
                f"{nearest(name, known)}"
            )
        return read_method(file) if section == "methods" else (read_mapping(file), file)

    def _asker(self, section: str, name: str) -> str:
        overrides = _below((section, name), self.origins)
        campaign = named_file(self.source, self.configs)
        return "from " + (", ".join(overrides) or f"{campaign} or one of its tables")


def load_campaign(
    campaign: str, assignments: Sequence[str] = (), configs: Path = Path("configs")
) -> Configuration:
    """Read a campaign by name (configs/<name>.yaml) or by path.

    Args:
        campaign: "demo", or a path to a YAML file.
        assignments: "section.name.key=value" or "campaign.key=value", the last one wins.
        configs: folder of the named settings.
    Raises:
        UserError: with file, key, value, what is allowed and the nearest name.
    """
    file = named_file(campaign, configs)
    origins: dict[Key, str] = {}
    tree = read_campaign(campaign, configs, origins)
    given = _mapping(tree, "overrides", file)
    _check_shape(given, f"{file}: overrides.")
    where = f"{file} or its base {tree['base']}" if "base" in tree else str(file)
    overrides = merge({}, given, origins, f"{where} (overrides)")
    assigned: dict[str, Any] = {}
    for text in assignments:
        ((section, value),) = assignment(text).items()
        if section == "campaign":
            if not isinstance(value, dict) or "overrides" in value:
                raise UserError(
                    f"--set {text!r}: write campaign.key=value, or section.name.key=value for an "
                    "override"
                )
            tree = merge(tree, value, origins, f"--set {text}", ("campaign",))
        elif section in SECTIONS:
            _check_shape({section: value}, f"--set {text!r}: ")
            assigned = merge(assigned, {section: value}, origins, f"--set {text}", kinds=False)
        else:
            raise UserError(
                f"--set {text!r}: no section {section!r}; "
                f"{nearest(section, [*SECTIONS, 'campaign'])}"
            )

    overrides = merge(overrides, assigned, {}, "")

    def origin(key: Key) -> str:
        return _origin(("campaign",), key, origins, file)

    settings: CampaignSettings = validated(CampaignSettings, tree, origin)
    configuration = Configuration(
        settings, configs, tuple(assignments), overrides, origins, campaign
    )
    configuration.check_overrides()
    return configuration


def _model(section: str, kind: Any) -> Any:
    """The class of some settings; one of another package where the kind is not ours."""
    ours = SECTIONS[section]
    if section not in _JOINED or has_kind(ours, kind):
        return ours
    found, base = joined(f"cp2.{section}", kind), _JOINED[section]
    if found and not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(
            f"kind {kind!r} of the group cp2.{section} is {found!r}; it must be a class that "
            f"derives from {base.__module__}.{base.__name__}"
        )
    return found or ours


def _check_shape(overrides: dict[str, Any], where: str) -> None:
    """Overrides are section -> name -> key -> value."""
    for section, names in overrides.items():
        if section not in SECTIONS:
            raise UserError(f"{where}{section}: unknown; {nearest(section, SECTIONS)}")
        for key, value in [(section, names), *_items(section, names)]:
            if not isinstance(value, dict):
                raise UserError(
                    f"{where}{key}: must be keys and values, found {kind_of(value)}; "
                    "the order is section, name, key, value"
                )


def _items(section: str, names: Any) -> list[tuple[str, Any]]:
    return [(f"{section}.{k}", v) for k, v in names.items()] if isinstance(names, dict) else []


def _origin(top: Key, key: Key, origins: dict[Key, str], file: Path | str) -> str:
    """Where a key got its value, as the beginning of a line of an error text."""
    full = (*top, *key)
    for end in range(len(full), len(top), -1):  # the key itself, or the list that holds it
        if full[:end] in origins:
            return f"{origins[full[:end]]}: {'.'.join(top)}."
    changed = _below(full, origins) or (_below(full[:-1], origins) if len(key) > 1 else [])
    return f"{file}{' with ' + ', '.join(changed) if changed else ''}: "


def _below(key: Key, origins: dict[Key, str]) -> list[str]:
    """Who set anything below this key."""
    return list(dict.fromkeys(w for place, w in origins.items() if place[: len(key)] == key))


def _mapping(tree: dict[str, Any], key: str, file: Path) -> dict[str, Any]:
    value = tree.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{file}: {key}: must be keys and values, found {kind_of(value)}")
    return value


def _replace_world(tree: Any, folder: Path) -> Any:
    if isinstance(tree, dict):
        return {k: _replace_world(v, folder) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_replace_world(v, folder) for v in tree]
    if isinstance(tree, str) and "{world}" in tree:
        return tree.replace("{world}", quote(str(folder.resolve())))  # it stands in URLs
    return tree
