"""`cp2 doctor --gpu`: every kind of work, a few steps each, on the GPU beside the CPU."""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cp2.cluster.doctor import Check, driver_version, torch_check
from cp2.costs.measure import measure
from cp2.models.devices import ON_CPU
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.plan.planned import VARIABLE, write_planned
from cp2.record.files import read_json
from cp2.record.folder import RunFolder
from cp2.record.metrics import read_metrics
from cp2.settings.load import load_campaign
from cp2.stages import ON_DEVICE
from cp2.training.clock import RESUME_EXIT_CODE

CAMPAIGN = "gpu_check"
LOG = "log"
EXPECTED = "expected"  # folder of CP2's numbers on the CPU
LIMIT = 120.0  # seconds that a few steps may take
NO_END = f"no end after {LIMIT:.0f} s"
# Shares by which a loss may differ: of the first step TF32's roundings (10 bits), of later ones
# what they have grown to; of a score what a few images decide.
FIRST, LATER, SCORE = 0.01, 0.1, 0.05
GROWTH = 0.01  # of the memory of tensors, from an early to a late epoch

# CP², otherwise computed; the bands are those of float32, times so many.
VARIANTS = {
    "bf16": ("methods.cp2.amp=bf16", 3),
    "fp16": ("methods.cp2.amp=fp16", 3),
    "JPEG files decoded on the device": ("methods.cp2.reading.decoder=device", 3),
}
COMPILED = "torch.compile", ("methods.cp2.compile=true", 1)
LONG = "campaign.epochs={200: 10, 20: 1}"
PAPER = (
    "campaign.tables=[cp2_deeplabv3]",
    "campaign.select={cp2_deeplabv3: {rows: [CP2 200], columns: [voc2012 mIoU]}}",
)
STEPS = 20
RANKS = 2  # of 256 by which attention may differ


def gpu_checks() -> Iterator[Check]:
    """One line a check and its seconds; on a machine without a GPU the CPU's part of them."""
    before = time.monotonic()
    for check in _all_checks(torch.cuda.is_available()):
        now = time.monotonic()
        yield replace(check, text=f"{check.text}; {now - before:.0f} s")
        before = now


def _all_checks(gpu: bool) -> Iterator[Check]:
    yield torch_check(expected=driver_version() is not None)
    if gpu:
        properties = torch.cuda.get_device_properties(0)
        memory = f"{properties.total_memory / 1e9:.0f} GB"
        yield Check(None, f"{torch.cuda.device_count()} x {properties.name}, {memory} each")
    else:
        yield Check(None, "no GPU: all of it runs on the CPU, whose numbers nothing is compared to")
    with tempfile.TemporaryDirectory(prefix="cp2-doctor-") as folder:
        cpu, device = _Worker(Path(folder) / "cpu", gpu=False), _Worker(Path(folder) / "gpu", gpu)
        try:
            yield from _checks(cpu, device if gpu else cpu)
            if gpu:
                yield from _throughput()
                yield _compiled(device)  # the last: it may take longest
            else:
                yield Check(None, f"{COMPILED[0]}: left out, it takes minutes on a CPU")
        finally:
            cpu.stop()
            device.stop()


class _Worker:
    """A process that makes runs, one after the other; a new one after a crash.

    Attributes:
        results: the results folder that it works in.
        log: what the last run printed.
    """

    def __init__(self, results: Path, gpu: bool) -> None:
        self.results = results
        self._gpu = gpu
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    @property
    def log(self) -> str:
        return (self.results / LOG).read_text(encoding="utf-8", errors="replace")

    def make(self, run: Run, plan: Plan, *options: str) -> str | None:
        """Make a run, anew if it is there; what went wrong, if anything."""
        shutil.rmtree(run.folder(self.results).path, ignore_errors=True)
        return self.go_on(run, plan, *options)

    def go_on(self, run: Run, plan: Plan, *options: str) -> str | None:
        """Make a run, or what is missing of it."""
        planned = self.results / "planned.json"
        write_planned(planned, plan)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, context, _start, (self._gpu,))
            self._pid = self._pool.submit(os.getpid).result()
        words = ("cp2", run.stage, run.id, "--campaign", CAMPAIGN, *options)
        words += ("--set", f"campaign.execution.results={self.results}")
        try:
            return self._pool.submit(_command, words, planned).result(LIMIT)
        except TimeoutError:
            os.kill(self._pid, signal.SIGKILL)
            problem = NO_END
        except BrokenProcessPool:
            problem = "its process died"
        self._pool = None
        return problem

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _start(gpu: bool) -> None:
    """Before the first run chooses its device."""
    os.environ.pop(ON_CPU, None)
    if not gpu:
        os.environ[ON_CPU] = "cpu"


def _command(words: Sequence[str], planned: Path) -> str | None:
    """A command of this project, in this process; its error, or the code that it left with."""
    from cp2.cli.main import app

    os.environ[VARIABLE] = str(planned)
    sys.argv = list(words)  # several processes are started by the same words
    with planned.with_name(LOG).open("w", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):  # child processes inherit these files
            os.dup2(log.fileno(), stream.fileno())
    try:
        code = app(sys.argv[1:], standalone_mode=False)
    except Exception as error:
        return f"{type(error).__name__}: {error}".split("\n", 1)[0]
    finally:
        sys.stdout.flush()
    return _left_with(code) if code else None


def _left_with(code: int) -> str:
    return f"it left with {code}"


