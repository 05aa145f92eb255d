"""Reading a throughput table and finding the row for a kind of work."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cp2.costs.work import Kind, Work
from cp2.errors import UserError
from cp2.settings.messages import nearest, validated
from cp2.settings.throughput import FlopRate, ThroughputRow, ThroughputTable
from cp2.settings.yaml_files import parse_yaml

SHIPPED = "throughput/published.yaml"  # below configs/


@dataclass(frozen=True)
class Throughput:
    """A table's rows for one device.

    Attributes:
        memory_gb: of the device, 10^9 bytes; None: the table does not say.
        rates: what work without a row is estimated by, where no measured row says its FLOP.
        others: further devices that the table knows.
    """

    path: Path
    note: str
    device: str
    rows: tuple[ThroughputRow, ...]
    others: tuple[str, ...]
    rates: tuple[FlopRate, ...] = ()
    memory_gb: float | None = None

    @property
    def unit(self) -> str:
        return "hours" if self._is_cpu else "GPU-hours"

    @property
    def _is_cpu(self) -> bool:
        return self.device.lower().startswith("cpu")

    def row(self, work: Work) -> ThroughputRow | None:
        """The row of this kind of work, that with the nearest batch size where there are several;
        else an estimate by its FLOP. A nearby crop or another head is no substitute.

        None where there is no row and no rate for the precision.
        """
        rows = [row for row in self.rows if kind_of(row) == work.kind]
        if not rows:
            return self._estimate(work)
        return min(rows, key=lambda row: _distance(row, work))

    def rate(self, work: Work) -> FlopRate | None:
        """What work without a row is estimated by: the FLOP a second of the measured row of its
        stage and precision that is nearest (same backbone, FLOP of a sample), else the table's.

        None of a CPU's rows: small networks there do not go by FLOP.
        """
        kind = work.kind
        measured = [
            (row, row.gflop)
            for row in self.rows
            if row.gflop and row.certainty == "measured" and not self._is_cpu
            if (row.stage, row.amp) == (kind.stage, kind.amp)
        ]
        if not measured:
            return next((rate for rate in self.rates if kind.amp in rate.amp), None)

        def distance(one: tuple[ThroughputRow, float]) -> tuple[bool, float]:
            apart = abs(math.log(one[1] / work.gflop))
            return one[0].backbone != kind.backbone, apart

        row, gflop = min(measured, key=distance)
        return FlopRate(
            device=row.device,
            amp=(row.amp,),
            gflops=row.samples_per_second * gflop,
            source=f"{row.source}: {row.samples_per_second:.4g} x {gflop:.1f}",
        )

    def _estimate(self, work: Work) -> ThroughputRow | None:
        rate = self.rate(work)
        if rate is None:
            return None
        kind = work.kind
        return ThroughputRow.model_validate(
            asdict(kind)
            | {
                "batch_size": work.batch_size,
                "device": rate.device,
                "samples_per_second": rate.gflops / work.gflop,
                "certainty": "estimated",
                "source": f"{rate.source} / {work.gflop:.1f} GFLOP",
            }
        )


def read_throughput(path: Path, works: Iterable[Work], device: str | None = None) -> Throughput:
    """Rows of a YAML or JSON file: a list of rows, or that list under the key `throughput`.

    `cp2 bench --json FILE` writes such files. Without `device`, the one that has rows for
    the most kinds of the works, then the one that can be put to most; the first in the file among
    equals.

    Raises:
        UserError: the file cannot be read, a row is wrong, or it has no such device.
    """
    table = read_table(path)
    named = [row.device for row in table.throughput] + [rate.device for rate in table.flop_rates]
    devices = list(dict.fromkeys(named))
    if device is not None and device not in devices:
        raise UserError(
            f"--device {device!r}: {path} has no row for it; {nearest(device, devices)}"
        )
    kinds = {work.kind: work for work in works}

    def of(name: str) -> Throughput:
        return Throughput(
            path,
            table.note,
            name,
            tuple(row for row in table.throughput if row.device == name),
            tuple(other for other in devices if other != name),
            tuple(rate for rate in table.flop_rates if rate.device == name),
            table.memory_gb.get(name),
        )

    def known(name: str) -> tuple[int, int]:
        there = of(name)
        rows = {kind_of(row) for row in there.rows}
        estimated = [work for work in kinds.values() if there.row(work) is not None]
        return len(rows & kinds.keys()), len(estimated)

    return of(device or max(devices, key=known))


def read_table(path: Path) -> ThroughputTable:
    """A throughput table's content; further keys of the file are passed over.

    Raises:
        UserError: the file cannot be read, or a row is wrong.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"throughput table {path}: cannot be read: {reason}") from None
    if isinstance(tree, dict):
        tree = {key: tree[key] for key in ThroughputTable.model_fields if key in tree}
    else:
        tree = {"throughput": tree}
    table: ThroughputTable = validated(ThroughputTable, tree, f"{path}: ")
    return table


def kind_of(row: ThroughputRow) -> Kind:
    """The kind of work that a row is of."""
    crop = row.crop_size
    content = {field.name: getattr(row, field.name) for field in fields(Kind)}
    return Kind(**content | {"crop_size": (crop, crop) if isinstance(crop, int) else crop})


def _distance(row: ThroughputRow, work: Work) -> float:
    return abs(math.log(row.batch_size / work.batch_size)) if row.batch_size else math.inf
