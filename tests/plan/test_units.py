"""Numbers with units."""

import pytest

from cp2.plan.text import clock, columns, duration, hours, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.001, "< 0.01"), (0.01, "0.01"), (0.999, "1.00"), (1, "1.0"), (99.94, "99.9"),
     (100, "100"), (12345.6, "12,346")],
)  # fmt: skip
def test_hours(value, text):
    assert hours(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.001, "1 min"), (0.5, "30 min"), (1, "1.0 h"), (47.9, "47.9 h"), (48, "2 days")],
)
def test_duration(value, text):
    assert duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (9.94e6, "9.9 MB"), (1.5e11, "150 GB"),
     (2e12, "2.0 TB")],
)  # fmt: skip
def test_size(value, text):
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"),
     (3600, "1:00:00"), (172799, "47:59:59"), (172800, "2 d 0 h"), (1e6, "11 d 13 h")],
)  # fmt: skip
def test_clock(value, text):
    assert clock(value) == text


def test_columns_line_up_and_styles_take_no_room():
    rows = [["name", "n"], ["a", "100"]]
    assert columns(rows, right=(1,)) == ["name    n", "a     100"]
    assert columns(rows) == ["name  n", "a     100"]
    assert columns(rows, style=lambda row, column, text: f"<{text}>") == [
        "<name>  <n>",
        "<a   >  <100>",
    ]
    assert columns([]) == []
