"""Site files: merging over the campaign's resources, and what is said about wrong ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

from cp2.cluster.validate_request import executor_misfit
from cp2.errors import UserError
from cp2.plan.requests import job_request
from cp2.plan.workflow import Workflow
from cp2.settings.campaign import Resources
from cp2.settings.load import load_campaign
from cp2.settings.sites import load_site
from cp2.stages import ON_CLUSTER, STAGES

CONFIGS = Path(__file__).parents[2] / "configs"
RESOURCES = Resources(cpus=16, mem_mb=64000, minutes=2880, gpus=1)


def _site(folder: Path, text: str) -> str:
    file = folder / "ours.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_the_example_is_valid() -> None:
    site = load_site("example", CONFIGS)
    request = job_request("pretrain", RESOURCES, site)
    assert (request.gpus, request.cpus, request.gpu_model) == (4, 48, "h100")
    assert set(ON_CLUSTER) == set(type(site).model_fields) - {"all"}


def test_a_site_changes_only_what_it_says(tmp_path: Path) -> None:
    site = load_site(_site(tmp_path, "all: {partition: gpu}\nevaluate: {minutes: 30}"))
    evaluate, pretrain = (job_request(stage, RESOURCES, site) for stage in ("evaluate", "pretrain"))
    assert pretrain == job_request("pretrain", RESOURCES, None).__class__(
        "pretrain", 16, 64000, 2880, 1, partition="gpu"
    )
    assert (evaluate.minutes, evaluate.partition) == (30, "gpu")


def test_a_stages_own_keys_win(tmp_path: Path) -> None:
    text = """
        all: {gpu_model: h100, cpus_per_gpu: 12, partition: gpu}
        finetune: {cpus: 5}
        evaluate: {gpus: 0, partition: cpu}
    """
    site = load_site(_site(tmp_path, text))
    assert job_request("pretrain", RESOURCES, site).cpus == 12
    assert job_request("finetune", RESOURCES, site).cpus == 5
    evaluate = job_request("evaluate", RESOURCES, site)
    assert (evaluate.gpus, evaluate.gpu_model, evaluate.cpus) == (0, None, 16)
    assert evaluate.site_options() == "--partition=cpu"


def test_options_of_sbatch(tmp_path: Path) -> None:
    text = """
        all:
          partition: gpu,long
          account: me
          qos: high
          constraint: h100|a100
          gpus: 2
          gpu_model: h100
          extra: --mail-type=FAIL --reservation='next week'
    """
    request = job_request("pretrain", RESOURCES, load_site(_site(tmp_path, text)))
    assert request.sbatch() == (
        "--nodes=1 --cpus-per-task=16 --mem=64000 --time=2880 --gpus=h100:2 --partition=gpu,long "
        "--account=me --qos=high '--constraint=h100|a100' --mail-type=FAIL "
        "'--reservation=next week'"
    )
    resources = request.snakemake()
    assert resources["slurm_extra"] == "--mail-type=FAIL '--reservation=next week'"
    assert (resources["gpu"], resources["gpu_model"], resources["nodes"]) == (2, "h100", 1)
    assert resources["slurm_partition"] == "gpu,long"


class _Resources(dict[str, Any]):
    """As Snakemake's plugins read them."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(
    ("keys", "sbatch", "plugin"),
    [
        ("gpu_model: h100", "--gpus=h100:2", "--gpus=h100:2"),
        ("gres: true", "--gres=gpu:2", "--gres=gpu:2"),
        ("gres: true, gpu_model: h100", "--gres=gpu:h100:2", "--gres=gpu:h100:2"),
        ("gpu_model: a100-80gb", "--gpus=a100-80gb:2", "--gpus-per-node=a100-80gb:2"),
    ],
)
def test_both_executors_ask_for_gpus_as_the_site_takes_them(
    tmp_path: Path, keys: str, sbatch: str, plugin: str
) -> None:
    site = _site(tmp_path, f"all: {{gpus: 2, extra: --mail-type=FAIL, {keys}}}")
    request = job_request("pretrain", RESOURCES, load_site(site))
    assert request.site_options() == f"{sbatch} --mail-type=FAIL"
    job = SimpleNamespace(resources=_Resources(request.snakemake()))
    validate_slurm_extra(job)
    options = f"{set_gres_string(job)} {job.resources['slurm_extra']}".split()
    assert sorted(options) == sorted([plugin, "--mail-type=FAIL"])
    command = Workflow({"site": site}).command(STAGES["pretrain"])
    count = "{resources.gpu}" if request.snakemake()["gpu"] else "2"
    assert f"--processes {count} " in command
    assert executor_misfit("slurm", [request], tmp_path) is None


