"""Memory of GPUs against sums by hand, and where the plan warns of it."""

from dataclasses import replace

import pytest
import torch
from campaigns import CONFIGS
from torch import nn
from torch.nn import functional as F

from benchmarks.machine import MIB, traced_peak_mib
from cp2.costs.memory import BATCHES, CONTEXT, memory_need, memory_notes, saved_bytes
from cp2.costs.networks import count_detector
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.protocols.segmentation import check_micro_batches
from cp2.plan.requests import JobRequest
from cp2.protocols.detection.files import build_detector
from cp2.protocols.detection.networks import Generators, Objects
from cp2.settings.campaign import Execution
from cp2.settings.load import load_campaign


def test_what_a_forward_pass_keeps_by_hand():
    """Convolution, batch norm, ReLU in place, mean: input, the norm's input, its result."""
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        images = torch.empty(2, 3, 10, 12)
        found = saved_bytes(net, lambda: net(images).mean())
    positions = 2 * 8 * 10  # of the convolution's map
    statistics = 2 * 8  # the batch's mean and deviation
    assert found == 4 * (2 * 3 * 10 * 12 + 2 * 8 * positions + statistics)


def test_it_is_what_torch_keeps_on_a_real_device():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3))
    x = torch.randn(4, 5)
    kept: dict[int, int] = {}
    own = {p.data_ptr() for p in net.parameters()}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = F.cross_entropy(net(x), torch.tensor([0, 1, 2, 0]))
    real = sum(size for address, size in kept.items() if address not in own)
    with torch.device("meta"):
        same = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3))
        inputs, labels = torch.empty(4, 5), torch.empty(4, dtype=torch.long)
        assert saved_bytes(same, lambda: F.cross_entropy(same(inputs), labels)) == real
    assert loss.isfinite()


@pytest.fixture(scope="module")
def small():
    """The demo's plan, its CP² pretraining and its settings."""
    configuration = load_campaign("demo", (), CONFIGS)
    plan = build_plan(configuration)
    pretrain = next(r for r in plan.stage("pretrain") if r.tags["method"] == "cp2")
    return plan, pretrain


def request(stage="pretrain", gpus=1, **more):
    return JobRequest(stage, 1, 1000, 60, gpus=gpus, **more)


def test_images_are_shared_by_gpus_and_micro_batches(small):
    run = small[1]
    whole = memory_need(run, request(), Execution())
    two = memory_need(run, request(gpus=2), Execution())
    four = memory_need(run, request(), Execution(accumulate={"pretrain": 4}))
    assert (whole.images, two.images, four.images) == (32, 16, 8)
    fixed = two.bytes - (whole.bytes - two.bytes)  # what does not grow with the images
    assert fixed > CONTEXT
    assert four.bytes < two.bytes < whole.bytes


def test_half_precision_keeps_half(small):
    run = small[1]
    method = run.recipe.method.model_copy(update={"amp": "bf16"})
    half = replace(run, recipe=run.recipe.model_copy(update={"method": method}))
    assert (
        memory_need(half, request(), Execution()).bytes
        < memory_need(run, request(), Execution()).bytes
    )


@pytest.mark.parametrize(("gb", "fits"), [(None, True), (1.0, False), (1000.0, True)])
def test_the_largest_need_stands_beside_the_gpus_memory(small, gb, fits):
    plan = small[0]
    requests = {"pretrain": request(gpu_memory_gb=gb), "finetune": request("finetune", gpus=0)}
    notes = memory_notes(plan, requests, Execution(), None)
    assert notes[0].startswith("pretrain on 1 GPU: about ")
    assert (" of 1.0 GB of a GPU's memory" in notes[0]) == (gb == 1.0)
    assert len(notes) == (1 if fits else 2)
    assert fits or "pretrain may not fit: ask for more GPUs" in notes[1]


