"""Two processes never work on one run; a killed one leaves no lock behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.record.folder import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from cp2.record.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_refuses_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    run = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"process {holder.pid} on .* is working on this run"),
            RunFolder(run).locked(),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with RunFolder(run).locked():
        assert run.is_dir()
