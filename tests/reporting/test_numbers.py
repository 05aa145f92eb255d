"""How numbers are cut for alignment, and which class a gap is in."""

import pytest
from fake_runs import make_cell

from cp2.reporting.page_tables import Aligned, aligned, gap_of


@pytest.mark.parametrize(
    ("text", "head", "rest"),
    [
        ("75.6 ± 0.3 (2)", "75", ".6 ± 0.3 (2)"),
        ("75.40", "75", ".40"),
        ("−1.7", "−1", ".7"),
        ("75", "75", ""),
        ("not done: 0 of 2 runs. x", "not done: 0 of 2 runs. x", ""),
        ("—", "—", ""),
        ("", "", ""),
    ],
)
def test_numbers_are_cut_at_the_decimal_point(text: str, head: str, rest: str) -> None:
    assert aligned(text) == Aligned(head, rest)


@pytest.mark.parametrize(
    ("gap", "spread", "mark", "kind"),
    [
        (0.4, None, "≈", "near"),  # 0.2 points where nothing is published
        (-0.4, 0.2, "≈", "near"),
        (0.41, 0.2, "▲", "above"),
        (-1.0, 0.2, "▼", "below"),
        (-1.01, 0.2, "▼▼", "far-below"),
        (1.01, 0.5, "▲", "above"),
        (1.01, 0.1, "▲▲", "far-above"),
        (0.1, 0.0, "≈", "near"),
    ],
)
def test_gaps_are_judged_by_the_published_spread(
    gap: float, spread: float | None, mark: str, kind: str
) -> None:
    found = gap_of(make_cell(mean=70 + gap, published=70.0, published_spread=spread, gap=gap))
    assert found is not None
    assert (found.mark, found.kind) == (mark, kind)


def test_without_a_gap_there_is_no_class() -> None:
    assert gap_of(make_cell(published=70.0)) is None
