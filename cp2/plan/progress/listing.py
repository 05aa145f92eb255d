"""`cp2 status` as text and as JSON."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from cp2.plan.progress.status import STATES, CampaignStatus, CellStatus, RunStatus, State
from cp2.plan.text import clock, columns

_COLOURS = {"done": "32", "running": "36", "failed": "31", "missing": "2"}  # ANSI: SGR codes
_ACTIVE: tuple[State, ...] = ("running", "failed")
Paint = Callable[[str, str], str]  # text and state -> text


def status_listing(status: CampaignStatus, width: int, colours: bool = False) -> str:
    """The whole status as text.

    Args:
        width: characters a line; a matrix that is wider is printed as one line a cell.
        colours: mark states by colour, too; every state is also a word.
    """
    paint: Paint = _painted if colours else _plain
    lines: list[str] = []
    for name, cells in status.tables.items():
        lines += [name, *_table(cells, width, paint), ""]
    lines += _running(status, paint)
    lines += _failed(status, paint)
    lines += _warnings(status)
    lines += _missing(status)
    return "\n".join([*lines, *_totals(status)])


def cell_text(cell: CellStatus) -> str:
    """A cell in words: "done", "running 40 %", "2/3 done, 1 running 40 %", "missing"."""
    if cell.missing:
        return "missing"
    total, done = cell.runs.total(), cell.runs["done"]
    if not total:
        return "imported"
    if done == total:
        return "done" if total == 1 else f"{done}/{total} done"
    active = [word for word in _ACTIVE if cell.runs[word]]
    if not active and not done:
        return "waiting"
    one = total == 1
    words = [] if one else [f"{done}/{total} done"]
    for word in active:
        share = f" {_share(cell)}" if word == "running" else ""
        words.append(f"{word}{share}" if one else f"{cell.runs[word]} {word}{share}")
    return ", ".join(words)


def _share(cell: CellStatus) -> str:
    """How far the furthest of the runs is that are worked on; without steps, its stage."""
    shares = [run.share for run in cell.working if run.share is not None]
    if shares:
        return f"{100 * max(shares):.0f} %"
    return cell.working[0].key.split("/")[0]


def _table(cells: tuple[CellStatus, ...], width: int, paint: Paint) -> list[str]:
    names = list(dict.fromkeys(cell.column for cell in cells))
    rows = [["", *names]]
    states: list[list[str]] = [[""] * (1 + len(names))]
    for start in range(0, len(cells), len(names)):
        row = cells[start : start + len(names)]
        rows.append([row[0].row, *(cell_text(cell) for cell in row)])
        states.append(["", *(cell.state for cell in row)])
    lines = columns(rows)
    if all(len(line) <= width for line in lines):
        return columns(rows, style=lambda row, column, text: paint(text, states[row][column]))
    listed: list[str] = []
    for texts, words in zip(rows[1:], states[1:], strict=True):
        listed.append(texts[0])
        listed += [
            f"  {name}: {paint(text, word)}"
            for name, text, word in zip(names, texts[1:], words[1:], strict=True)
        ]
    return listed


def _running(status: CampaignStatus, paint: Paint) -> list[str]:
    lines = []
    for run in _in_state(status, "running"):
        words = [word for word in _progress_words(run) if word]
        lines += [f"  {run.key}", f"    {', '.join(words)}"]
        lines += [f"    {run.warning}"] if run.warning else []
    return [paint("running", "running"), *lines, ""] if lines else []


def _progress_words(run: RunStatus) -> list[str | None]:
    if run.step is None:
        return ["no step logged yet", run.holder]
    share = "" if run.share is None else f" of {run.steps} ({100 * run.share:.0f} %)"
    return [
        f"step {run.step}{share}",
        None if run.rate is None else f"{run.rate:.4g} samples/s",
        None if run.eta is None else f"ETA {clock(run.eta)}",
        None if run.age is None else f"logged {clock(run.age)} ago",
        run.holder,
    ]


def _failed(status: CampaignStatus, paint: Paint) -> list[str]:
    lines = []
    for run in _in_state(status, "failed"):
        step = f" after step {run.step}" if run.step else ""
        lines += [f"  {run.key}{step}", f"    {_printable(run.error or '')}"]
        lines.append(f"    log: {run.log}" if run.log else "    no log was written")
    return [paint("failed", "failed"), *lines, ""] if lines else []


def _warnings(status: CampaignStatus) -> list[str]:
    """Of runs that nobody works on; running ones have theirs beside them."""
    lines = []
    for run in status.runs.values():
        if run.warning and run.state != "running":
            lines += [f"  {run.key}, {run.state}", f"    {run.warning}"]
    return ["warnings", *lines, ""] if lines else []


def _missing(status: CampaignStatus) -> list[str]:
    """Each reason once, with the rows that have it."""
    rows: dict[str, dict[str, list[str]]] = {}
    for name, cells in status.tables.items():
        for cell in cells:
            if cell.missing:
                found = rows.setdefault(cell.missing, {}).setdefault(name, [])
                found += [cell.row] if cell.row not in found else []
    lines = []
    for reason, tables in rows.items():
        where = "; ".join(f"{name}: {', '.join(found)}" for name, found in tables.items())
        lines += [f"  {where}", f"    {reason}"]
    return ["missing", *lines, ""] if lines else []


def _totals(status: CampaignStatus) -> list[str]:
    runs = Counter(run.state for run in status.runs.values())
    cells = Counter(cell.state for cells in status.tables.values() for cell in cells)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.time))
    counted = [f"{runs[state]} {state}" for state in STATES]
    counted_cells = [f"{cells[state]} {state}" for state in (*STATES, "missing")]
    return [
        f"{len(status.runs)} runs: {', '.join(counted)}",
        f"{cells.total()} cells: {', '.join(counted_cells)}; {at}",
    ]


def _in_state(status: CampaignStatus, state: str) -> Iterable[RunStatus]:
    return (run for run in status.runs.values() if run.state == state)


def _painted(text: str, state: str) -> str:
    return f"\x1b[{_COLOURS[state]}m{text}\x1b[0m" if state in _COLOURS else text


def _plain(text: str, state: str) -> str:
    return text


def _printable(text: str) -> str:
    """Without control characters, which a message from a library may hold."""
    return "".join(character if character.isprintable() else " " for character in text)


def status_json(status: CampaignStatus) -> dict[str, Any]:
    """Plain values; times in seconds, None where something is not known."""
    counts = Counter(run.state for run in status.runs.values())
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.time)),
        "runs": {state: counts[state] for state in STATES},
        "tables": {
            name: [
                {
                    "row": cell.row,
                    "column": cell.column,
                    "state": cell.state,
                    "text": cell_text(cell),
                    "runs": {state: cell.runs[state] for state in STATES},
                    "missing": cell.missing,
                }
                for cell in cells
            ]
            for name, cells in status.tables.items()
        },
        "running": [_run(run) for run in status.runs.values() if run.state == "running"],
        "failed": [_run(run) for run in status.runs.values() if run.state == "failed"],
        "warnings": {run.key: run.warning for run in status.runs.values() if run.warning},
    }


def _run(run: RunStatus) -> dict[str, Any]:
    return {
        "run": run.key,
        "step": run.step,
        "steps": run.steps,
        "samples_per_second": run.rate,
        "eta_seconds": run.eta,
        "logged_seconds_ago": run.age,
        "holder": run.holder,
        "error": run.error,
        "log": str(run.log) if run.log else None,
    }
