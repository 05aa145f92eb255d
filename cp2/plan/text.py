"""Numbers with units, and text in columns."""

import math
import re
import unicodedata
from collections.abc import Callable, Container, Sequence

Style = Callable[[int, int, str], str]  # row, column, padded text -> what is printed


def columns(
    rows: Sequence[Sequence[str]], right: Container[int] = (), style: Style | None = None
) -> list[str]:
    """Rows of equal length as aligned lines; columns in `right` end flush.

    `style` may add to a text what takes no room (colours).
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = []
    for number, row in enumerate(rows):
        texts = [
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        texts[-1] = texts[-1].rstrip()
        if style:
            texts = [style(number, i, text) for i, text in enumerate(texts)]
        lines.append("  ".join(texts).rstrip())
    return lines


_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def hours(value: float) -> str:
    """Hours with about three digits: 0.02, 4.5, 1,234."""
    if value == 0:
        return "0"
    if value < 0.01:
        return "< 0.01"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(value: float) -> str:
    """Hours as a length of time: 5 min, 3.2 h, 64 days."""
    if value < 1:
        return f"{math.ceil(60 * value)} min"
    return f"{value:.1f} h" if value < 48 else f"{value / 24:.0f} days"


def size(count: float) -> str:
    """Bytes in units of powers of ten, two digits."""
    for unit, factor in _UNITS:
        if count >= factor:
            scaled = count / factor
            return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:.0f} {unit}"
    return f"{count:.0f} bytes"


def clock(seconds: float) -> str:
    """A duration: 42 s, 7:05 (minutes), 3:07:05 (hours), 2 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{second:02d}"
    hour, minute = divmod(minutes, 60)
    if hour < 48:
        return f"{hour}:{minute:02d}:{second:02d}"
    return f"{hour // 24} d {hour % 24} h"


_NUMBERS = re.compile(r"-?\d[\d.]*( -?\d[\d.]*)*")


def cell_text(text: str) -> str:
    """A cell of a CSV file; what a spreadsheet would take for a formula begins with a quote.

    It may skip spaces before the sign and knows the wide signs of East Asia, too.
    """
    plain = unicodedata.normalize("NFKC", text).lstrip(" \t\r\n\v\f\0\u200b\ufeff")
    formula = plain.startswith(("=", "+", "-", "@")) and not _NUMBERS.fullmatch(plain)
    return f"'{text}" if formula or text.startswith(("\t", "\r")) else text
