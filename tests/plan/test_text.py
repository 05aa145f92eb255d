"""Cells of CSV files that a spreadsheet must not compute."""

import pytest

from cp2.plan.text import cell_text


@pytest.mark.parametrize("text", ["=1", " =1+1", "\n=1", "＝1", "-1-1", "+1", "@A1", "\t=1", "-a"])
def test_a_formula_is_made_text(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "-1.5", "1.0 -2.0", "—", "41.2 ± 0.3", "sky"])
def test_what_is_none_stays(text: str) -> None:
    assert cell_text(text) == text
