"""`cp2 doctor`: is everything here that a campaign will need? One line a check."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cp2.cluster.commands import ask
from cp2.cluster.driver import accounting_answers
from cp2.cluster.kernels import known_capability, lacking_kernels
from cp2.cluster.partitions import Nodes, cluster_nodes
from cp2.cluster.validate_request import slurm_refusals, unfit
from cp2.plan.requests import JobRequest
from cp2.plan.sources import mirrors
from cp2.plan.text import size
from cp2.settings.load import Configuration

SHARED_BYTES = 2e9  # of /dev/shm; four workers hold about 1 GB of batches of 256 at 224 pixels
SECONDS = 120.0  # importing torch on a cold network file system


@dataclass(frozen=True)
class Check:
    """One line of the answer. `ok` None: not a problem, but worth knowing."""

    ok: bool | None
    text: str

    def __str__(self) -> str:
        return f"{ {True: 'ok', False: 'PROBLEM', None: 'note'}[self.ok]:<8}{self.text}"


def examine(
    configuration: Configuration,
    requests: Sequence[JobRequest],
    site: str | None,
    needed: float | None = None,
) -> Iterator[Check]:
    """Every check of a campaign on this machine.

    Args:
        requests: of the stages that run on a cluster, merged with the site's file.
        site: the site's name; None leaves Slurm out.
        needed: bytes that what is left to make takes; None: unknown.
    """
    yield from _folders(configuration, needed)
    yield from _commands(site)
    if site:
        cluster = cluster_nodes()
        yield from _requests(requests, cluster, site)
    expected = site is None and any(request.gpus for request in requests)
    models = sorted({request.gpu_model for request in requests if request.gpu_model})
    yield torch_check(expected, models)
    for model in models:
        if known_capability(model) is None:
            yield Check(None, f"gpu_model {model!r}: whether torch has kernels for it is not known")
    yield _terminal(site)


def _folders(configuration: Configuration, needed: float | None) -> Iterator[Check]:
    for name, folder in (("results", configuration.results), ("reports", configuration.reports)):
        yield writable(folder, name, f"set execution.{name} to another")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111
    yield writable(cache, "Snakemake's cache", "export XDG_CACHE_HOME=<a folder of yours>")
    yield shared_memory(configuration.campaign.execution.workers)
    there = _existing(configuration.results)
    free = shutil.disk_usage(there).free
    text = f"{size(free)} free for {configuration.results}"
    if needed is None:
        yield Check(None, f"{text}; how much is needed is not known")
    elif free < needed:
        yield Check(
            False, f"{text}; what is left to make takes about {size(needed)}: set execution.results"
        )
    else:
        yield Check(True, f"{text}, about {size(needed)} needed (cp2 plan --cost)")
    yield locking(there)
    for mirror in mirrors(configuration):
        if not mirror.is_dir():
            yield Check(None, f"mirror {mirror} is not there; archives are downloaded instead")
        elif not os.access(mirror, os.R_OK | os.X_OK):
            yield Check(False, f"mirror {mirror} cannot be read; chmod it or change the campaign")
        else:
            yield Check(True, f"mirror {mirror}")


def shared_memory(workers: int, folder: Path = Path("/dev/shm")) -> Check:
    """Whether loading processes can hand their batches over: containers get 64 MB by default."""
    if not workers or not folder.is_dir():
        return Check(True, "no loading processes" if not workers else f"no {folder} here")
    free = shutil.disk_usage(folder).free
    text = f"{size(free)} free in {folder} for the batches of {workers} loading processes"
    if free >= SHARED_BYTES:
        return Check(True, text)
    return Check(
        None, f"{text}; if it is too little: docker run --shm-size=8g, or execution.workers: 0"
    )


def writable(folder: Path, name: str, remedy: str) -> Check:
    """Write, and remove, a file in a folder or in what will hold it.

    Args:
        remedy: what to do where it cannot be written.
    """
    there = _existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".cp2-doctor-"):
            return Check(True, f"{name} folder {folder} can be written")
    except OSError as error:
        return Check(False, f"{name} folder {folder}: {error.strerror}; {remedy}")


def inodes(folder: Path, files: int, all_known: bool = True) -> Check:
    """Whether a file system has room for so many more files, or more where not all are known.

    A quota of one's own shows where the file system reports it (Lustre, XFS); else `quota -s` does.
    """
    there = os.statvfs(_existing(folder))
    if not there.f_files:  # made as needed: btrfs, most of NFS
        return Check(True, f"{folder}: its file system sets no number of files")
    text = f"{there.f_favail:,} more files fit in {folder}"
    if there.f_favail < files:
        return Check(
            False,
            f"{text}; the data sets that are left to unpack have about {files:,}: set "
            "execution.results to another file system, ask for a larger quota of inodes, or set "
            "unpack: false for ImageNet and COCO",
        )
    least = "" if all_known else "at least "
    left = f"{least}{files:,} images and labels are left to unpack"
    if not files and not all_known:
        left = "how many images and labels are left to unpack is not known"
    return Check(True, f"{text}; {left}")


def locking(folder: Path) -> Check:
    """Whether flock keeps a second process out: two jobs must not train one run."""
    try:
        with (
            tempfile.NamedTemporaryFile(dir=folder, prefix=".cp2-doctor-") as first,
            Path(first.name).open("rb") as second,
        ):
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Check(True, f"flock works on {folder}")
    except OSError as error:
        return Check(
            None, f"flock does not work on {folder} ({error.strerror}); runs are held by heartbeats"
        )
    return Check(None, f"flock keeps nobody out on {folder}; runs are held by heartbeats")


def _commands(site: str | None) -> Iterator[Check]:
    for module, name in (("slurm", "slurm"), ("cluster_generic", "cluster-generic")):
        if importlib.util.find_spec(f"snakemake_executor_plugin_{module}") is None:
            yield Check(
                False,
                f"snakemake-executor-plugin-{name} is not installed in {sys.prefix}; "
                "pip install 'cp2-reproduction[workflow]'",
            )
        else:
            yield Check(True, f"snakemake-executor-plugin-{name}")
    if site is None:
        return
    for command in ("sbatch", "squeue", "sinfo", "scancel"):
        if shutil.which(command) is None:
            yield Check(False, f"{command}: not found; is this a login node? module load slurm?")
        else:
            yield Check(True, f"{command}: {shutil.which(command)}")
    if not accounting_answers():
        yield Check(None, "sacct does not answer; squeue is asked how jobs end")


def _requests(
    requests: Sequence[JobRequest], cluster: Sequence[Nodes] | None, site: str
) -> Iterator[Check]:
    if cluster is None:
        yield Check(False, f"sinfo does not answer, so site {site!r} cannot be compared with it")
        return
    wrong = {request.stage: unfit([request], cluster) for request in requests}
    fitting = [request for request in requests if not wrong[request.stage]]
    for problem in [
        *(text for texts in wrong.values() for text in texts),
        *slurm_refusals(fitting),
    ]:
        yield Check(False, f"{problem} (site {site!r})")
    for request in fitting:
        yield Check(True, f"{request.stage}: sbatch {request.sbatch()}")


def torch_check(expected: bool, models: Sequence[str] = ()) -> Check:
    """Whether torch can use a GPU here, asked in a process of its own: a bad driver may crash it.

    Args:
        expected: whether jobs run here and ask for a GPU; a login node needs none.
        models: Slurm's names of GPUs that jobs ask for.
    """
    code = (
        "import torch; ok = torch.cuda.is_available(); "
        "n = torch.cuda.device_count() if ok else 0; "
        "print(torch.__version__, torch.version.cuda, n); print(*torch.cuda.get_arch_list()); "
        "[print(*torch.cuda.get_device_capability(i), torch.cuda.get_device_name(i)) "
        "for i in range(n)]"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Check(False, f"importing torch takes more than {SECONDS:g} s; a slow file system?")
    first, built, *gpus = [*done.stdout.splitlines(), "", ""]
    words = first.split()
    if done.returncode or len(words) != 3:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return Check(False, f"torch cannot be imported: {last}; pip install -r requirements.lock")
    version, cuda, count = words
    for lack in _without_kernels(version, built.split(), gpus, models):
        return Check(False, lack)
    if int(count):
        return Check(True, f"torch {version} sees {count} GPU(s)")
    driver = driver_version()
    if not expected:
        return Check(True, f"torch {version}; no GPU here, and none needed here")
    if driver:
        return Check(
            False,
            f"torch {version} is built for CUDA {cuda} and cannot use the driver {driver}: update "
            "the driver, or install a build of torch for an older CUDA",
        )
    return Check(False, f"torch {version} sees no GPU, and the campaign's jobs ask for one")


def _without_kernels(
    version: str, built: list[str], gpus: list[str], models: Sequence[str]
) -> Iterator[str]:
    """The GPUs here, lines of capability and name, and those asked for that torch cannot serve."""
    known = [(name, found) for name in models if (found := known_capability(name))]
    for line in filter(None, gpus):
        major, minor, name = line.split(maxsplit=2)
        known.append((name, (int(major), int(minor))))
    for name, capability in known:
        if lack := lacking_kernels(name, capability, built, version):
            yield lack


def driver_version() -> str | None:
    """Version of NVIDIA's driver, or None where there is none."""
    answer = ask("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return answer.split()[0] if answer and answer.split() else None


def _terminal(site: str | None) -> Check:
    if site is None or os.environ.get("TMUX") or os.environ.get("STY"):
        return Check(True, "the terminal may be closed" if site else "no cluster asked for")
    start = (
        "start the driver in tmux" if shutil.which("tmux") else "no tmux here: sbatch the driver"
    )
    return Check(None, f"{start}, so that you may log out; see docs/cluster.md")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists; a file, where one is in the way."""
    folder = folder.absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder
