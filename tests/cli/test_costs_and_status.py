"""`cp2 plan --cost`, `--budget` and `cp2 status` as a user types them."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest

ROOT = Path(__file__).parents[2]


def _cp2(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    place = ["--set", f"campaign.execution.results={folder}/results"]
    return forked.run("cp2", *arguments, *place)


def _bench(folder: Path) -> Path:
    """Figures that make everything of the mini campaign cost."""
    file = folder / "bench.json"
    common = {"backbone": "resnet18", "device": "X1", "samples_per_second": 100, "source": "test"}
    kinds = [
        {"stage": "pretrain", "method": "moco-v2", "crop_size": 96},
        {"stage": "pretrain", "method": "cp2", "head": "aspp-small", "crop_size": 96},
        {"stage": "finetune", "head": "aspp-small", "crop_size": 192},
        {"stage": "evaluate", "head": "aspp-small", "crop_size": [192, 768]},
    ]
    file.write_text(json.dumps({"benches": {}, "throughput": [common | kind for kind in kinds]}))
    return file


def test_cost_and_budget_by_a_file_of_a_bench(tmp_path):
    table = ["--campaign", "mini", "--throughput", str(_bench(tmp_path))]
    both = _cp2(tmp_path, "plan", *table, "--cost", "--budget", "5", "--gpus", "4")
    assert both.returncode == 0, both.stderr
    assert f"cost on X1, by {tmp_path}/bench.json" in both.stdout
    assert "wall-clock on 4 of these devices" in both.stdout
    assert "Figures: 4 measured." in both.stdout
    assert "5 GPU-hours on X1: " in both.stdout
    targets = _cp2(tmp_path, "plan", *table, "--budget", "5", "--targets")
    assert targets.returncode == 0
    assert targets.stdout
    for line in targets.stdout.splitlines():
        assert line.startswith(f"{tmp_path}/results/evaluate/")
        assert line.endswith("/done.json")


def test_the_printed_commands_make_just_what_fits(tmp_path):
    """Both lines as printed, in a copy of the project and as a dry run."""
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("workflow", "configs", "reports/published"):
        shutil.copytree(ROOT / name, tmp_path / name)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    programs = {name: f"{sys.executable} -m {name}" for name in ("cp2", "snakemake")}

    def shell(line: str) -> str:
        name, rest = line.strip().split(" ", 1)
        done = subprocess.run(
            f"{programs[name]} {rest}",
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    asked = ("plan", "--set", "campaign.execution.log_every=7", "--budget", "0.03")
    listed = forked.run("cp2", *asked, cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    first, second = listed.stdout.splitlines()[-2:]
    shell(first)
    targets = (tmp_path / "targets.txt").read_text().split()
    output = shell(f"{second} --dry-run")
    evaluations = re.findall(r"^evaluate +(\d+)$", output, re.MULTILINE)[0]
    assert 0 < int(evaluations) == len(targets) < 28
    assert not re.search(r"^report ", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["plan", "--budget", "-1"], ["--budget -1", "positive number"]),
        (["plan", "--budget", "nan"], ["--budget nan", "positive number"]),
        (["plan", "--budget", "1e-9"], ["no cell fits", "the cheapest is"]),
        (["plan", "--targets"], ["--targets", "add --budget HOURS"]),
        (["plan", "--cost", "--stage", "pretrain"], ["--stage and --runs list runs"]),
        (["plan", "--device", "V10"], ["--device 'V10'", "did you mean 'V100'"]),
        (["plan", "--throughput", "/nowhere.json"], ["/nowhere.json: cannot be read"]),
        (["plan", "--cost", "--site", "nowhere"], ["site 'nowhere'"]),
        (["status", "--table", "cp2_fnc"], ["--table 'cp2_fnc'", "did you mean 'cp2_fcn'"]),
        (["status", "5"], ["cp2 status --watch SECONDS"]),
        (["status", "--watch", "0"], ["from 0.1 to 86400"]),
    ],
)
def test_wrong_input_is_a_message_and_exit_code_2(tmp_path, arguments, messages):
    done = _cp2(tmp_path, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for message in messages:
        assert message in done.stderr


def test_status_in_a_pipe_has_no_escape_codes(tmp_path):
    done = _cp2(tmp_path, "status", "--campaign", "demo")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("cp2_deeplabv3\n")
    assert " 0 running," in done.stdout
    one = _cp2(tmp_path, "status", "--table", "cp2_fcn", "--json")
    assert list(json.loads(one.stdout)["tables"]) == ["cp2_fcn"]


def test_watching_redraws_until_it_is_ended(tmp_path):
    """On a terminal of its own: clears, draws, and leaves on Ctrl-C without a traceback."""
    ours, theirs = pty.openpty()
    place = f"campaign.execution.results={tmp_path}/results"
    command = [sys.executable, "-m", "cp2", "status", "--watch", "0.1", "--set", place]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "90"},
    ) as process:
        os.close(theirs)
        seen = b""
        give_up = time.monotonic() + 600
        while seen.count(b"\x1b[2J") < 3:
            assert time.monotonic() < give_up
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while os.read(ours, 65536):
                pass
        except OSError:  # its end of the terminal is closed
            pass
        _, errors = process.communicate(timeout=600)
    os.close(ours)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert b"waiting" in seen


@pytest.mark.parametrize("arguments", [["plan"], ["status"]])
def test_looking_loads_no_torch(tmp_path, arguments):
    code = (
        "import sys; from cp2.cli.main import app\n"
        f"app({[*arguments, '--set', f'campaign.execution.results={tmp_path}']!r}, "
        "standalone_mode=False)\n"
        "heavy = {'torch', 'torchvision', 'mlflow', 'pandas', 'snakemake'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
