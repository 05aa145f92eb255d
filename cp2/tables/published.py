"""The papers' numbers: reports/published/<table>.csv, one line a cell."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from cp2.errors import WrongFile

PUBLISHED = Path("reports/published")
PUBLISHED_STD = 0.2  # of one run, in points: assumed where a paper prints no deviation
NUMBERS = (
    *("published", "published_std", "published_spread", "published_error", "published_count"),
    "printed",
)
_KEY = ["published_table", "row", "column"]
_COLUMNS = ("row", "column", "value", "std", "unit")


def read_published(folder: Path, stems: Collection[str]) -> pd.DataFrame:
    """Published numbers by (table, row, column); "-" in the paper is left out.

    Columns, all in the table's unit:
        published: the number.
        published_std: as printed; NaN where the paper prints none.
        published_spread: standard deviation of one run: as printed, else the largest that the paper
            prints for a number of that column, in any table (CP²: its appendix's over trials).
        published_error: standard error of the number; where its runs are not known, that of one.
        published_count: runs that a printed deviation is over; NaN where that is not known.
        printed: all of it as text, "75.40 ± 0.2 (5)"; the decimals are the paper's.

    Args:
        stems: names of the files to read, without .csv.
    Raises:
        WrongFile: a file is not there, lacks a column, or holds something that is no number.
    """
    papers = {stem.partition("_")[0] for stem in stems}
    paths = [path for paper in sorted(papers) for path in sorted(folder.glob(f"{paper}_*.csv"))]
    for stem in stems:
        if folder / f"{stem}.csv" not in paths:
            raise WrongFile(
                f"{folder / stem}.csv: published numbers are not there; put the file back or set "
                "the table's `published` to null in configs/tables/"
            )
    numbers = pd.concat([_read(path, path.stem in stems) for path in paths] or [_empty()])
    paper = numbers["published_table"].str.split("_").str[0]
    usual = numbers.groupby([paper, "column"])["published_std"].transform("max")
    numbers["published_spread"] = numbers["published_std"].fillna(usual)
    error = numbers["published_std"] / numbers["count"] ** 0.5
    numbers["published_error"] = error.fillna(numbers["published_spread"])
    wanted = numbers["published_table"].isin(list(stems)) & numbers["published"].notna()
    numbers["published_count"] = numbers["count"].where(numbers["published_std"].notna())
    return numbers[wanted].set_index(_KEY).drop(columns="count")


def _read(path: Path, wanted: bool) -> pd.DataFrame:
    """One file; of those that are not wanted only what can be read of their deviations counts."""
    try:
        lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        if wanted:
            raise WrongFile(f"{path}: is no readable CSV: {error}") from None
        return _empty()
    lacking = [name for name in _COLUMNS if name not in lines]
    if lacking and wanted:
        raise WrongFile(f"{path}: has no column {lacking[0]!r}; needed: {', '.join(_COLUMNS)}")
    if lacking:
        return _empty()
    count = lines.get("trials", lines.get("runs", pd.Series("", lines.index)))
    numbers = pd.DataFrame(
        {
            "published_table": path.stem,
            "row": lines["row"],
            "column": lines["column"],
            "published": pd.to_numeric(lines["value"], errors="coerce"),
            "published_std": pd.to_numeric(lines["std"], errors="coerce"),
            "count": pd.to_numeric(count, errors="coerce"),
            "printed": lines["value"]
            + (" ± " + lines["std"]).where(lines["std"] != "", "")
            + (" (" + count + ")").where(count != "", ""),
        }
    )
    wrong = numbers.index[numbers["published"].isna() & (lines["value"] != "")]
    if wanted and len(wrong):
        value = lines["value"][wrong[0]]
        raise WrongFile(f"{path}, line {wrong[0] + 2}: value {value!r} is not a number")
    return numbers


def _empty() -> pd.DataFrame:
    columns = [*_KEY, "published", "published_std", "count", "printed"]
    return pd.DataFrame(columns=columns).astype(dict.fromkeys(columns[3:6], float))