def _checks(cpu: _Worker, device: _Worker) -> Iterator[Check]:
    """All runs on the CPU; then each on the device, from what the CPU made before it."""
    cpu.results.mkdir()
    plan = _plan()
    for run in plan.runs.values():
        if problem := cpu.make(run, plan):
            yield Check(False, f"{run.key} on the CPU: {problem}")
            return
    yield Check(True, f"{len(plan.runs)} runs on the CPU")
    if device is not cpu:
        shutil.copytree(cpu.results, device.results, symlinks=True)
        for run in plan.runs.values():
            if run.stage in ON_DEVICE:
                old, new = run.folder(cpu.results), run.folder(device.results)
                yield _compared(run.key, device.make(run, plan), old, new)
                shutil.rmtree(new.path, ignore_errors=True)
                shutil.copytree(old.path, new.path)
    expected = RunFolder(device.results / EXPECTED)
    shutil.copytree(_cp2(plan).folder(cpu.results).path, expected.path)
    for name, variant in VARIANTS.items():
        yield _variant(device, name, variant)
    run = _cp2(plan)
    problem = device.make(run, plan, "--max-minutes", "0")
    if problem == _left_with(RESUME_EXIT_CODE):
        problem = device.go_on(run, plan)
    yield _compared("stopped and resumed", problem, expected, run.folder(device.results))
    yield from _several_processes(device, run, plan, expected)
    yield _memory(device)


def _plan(*assignments: str) -> Plan:
    return build_plan(load_campaign(CAMPAIGN, assignments))


def _cp2(plan: Plan) -> Run:
    """The pretraining of CP² from random weights."""
    return next(run for run in plan.runs.values() if run.id.startswith("cp2-resnet"))


def _variant(device: _Worker, name: str, variant: tuple[str, float]) -> Check:
    assignment, band = variant
    plan = _plan(assignment)
    run = _cp2(plan)
    problem = device.make(run, plan)
    if "compile: true has no effect" in device.log:
        problem = "has no effect here"
    expected = RunFolder(device.results / EXPECTED)
    return _compared(name, problem, expected, run.folder(device.results), band)


def _compiled(device: _Worker) -> Check:
    """Slow compilers are no problem of the pipeline."""
    check = _variant(device, *COMPILED)
    return Check(None, check.text) if check.text.endswith(NO_END) else check


def _several_processes(
    device: _Worker, run: Run, plan: Plan, expected: RunFolder
) -> Iterator[Check]:
    """CP² shared by two or four processes: NCCL on GPUs, gloo on a CPU."""
    gpus = torch.cuda.device_count()
    if gpus == 1:
        yield Check(None, "one GPU: NCCL is not tried")
        return
    count = 4 if gpus >= 4 else 2
    problem = device.make(run, plan, "--processes", str(count))
    yield _compared(f"{count} processes", problem, expected, run.folder(device.results))


def _memory(device: _Worker) -> Check:
    """Whether ten epochs take more memory than two."""
    plan = _plan(LONG)
    run = _cp2(plan)
    if problem := device.make(run, plan):
        return Check(False, f"ten epochs: {problem}")
    lines = read_metrics(run.folder(device.results).metrics)
    key = "gpu_memory_gb" if "gpu_memory_gb" in lines[-1] else "host_memory_gb"
    early = max(line[key] for line in lines if line["epoch"] <= 2)
    growth = lines[-1][key] / early - 1
    flat = (
        growth <= GROWTH if key == "gpu_memory_gb" else None
    )  # pages of files count in the host's
    return Check(flat, f"ten epochs: {key} grows by {growth:.1%} after the second")


def _throughput() -> Iterator[Check]:
    """CP²'s pretraining at the paper's size, from synthetic files on, waits for data included."""
    configuration = load_campaign("paper", PAPER)
    lines: list[str] = []
    missing = measure(
        configuration, build_plan(configuration), None, ("pretrain",), STEPS, lines.append
    )[1]
    yield from (Check(None, line.strip()) for line in lines)
    yield from (Check(False, text) for text in missing)


def _compared(
    name: str, problem: str | None, expected: RunFolder, found: RunFolder, band: float = 1
) -> Check:
    """Whether a run's losses, scores or maps are near those of another folder."""
    if problem:
        return Check(False, f"{name}: {problem}")
    pairs = list(_pairs(expected, found))
    for text, by, allowed in pairs:
        if not by <= band * allowed:  # NaN, too
            return Check(False, f"{name}: {text} is {by:.2%} from the CPU's")
    most = max(by for _, by, _ in pairs)
    return Check(True, f"{name}: {len(pairs)} numbers, at most {most:.2%} from the CPU's")


def _pairs(expected: RunFolder, found: RunFolder) -> Iterator[tuple[str, float, float]]:
    """Name, relative difference and allowed difference of each number."""
    lines, others = read_metrics(expected.metrics), read_metrics(found.metrics)
    yield "number of steps", float(abs(len(lines) - len(others))), 0.0
    allowed = FIRST
    for a, b in zip(lines, others, strict=False):
        for name in (name for name in a if name.startswith("loss")):
            by = abs(a[name] - b[name]) / max(abs(a[name]), 1.0)
            yield f"{name} of step {a['step']}", by, allowed
        allowed = LATER
    if expected.scores.exists():
        scores = read_json(found.scores)["metrics"]
        for name, value in read_json(expected.scores)["metrics"].items():
            yield name, abs(value - scores[name]), SCORE
    for maps in expected.path.glob("maps.u8"):
        ours, theirs = (
            np.fromfile(path / maps.name, np.uint8) for path in (maps.parent, found.path)
        )
        far = abs(ours.astype(int) - theirs.astype(int)) > RANKS
        yield "ranks of attention", float(far.mean()), SCORE
