"""`make bench` measures every part, whatever one of them says."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ["data", "step", "pretrain", "numerics", "finetune", "evaluate"]


@pytest.mark.parametrize("failing", [None, "numerics"])
def test_every_part_is_measured(tmp_path, failing):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$3" != {failing} ]\n')
    python.chmod(0o755)
    stamp = tmp_path / "venv" / "installed"
    stamp.touch()
    os.utime(stamp, (2**32, 2**32))  # newer than the lock: nothing is installed
    variables = [f"VENV={tmp_path}/venv", "IMAGES=photos", f"FIGURES={tmp_path}"]
    command = ["make", "-C", str(ROOT), "bench", *variables]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"-m benchmarks {part} photos --json {tmp_path}" for part in PARTS]
    assert (done.returncode == 0) == (failing is None)
    assert (f"failed: {failing}" in done.stderr) == (failing is not None)


def test_the_recorded_numerics_are_of_real_photographs():
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        numerics = json.loads(file.read_text(encoding="utf-8"))["benches"].get("numerics")
        assert numerics is None or "given images" in numerics["images"]
