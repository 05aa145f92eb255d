"""How many jobs Snakemake puts on the GPU of one machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cp2.plan.requests import job_request
from cp2.settings.campaign import Resources

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow" / "profiles" / "local"
JOBS = 5

# A job says how many are running, goes on when so many have begun as may run beside each other, and
# fails if these do not come. The shell counts names: ls fails if another job removes its file.
SNAKEFILE = """
rule all:
    input: expand("{job}.done", job=range(JOBS))

rule finetune:
    output: "{job}.done"
    resources: **RESOURCES
    shell:
        "touch {wildcards.job}.begun {wildcards.job}.running; set -- *.running; echo $# >> counts; "
        "for i in $(seq 600); do set -- *.begun; [ $# -ge TOGETHER ] && break; sleep 0.1; done; "
        "[ $i -lt 600 ]; rm {wildcards.job}.running; touch {output}"
"""


@pytest.mark.parametrize("together", [1, 3])
def test_jobs_beside_each_other(tmp_path: Path, together: int) -> None:
    resources = Resources(gpus=1, jobs_per_gpu=together, mem_mb=10)  # type: ignore[arg-type]
    content = SNAKEFILE.replace("TOGETHER", str(together))
    head = f"JOBS = {JOBS}\nRESOURCES = {job_request('finetune', resources, None).snakemake()}\n"
    (tmp_path / "Snakefile").write_text(head + content, encoding="utf-8")
    snakemake = [sys.executable, "-m", "snakemake", "--workflow-profile", str(PROFILE)]
    subprocess.run(
        [*snakemake, "--cores", str(JOBS), "--quiet", "all"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == JOBS
    assert max(counts) <= together  # and not fewer: else they would have failed
