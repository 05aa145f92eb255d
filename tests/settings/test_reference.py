"""`cp2 schema` and the page that it writes."""

from pathlib import Path

import pytest

from cp2.cli import looks
from cp2.errors import UserError
from cp2.settings.methods import Cp2Settings
from cp2.settings.reference import PARTS, reference

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_command_prints() -> None:
    """Write it again by `cp2 schema > docs/settings.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference(list(PARTS))


def test_a_section_has_every_key_with_what_it_takes() -> None:
    text = reference(["methods"])
    part = text.partition("## Cp2Settings\n")[2].partition("\n## ")[0]
    assert {line.split("`")[1] for line in part.splitlines() if line.startswith("| `")} == set(
        Cp2Settings.model_fields
    ) - {"name"}
    assert "| `momentum` | number ≥ 0 and ≤ 1 | `0.999` |" in part
    assert "| `kind` | `cp2` |  |" in part
    assert "[FullMaskSettings](#fullmasksettings)" in part
    assert "## FullMaskSettings" in text


def test_a_section_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="cp2 schema method: no such section; did you mean 'met"):
        looks.schema(section="method")
