"""Many metric points into MLflow's SQLite file at once.

MLflow takes 0.2 ms a point, for it builds an object of each; 300 runs of 1,000 lines would take ten
minutes. Only points that are not the latest of their metric come here; MLflow gets those itself, so
that its table of latest values stays its own business.

The table's key begins with metric and time, so that the points of one run lie on pages all over it.
One transaction for many runs, in the order of the key, writes each page once.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cp2.tracking.content import Point

_COLUMNS = ("key", "timestamp", "step", "run_uuid", "value", "is_nan")
_INSERT = f"INSERT OR IGNORE INTO metrics ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, 0)"
_Row = tuple[str, int, int, str, float]
_WAIT = 60.0  # seconds for another writer
_CACHE = 256 * 1024  # KiB


def insert_points(database: Path, points: Mapping[str, list[Point]]) -> dict[str, list[Point]]:
    """Insert points by run; returns those that are left for MLflow: the last of each metric.

    Where the table is not as this file knows it, nothing is inserted and all are returned. Points
    that are there already are passed over.
    """
    left = {run_id: _latest(some) for run_id, some in points.items()}
    with closing(sqlite3.connect(database, timeout=_WAIT)) as connection:
        columns = connection.execute("SELECT name FROM pragma_table_info('metrics')").fetchall()
        if {name for (name,) in columns} != set(_COLUMNS):
            return dict(points)
        connection.execute(f"PRAGMA cache_size = -{_CACHE}")
        with connection:
            connection.executemany(_INSERT, _rows(points, left))
    return {run_id: [points[run_id][n] for n in sorted(some)] for run_id, some in left.items()}


def _rows(points: Mapping[str, list[Point]], left: Mapping[str, set[int]]) -> Iterator[_Row]:
    """Rows in the order of the table's key, without those places that are left."""
    by_name: dict[str, list[_Row]] = {}
    for run_id, some in points.items():
        stays = left[run_id]
        for number, (name, value, step, time) in enumerate(some):
            if number not in stays:
                rows = by_name.get(name)
                if rows is None:
                    rows = by_name[name] = []
                rows.append((name, round(time * 1000), step, run_id, value))
    for name in sorted(by_name):
        yield from sorted(by_name.pop(name))


def _latest(points: list[Point]) -> set[int]:
    """Places of the last point of each metric."""
    return set({point.name: number for number, point in enumerate(points)}.values())


def commit_without_waiting(database: Path) -> None:
    """For a database that this process is about to make: the disk need not follow each commit.

    MLflow commits several times a run, each of which would wait for the disk. A power cut may cost
    the new database, which can be made again; the end of the process costs nothing.
    """

    from sqlalchemy import event  # takes half a second
    from sqlalchemy.engine import Engine

    def connected(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            ((_, _, path),) = connection.execute("PRAGMA database_list").fetchall()
            if path and Path(path).resolve() == database.resolve():
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)
