"""Changed files against the readers: `make fuzz`, or tests/fuzz/fuzz.py torch yaml --seconds 60.

What breaks a reader is made as small as it can be and kept in tests/fuzz/seeds/<target>/, which
`make test` reads.
"""

import argparse
import hashlib
import io
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from targets import TARGETS, Target  # noqa: E402

SEEDS = Path(__file__).parent / "seeds"
FAST = Path("/dev/shm")
MEMORY = 6 << 30  # bytes of addresses: what asks for more has no bound
SLOW = 20  # seconds for one file
ODD = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, 1 << 62]
PIECES = [
    *(b"[" * 3000, b"{", b"]", b'"', b"Infinity", b"NaN", b"-1", b"1e999", b"9" * 400, b"null"),
    *(b"*a", b"&a ", b"\0", b"\xff", b"../", b"/", b"\n", b"- ", b": ", b"\x1b[31m"),
]
SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
    "report_multiple_bugs": False,
}


class SlowError(BaseException):
    """No reader may turn it into a message."""


def changed(seeds: list[bytes], choices: bytes) -> bytes:
    """A seed with some of its bytes changed, left out, doubled or taken from another one.

    Args:
        choices: what is changed, and how: Hypothesis makes them short and small.
    """
    stream = io.BytesIO(choices)

    def choose(count: int) -> int:
        return int.from_bytes(stream.read(2), "big") % max(1, count)

    content = bytearray(seeds[choose(len(seeds))])
    while stream.tell() < len(choices):
        at = choose(len(content) + 1)
        end = at + (0, 1, 2, 4, 8, 100, len(content))[choose(7)]
        match choose(6):
            case 0:
                content[at : at + 1] = stream.read(2)
            case 1:
                size = (1, 2, 4, 8)[choose(4)]
                order: Any = ("little", "big")[choose(2)]
                number = ODD[choose(len(ODD))] % (1 << 8 * size)
                content[at : at + size] = number.to_bytes(size, order)
            case 2:
                del content[at:end]
            case 3:
                content[at:at] = content[at:end]
            case 4:
                other = seeds[choose(len(seeds))]
                begin = choose(len(other))
                content[at:end] = other[begin : begin + end - at]
            case 5:
                content[at : at + choose(3)] = PIECES[choose(len(PIECES))]
    return bytes(content)


def run(target: Target, folder: Path, examples: int, number: int | None) -> None:
    """Read so many changed files. Raises what a reader raised."""
    seeds = target.seeds()

    @settings(**SETTINGS, max_examples=examples, derandomize=number is None)
    @given(st.binary(min_size=10, max_size=80))
    def read(choices: bytes) -> None:
        content = changed(seeds, choices)
        (folder / "last").write_bytes(content)
        target.check(folder, content)

    (read if number is None else seed(number)(read))()


def _too_slow(*_: object) -> None:
    raise SlowError(f"over {SLOW} s")


def one(name: str, seconds: float, folder: Path) -> None:
    """Fuzz one reader and keep what breaks it."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    target, begin, executions, finds = TARGETS[name], time.monotonic(), 0, 0
    check = target.check

    class Timed(Target):
        def check(self, folder: Path, content: bytes) -> None:
            nonlocal executions
            executions += 1
            signal.alarm(SLOW)
            check(folder, content)
            signal.alarm(0)

    timed = Timed(target.name, target.seeds, target.read, target.wrap)
    while time.monotonic() - begin < seconds and finds < 10:
        try:
            run(timed, folder, 500, executions)
        except (Exception, SlowError) as error:
            finds += 1
            keep(name, folder / "last", error)
        signal.alarm(0)
    print(f"{name}: {executions} files in {time.monotonic() - begin:.0f} s, {finds} finds")
    sys.exit(bool(finds))


def keep(name: str, last: Path, error: Any) -> None:
    """Put the file that broke a reader beside the kept ones, and tell what was raised first."""
    while getattr(error, "__cause__", None):
        error = error.__cause__
    content = last.read_bytes()
    path = SEEDS / name / hashlib.sha256(content).hexdigest()[:8]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"{name}: kept {path} ({len(content)} bytes): {error!r:.300}", flush=True)
    for frame in traceback.extract_tb(getattr(error, "__traceback__", None))[-4:]:
        print(f"  {frame.filename}:{frame.lineno} {frame.name}", flush=True)


def main() -> None:
    """Each reader in a process of its own, which a file may end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], default=[])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.targets[0], arguments.seconds, arguments.one)
    failed = False
    for name in arguments.targets or TARGETS:
        with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
            options = ["--one", folder, "--seconds", str(arguments.seconds)]
            command = [sys.executable, __file__, name, *options]
            code = subprocess.run(command, check=False).returncode
            failed |= code != 0
            if code < 0:
                keep(name, Path(folder) / "last", f"signal {-code}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