def test_what_an_executor_cannot_hand_on(tmp_path: Path) -> None:
    site = load_site(_site(tmp_path, "all: {gpus: 2, gres: true, gpu_model: a100-80gb}"))
    request = job_request("pretrain", RESOURCES, site)
    assert "gpu_model 'a100-80gb'" in (executor_misfit("slurm", [request], tmp_path) or "")
    assert executor_misfit("cluster-generic", [request], tmp_path / "it's here") is None
    assert "move the project" in (executor_misfit("cluster-generic", [], Path("/a$b")) or "")


def test_local_stages_ask_for_no_site(tmp_path: Path) -> None:
    site = load_site(_site(tmp_path, "all: {partition: gpu, mem_mb: 1}"))
    assert job_request("dataset", RESOURCES, site).snakemake() == {"mem_mb": 64000, "runtime": 2880}


def test_further_options(tmp_path: Path) -> None:
    extra = "--exclusive=user --reservation ours -w node1 --tmp=50G --nodelist=a --wait-all-nodes=1"
    assert load_site(_site(tmp_path, f"all: {{extra: {extra}}}")).all.extra == extra


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("all: {partitoin: gpu}", ["all.partitoin", "unknown key; did you mean 'partition'"]),
        ("dataset: {cpus: 4}", ["dataset", "unknown key", "cache, evaluate, finetune, masks"]),
        ("all: {gpus: two}", ["all.gpus = 'two'", "must be a whole number"]),
        ("all: {gpus: -1}", ["all.gpus = -1", "greater than or equal to 0"]),
        ("all: {partition: 'a; rm'}", ["all.partition = 'a; rm'", "must match"]),
        ("all: {gpu_model: 'a 100'}", ["all.gpu_model = 'a 100'", "must match"]),
        ("all: {cpus: 4, cpus_per_gpu: 2}", ["give one of both"]),
        ("all: {gpus: 0, gpu_model: h100}", ["need gpus of at least 1"]),
        ("all: {extra: --partition=x}", ["--partition does not belong here; use partition"]),
        ("all: {extra: -t 5}", ["-t does not belong here; use minutes"]),
        ("all: {extra: --gres=gpu:1}", ["use gpus and gpu_model, and gres: true where"]),
        *(
            (f"all: {{extra: {option}}}", [f"all.extra = '{option}'", "does not belong here"])
            for option in (
                *(
                    "--array=0-3",
                    "-a 0-3",
                    "--part=gpu",
                    "--ntasks-per-node=2",
                    "--gres=lscratch:9",
                ),
                *("--gpus-per-task=1", "--wait", "--hold", "--mail-user=me --hol"),
            )
        ),
        ("all: {extra: run.sh}", ["'run.sh' is no option of sbatch"]),
        ("all: {extra: --exclusive run.sh}", ["'run.sh' is no option"]),
        ("all: {extra: --reservation=a run.sh}", ["'run.sh' is no option"]),
        ("all: {extra: --output=x}", ["Snakemake's profile sets it"]),
        ('all: {extra: "--mail-user=\'x"}', ["is not readable as options of sbatch"]),
        ("all: gpu", ["all", "must be keys and values"]),
    ],
)
def test_wrong_values(tmp_path: Path, text: str, words: list[str]) -> None:
    file = _site(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_site(file)
    assert str(caught.value).startswith(f"{file}: ")
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_site() -> None:
    with pytest.raises(UserError) as caught:
        load_site("exampel", CONFIGS)
    assert "no file" in str(caught.value)
    assert "example.yaml" in str(caught.value)
    assert "did you mean 'example'" in str(caught.value)


class TestSharedGpu:
    SMALL = RESOURCES.model_copy(update={"jobs_per_gpu": 4})

    def test_a_job_takes_its_part_of_the_slots(self, tmp_path: Path) -> None:
        assert job_request("finetune", RESOURCES, None).snakemake()["gpu_slots"] == 12
        small = job_request("finetune", self.SMALL, None).snakemake()
        assert (small["gpu"], small["gpu_slots"]) == (1, 3)
        site = load_site(_site(tmp_path, "finetune: {jobs_per_gpu: 6}"))
        assert job_request("finetune", self.SMALL, site).gpu_slots == 2
        assert job_request("evaluate", self.SMALL, site).gpu_slots == 3

    def test_several_gpus_and_none(self) -> None:
        wide = RESOURCES.model_copy(update={"gpus": 2})
        assert job_request("pretrain", wide, None).gpu_slots == 24
        none = self.SMALL.model_copy(update={"gpus": 0})
        assert job_request("finetune", none, None).gpu_slots == 0

    def test_a_cluster_is_asked_for_the_same(self) -> None:
        whole, small = (job_request("finetune", r, None) for r in (RESOURCES, self.SMALL))
        assert whole.sbatch() == small.sbatch()

    def test_several_gpus_are_not_shared(self) -> None:
        wide = self.SMALL.model_copy(update={"gpus": 2})
        with pytest.raises(UserError, match="finetune: gpus is 2 and jobs_per_gpu 4"):
            job_request("finetune", wide, None)
        wider = wide.model_copy(update={"nodes": 2})
        with pytest.raises(UserError) as caught:
            job_request("finetune", wider, None)
        assert str(caught.value) == (
            "finetune: nodes is 2, gpus is 2 and jobs_per_gpu 4, but only jobs on one GPU can "
            "share it; set finetune's nodes and gpus to 1, or its jobs_per_gpu to 1"
        )

    def test_slots_must_be_whole(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="jobs_per_gpu"):
            load_site(_site(tmp_path, "finetune: {jobs_per_gpu: 5}"))


NODES = "pretrain: {nodes: 2, gpus: 4, gpu_model: h100, cpus_per_gpu: 2, mem_mb: 1000, minutes: 60}"


def test_several_nodes(tmp_path: Path) -> None:
    """One task a node, whose command starts the processes of its GPUs."""
    request = job_request("pretrain", RESOURCES, load_site(_site(tmp_path, NODES)))
    assert request.processes == 8
    assert request.sbatch() == (
        "--nodes=2 --cpus-per-task=8 --mem=1000 --time=60 --ntasks-per-node=1 "
        "--gpus-per-node=h100:4"
    )
    asked = _Resources(request.snakemake(), tasks_per_gpu=None)
    assert (asked["nodes"], asked["tasks"], asked["mpi"], asked["gpu"]) == (2, 2, "srun", 0)
    assert asked["slurm_extra"] == "--gpus-per-node=h100:4 --ntasks-per-node=1"
    assert "gpu_model" not in asked
    one = job_request("pretrain", RESOURCES, None)
    assert "mpi" not in one.snakemake()
    assert one.srun() == ""


def test_only_trainings_have_several_nodes(tmp_path: Path) -> None:
    site = load_site(_site(tmp_path, "all: {nodes: 2}"))
    found = {stage: job_request(stage, RESOURCES, site).nodes for stage in ("finetune", "evaluate")}
    assert found == {"finetune": 2, "evaluate": 1}
    text = "evaluate: nodes is 2, but this stage runs on one node; leave it out"
    with pytest.raises(UserError) as caught:
        load_site(_site(tmp_path, "evaluate: {nodes: 2}"))
    assert str(caught.value) == f"{tmp_path / 'ours.yaml'}: {text}"
    with pytest.raises(UserError, match=rf"demo\.yaml .*resources.*: {text}"):
        load_campaign("demo", ["campaign.resources.evaluate.nodes=2"], CONFIGS)
