"""Where kinds are: in files of their names, or in other packages.

Those are found by entry points of cp2.methods, cp2.protocols and cp2.datasets.

An entry is called as the kind. Of a method and a protocol it is the settings class, of a data set
the preparer. Entry points are looked for where a kind is not one of ours: that takes a tenth of a
second.
"""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from cp2.errors import UserError, said


def module_of(package: str, kind: str, given: str) -> Any:
    """The module of a kind: the one that its class names, else `<package>/<kind>.py`."""
    return import_module(given or f"{package}.{kind.replace('-', '_')}")


def joined(group: str, kind: Any) -> Any:
    """What an installed package offers as a kind; None where none does.

    Raises:
        UserError: two do, or it cannot be imported.
    """
    found = entry_points(group=group, name=kind) if isinstance(kind, str) else ()
    owners = {entry.value: entry.dist.name if entry.dist else "?" for entry in found}
    if len(owners) > 1:
        raise UserError(
            f"kind {kind!r} is offered by {len(owners)} packages ({', '.join(owners.values())}) in "
            f"the group {group}; uninstall all but one"
        )
    for entry in found:
        try:
            return entry.load()
        except Exception as error:
            raise UserError(
                f"kind {kind!r} is {entry.value} of package {owners[entry.value]}, which cannot be "
                f"imported: {said(error)}"
            ) from error
    return None
