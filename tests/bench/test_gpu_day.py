"""`benchmarks/gpu_day.sh`: its parts in their order, and what time is left for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In Python's place: writes down what it is called for.
FAKE = """#!{python}
import sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(words) + "\\n")
if words[0] == "-c":
    print("a-gpu")
elif "plan" in words:
    print("pretrain  one-run  ready")
"""


@pytest.mark.parametrize(("minutes", "evidence"), [("100", True), ("100", False), ("0", True)])
def test_its_parts(tmp_path: Path, minutes: str, evidence: bool) -> None:
    (tmp_path / "benchmarks").mkdir()
    script = shutil.copy(ROOT / "benchmarks" / "gpu_day.sh", tmp_path / "benchmarks")
    for name in ("photographs", "scenes") if evidence else ():
        (tmp_path / "mirror" / name).mkdir(parents=True)
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(FAKE.format(python=sys.executable, log=str(log)))
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", script, minutes],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=True,
    )
    called = [line.split() for line in log.read_text().splitlines() if line.startswith("-m ")]
    modules = [" ".join(words[1:3]) for words in called if words[1:3] != ["cp2", "plan"]]
    if minutes == "0":
        assert not [word for word in modules if word.startswith("benchmarks")]
        assert done.stdout.count("no time left") == 9
        return
    benches = ["pretrain", "step", "finetune", "evaluate", "detection"]
    expected = ["cp2 doctor", *(f"benchmarks {one}" for one in benches)]
    if evidence:
        expected += ["snakemake --workflow-profile", "cp2 probe", "benchmarks evidence"]
    assert modules == expected
    assert "no time left" not in done.stdout