@pytest.mark.parametrize(
    ("count", "group", "message"),
    [(1, None, None), (2, 4, None), (2, None, "cut into 1;"), (4, 4, "cut into 1, 2;")],
)
def test_micro_batches_of_finetuning_leave_groups_whole(count, group, message):
    schedule = load_campaign("paper", (), CONFIGS).protocol("cp2").datasets["cityscapes"]
    schedule = schedule.model_copy(update={"bn_group_size": group})  # of batches of 8
    if message is None:
        check_micro_batches(count, schedule)
        return
    with pytest.raises(UserError, match=message):
        check_micro_batches(count, schedule)


@pytest.mark.parametrize(
    ("kind", "recompute", "short", "count"),
    [("c4", False, 96, 2), ("c4", True, 96, 2), ("fpn", False, 192, 4)],
)
def test_a_detectors_need_is_near_what_a_step_takes(kind, recompute, short, count):
    """By PyTorch's allocator on the CPU: what tensors hold beyond weights, at the most."""
    changes = ["campaign.tables=[demo_detection, demo_instances]"]
    configuration = load_campaign("demo_full", changes, CONFIGS)
    run = next(
        run
        for run in build_plan(configuration).stage("finetune")
        if run.recipe.detector.kind == kind
    )
    detector = run.recipe.detector.model_copy(update={"recompute": recompute, "masks": False})
    training = run.recipe.training.model_copy(
        update={"short_sides": (64, short), "long_side": 2 * short, "batch_size": count}
    )
    backbone = configuration.backbone("resnet18").model_copy(update={"output_stride": 32})
    parts = {"detector": detector, "training": training, "backbone": backbone}
    recipe = run.recipe.model_copy(update=parts)
    need = memory_need(replace(run, recipe=recipe), request("finetune"), Execution())
    fixed = count_detector(recipe)
    torch.manual_seed(0)
    model = build_detector(detector, backbone, recipe.classes).train()
    images = [torch.rand(3, short, short * 4 // 3) for _ in range(count)]
    corners = torch.rand(count, 12, 2) * short / 2
    boxes = torch.cat([corners, corners + short / 2], 2)
    objects = [Objects(box, torch.randint(recipe.classes, (12,))) for box in boxes]

    def step():
        seeds = [Generators(torch.Generator(), torch.Generator()) for _ in images]
        torch.stack(list(model(images, objects, seeds).values())).sum().backward()

    step()  # gradients are there, as the need has them
    pixels = BATCHES * count * 3 * 4 * short * (short * 4 // 3)
    counted = need.bytes - fixed.state - fixed.learnt - CONTEXT - pixels
    assert counted == pytest.approx(traced_peak_mib(step) * MIB, rel=0.15)


def test_masks_halves_and_shares_of_a_detector_count():
    changes = ["campaign.tables=[demo_instances]"]
    plan = build_plan(load_campaign("demo_full", changes, CONFIGS))
    run = next(iter(plan.stage("finetune")))
    bare = run.recipe.detector.model_copy(update={"masks": False})

    def need(gpus=1, **parts):
        changed = replace(run, recipe=run.recipe.model_copy(update=parts))
        return memory_need(changed, request("finetune", gpus=gpus), Execution())

    assert need(detector=bare).bytes < need().bytes
    assert need(amp="bf16").bytes < need().bytes
    assert need(gpus=2).bytes < need().bytes
    assert need(gpus=2).images == -(-run.recipe.training.batch_size // 2)


def test_a_method_of_every_kind_has_its_memory_noted():
    """Also SlotCon, whose prototypes are more than the positions that a pass is counted with."""
    changes = ["campaign.tables=[demo_methods]", "methods.slotcon.prototypes=200"]
    runs = build_plan(load_campaign("demo", changes, CONFIGS)).stage("pretrain")
    kinds = {run.recipe.method.kind: run for run in runs}
    assert {"slotcon", "pixpro", "simclr", "byol", "pixcon", "densecl"} <= kinds.keys()
    for run in kinds.values():
        assert memory_need(run, request(gpus=8), Execution()).bytes > CONTEXT
