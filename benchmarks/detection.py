"""A detector's training step and inference beside torchvision's; what scores themselves take."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor

from benchmarks.figures import Figures, Say, print_table, summarize
from benchmarks.harness import Stopwatch, Variant, alternate
from benchmarks.loops import configuration, run_step
from benchmarks.machine import describe_machine
from benchmarks.sizes import Sizes
from cp2.costs.work_folder import silent
from cp2.data.annotations import ImageObject
from cp2.errors import UserError
from cp2.models.batch_norm import group_batch_norm
from cp2.models.devices import choose_device
from cp2.protocols.detection.coco_scores import as_coco_results, as_coco_truth, coco_scores
from cp2.protocols.detection.files import build_detector
from cp2.protocols.detection.networks import Generators, Objects
from cp2.protocols.detection.voc_scores import Found, Truth, voc_average_precision
from cp2.settings.models import ResNetSettings
from cp2.settings.protocols.detection import DetectorSettings

CLASSES, OBJECTS = 20, 7  # objects of an image
# Sampled regions, channels of the heads, of their last layer: as published, and small ones.
HEADS = {"cuda": (512, 256, 1024), "cpu": (64, 32, 128)}
BACKBONES = ("resnet18", "resnet50")
# Images, classes and objects of VOC 2007 test and of COCO val2017; 100 detections an image.
VOC, COCO, MOST = (4952, 20, 14976), (5000, 80, 36781), 100


def bench_detection(sizes: Sizes, scores: bool = True, say: Say = print) -> Figures:
    """Measure, print, and return the figures of Faster R-CNN on a feature pyramid.

    Networks, images (crop x 4/3 crop) and sampled regions are as large in both; boxes are random.
    On a CPU the heads are small, too (`HEADS`).

    Args:
        scores: also time the evaluators, without any network.
    Raises:
        UserError: the backbone is none of `BACKBONES`.
    """
    if sizes.backbone not in BACKBONES:
        raise UserError(f"detection --backbone {sizes.backbone}: use {' or '.join(BACKBONES)}")
    device = choose_device()
    torch.manual_seed(0)
    images = [torch.rand(3, sizes.crop, sizes.crop * 4 // 3) for _ in range(sizes.batch)]
    corners = torch.rand(sizes.batch, OBJECTS, 2) * sizes.crop / 2
    far = corners + 8 + torch.rand(corners.shape) * (sizes.crop / 2 - 8)
    boxes = torch.cat([corners, far], 2)
    data = images, boxes, torch.randint(CLASSES, (sizes.batch, OBJECTS))
    makers = {"torchvision": _torchvision, "ours": _ours}
    variants = [
        Variant(
            f"{name}, {work}",
            partial(_run, make, work == "training", sizes, data, device),
            sizes.batch,
            "relative" if name == "ours" else "published",
            sizes.warmup,
            sizes.steps,
            precision="off",
        )
        for work in ("training", "inference")
        for name, make in makers.items()
    ]
    timings = alternate(variants, sizes.rounds, device, say, one_size=False)
    figures: Figures = {
        "images": "made up",
        "variants": summarize(variants, timings),
        "machine": describe_machine(device),
        "score_seconds": score_seconds() if scores else {},
    }
    print_table(figures, say)
    for name, seconds in figures["score_seconds"].items():
        say(f"{name}: {seconds:.0f} s")
    return figures


Data = tuple[list[Tensor], Tensor, Tensor]  # images, boxes (N, G, 4), classes (N, G)
Made = tuple[nn.Module, Callable[[], Tensor], Callable[[], object]]  # its loss, what it finds
Make = Callable[[Sizes, Data, torch.device], Made]


def _run(
    make: Make, training: bool, sizes: Sizes, data: Data, device: torch.device, watch: Stopwatch
) -> None:
    model, loss, detect = make(sizes, data, device)
    model.train(training)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    run_step(watch, step if training else detect)


def _ours(sizes: Sizes, data: Data, device: torch.device) -> Made:
    settings = configuration().backbone(sizes.backbone)
    assert isinstance(settings, ResNetSettings)
    settings = settings.model_copy(update={"output_stride": 32})
    regions, width, hidden = HEADS[device.type]
    detector = DetectorSettings(kind="fpn", regions=regions, width=width, hidden=hidden)
    model = build_detector(detector, settings, CLASSES)
    group_batch_norm(model, sizes.batch, None)
    model.to(device)
    images = [image.to(device) for image in data[0]]
    objects = [Objects(b.to(device), c.to(device), []) for b, c in zip(*data[1:], strict=True)]

    def loss() -> Tensor:
        drawn = [Generators(*(torch.Generator(device) for _ in range(2))) for _ in images]
        terms: dict[str, Tensor] = model(images, objects, drawn)
        return torch.stack(list(terms.values())).sum()

    return model, loss, partial(model.detect, images)


def _torchvision(sizes: Sizes, data: Data, device: torch.device) -> Made:
    norm, (regions, width, hidden) = nn.BatchNorm2d, HEADS[device.type]
    network = getattr(models, sizes.backbone)(norm_layer=norm)
    last = network.fc.in_features
    names = {f"layer{n + 1}": str(n) for n in range(4)}
    body = BackboneWithFPN(
        network, names, [last // 8, last // 4, last // 2, last], width, None, norm
    )
    sides = ((32,), (64,), (128,), (256,), (512,))
    model = FasterRCNN(
        body,
        min_size=sizes.crop,
        max_size=2 * sizes.crop,
        rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(sides)),
        rpn_pre_nms_top_n_test=1000,
        box_batch_size_per_image=regions,
        box_head=FastRCNNConvFCHead((width, 7, 7), [width] * 4, [hidden], norm_layer=norm),
        box_predictor=FastRCNNPredictor(hidden, CLASSES + 1),
    ).to(device)
    images = [image.to(device) for image in data[0]]
    targets = [
        {"boxes": b.to(device), "labels": 1 + c.to(device)} for b, c in zip(*data[1:], strict=True)
    ]

    def loss() -> Tensor:
        return torch.stack(list(model(images, targets).values())).sum()

    def detect() -> object:
        with torch.inference_mode():
            return model(images)

    return model, loss, detect


def score_seconds() -> dict[str, float]:
    """What the evaluators take for made-up detections of two test sets, without any network."""
    rng = np.random.default_rng(0)

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, 300, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(8, 200, (count, 2))], 1)

    def found(images: int, classes: int) -> Found:
        count = images * MOST
        drawn = rng.integers(classes, size=count), rng.random(count)
        return Found(np.repeat(np.arange(images), MOST), *drawn, boxes(count))

    images, classes, count = VOC
    places = rng.integers(images, size=count), rng.integers(classes, size=count)
    truth = Truth(*places, boxes(count).round(), np.zeros(count, bool))
    rows, seconds = found(images, classes), {}
    begin = time.perf_counter()
    voc_average_precision(truth, rows, classes, False)
    seconds[f"scores of VOC 2007 test, {images * MOST:,} detections"] = time.perf_counter() - begin

    images, classes, count = COCO
    names = [str(number) for number in range(classes)]
    objects: list[list[ImageObject]] = [[] for _ in range(images)]
    for box in boxes(count):
        area = float((box[2] - box[0]) * (box[3] - box[1]))
        one = ImageObject(str(rng.integers(classes)), tuple(box), False, False, area, None)
        objects[rng.integers(images)].append(one)
    rows = found(images, classes)
    begin = time.perf_counter()
    with silent():
        coco_scores(
            as_coco_truth(objects, [(500, 500)] * images, names), as_coco_results(rows), "bbox"
        )
    seconds[f"scores of COCO val2017, {images * MOST:,} boxes"] = time.perf_counter() - begin
    return seconds
