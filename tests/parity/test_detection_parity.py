"""The detectors against detectron2: maps, proposals, losses term by term, gradients, detections."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import resnet
from torch import Tensor, nn

from cp2.augment.geometry import fitted_size
from cp2.data.annotations import read_objects
from cp2.models.backbones import ResNetBackbone, build_backbone
from cp2.models.norm_statistics import precise_statistics
from cp2.protocols.detection.boxes import POSITIVE, decode, encode, match, overlap, sample
from cp2.protocols.detection.evaluation import rescaled
from cp2.protocols.detection.fpn import FPNDetector
from cp2.protocols.detection.masks import mask_loss, mask_targets, paste
from cp2.protocols.detection.networks import (
    C4Detector,
    Detector,
    Generators,
    Objects,
    batch_images,
)
from cp2.protocols.detection.roi_heads import (
    Regions,
    box_losses,
    detect,
    levels,
    pool,
)
from cp2.protocols.detection.rpn import (
    Kept,
    RegionProposals,
    cell_anchors,
    grid_anchors,
    label_anchors,
    select,
)
from cp2.protocols.detection.samples import as_arrays, moved, moved_boxes, resize
from cp2.settings.models import ResNetSettings
from cp2.settings.optimization import SgdSettings, StepSettings
from cp2.settings.protocols.detection import DetectionTraining
from cp2.training.optimizers import build_optimizer, step_lr

GOLDEN = Path(__file__).parent / "golden"
OPS = dict(np.load(GOLDEN / "det_ops.npz"))
RESNET50 = ResNetSettings(
    family="resnet", name="resnet50", title="", arch="resnet50", output_stride=32
)
MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
# Our names -> detectron2's.
NAMES = {
    "rpn.conv": "proposal_generator.rpn_head.conv",
    "rpn.objectness": "proposal_generator.rpn_head.objectness_logits",
    "rpn.deltas": "proposal_generator.rpn_head.anchor_deltas",
    "predictor": "roi_heads.box_predictor",
    "norm": "roi_heads.res5.norm",
    "hidden": "roi_heads.box_head.fc1",
    "mask_head.deconv": "roi_heads.mask_head.deconv",
    "mask_head.predictor": "roi_heads.mask_head.predictor",
    **{f"pyramid.lateral.{n}.0": f"backbone.fpn_lateral{n + 2}" for n in range(4)},
    **{f"pyramid.lateral.{n}.1": f"backbone.fpn_lateral{n + 2}.norm" for n in range(4)},
    **{f"pyramid.output.{n}.0": f"backbone.fpn_output{n + 2}" for n in range(4)},
    **{f"pyramid.output.{n}.1": f"backbone.fpn_output{n + 2}.norm" for n in range(4)},
    **{f"box_convs.{3 * n}": f"roi_heads.box_head.conv{n + 1}" for n in range(4)},
    **{f"box_convs.{3 * n + 1}": f"roi_heads.box_head.conv{n + 1}.norm" for n in range(4)},
    **{f"mask_head.convs.{3 * n}": f"roi_heads.mask_head.mask_fcn{n + 1}" for n in range(4)},
    **{
        f"mask_head.convs.{3 * n + 1}": f"roi_heads.mask_head.mask_fcn{n + 1}.norm"
        for n in range(4)
    },
}


def tensor(name: str) -> Tensor:
    return torch.from_numpy(OPS[name])


def close(found: Tensor, wanted: Any, tolerance: float) -> None:
    wanted = torch.as_tensor(wanted)
    torch.testing.assert_close(found.to(wanted.dtype), wanted, rtol=tolerance, atol=tolerance)


def flat_polygons(packed: np.ndarray) -> list[list[np.ndarray]]:
    """Instance index, number of coordinates, coordinates, and so on."""
    found: dict[int, list[np.ndarray]] = {}
    at = 0
    while at < len(packed):
        index, count = int(packed[at]), int(packed[at + 1])
        found.setdefault(index, []).append(packed[at + 2 : at + 2 + count].astype(np.float64))
        at += 2 + count
    return [found[index] for index in sorted(found)]


def unpacked(packed: np.ndarray, *shape: int) -> Tensor:
    bits = np.unpackbits(packed)[: int(np.prod(shape))]
    return torch.from_numpy(bits.reshape(shape).astype(bool))


# ---- single functions ----


def test_anchors() -> None:
    cells = cell_anchors((32, 64, 128, 256, 512))
    close(cells, OPS["anchor_cells_c4"], 1e-5)
    height, width = OPS["anchor_grid_c4"].tolist()
    close(grid_anchors(cells, (height, width), 16), OPS["anchors_c4"], 1e-5)
    for level, (height, width) in enumerate(OPS["anchor_grids_fpn"].tolist()):
        found = grid_anchors(cell_anchors((32 << level,)), (height, width), 4 << level)
        close(found, OPS[f"anchors_fpn_{level}"], 1e-5)


@pytest.mark.parametrize(
    ("name", "weights"), [("w1", (1.0, 1.0, 1.0, 1.0)), ("w10", (10.0, 10.0, 5.0, 5.0))]
)
def test_codes(name: str, weights: tuple[float, float, float, float]) -> None:
    source = tensor("box_src")
    close(encode(source, tensor("box_dst"), weights), OPS[f"box_encoded_{name}"], 1e-5)
    close(decode(tensor("box_deltas"), source, weights), OPS[f"box_decoded_{name}"], 1e-5)


def test_overlaps() -> None:
    close(overlap(tensor("box_src"), tensor("box_dst")), OPS["iou"], 1e-5)


@pytest.mark.parametrize(
    ("name", "low", "high", "best"), [("rpn", 0.3, 0.7, True), ("roi", 0.5, 0.5, False)]
)
def test_matches(name: str, low: float, high: float, best: bool) -> None:
    index, labels = match(tensor("match_quality"), low, high, best)
    assert torch.equal(index, tensor(f"match_index_{name}").long())
    assert torch.equal(labels, tensor(f"match_label_{name}").long())


def test_sizes_of_samples() -> None:
    for case, wanted in zip(
        OPS["sample_cases"].tolist(), OPS["sample_counts"].tolist(), strict=True
    ):
        labels = torch.cat([torch.full((n,), v) for n, v in zip(case, (1, 0, -1), strict=True)])
        found: list[int] = []
        for count, share in ((256, 0.5), (512, 0.25)):
            chosen = sample(labels, count, share, torch.Generator().manual_seed(0))
            found += map(len, chosen)
            assert all(
                (labels[part] == value).all() for part, value in zip(chosen, (1, 0), strict=True)
            )
            assert len(torch.cat(chosen).unique()) == len(torch.cat(chosen))
        assert found == wanted


def test_the_rpns_terms_are_divided_by_256_an_image() -> None:
    rpn = RegionProposals(8, [(32.0,)], (16,), Kept(1, 1), Kept(1, 1))
    terms = rpn.losses(
        tensor("rpnloss_anchors"),
        tensor("rpnloss_logits"),
        tensor("rpnloss_deltas"),
        tensor("rpnloss_labels").long(),
        tensor("rpnloss_matched"),
    )
    close(terms["loss_rpn_cls"], OPS["rpnloss_cls"], 5e-5)
    close(terms["loss_rpn_loc"], OPS["rpnloss_loc"], 5e-5)


def test_proposals_of_two_levels() -> None:
    for image, size in enumerate(OPS["prop_sizes"].tolist()):
        boxes, scores, level = [], [], []
        for n in range(2):
            best, index = tensor(f"prop_logits_{n}")[image].topk(
                min(100, OPS[f"prop_logits_{n}"].shape[1])
            )
            boxes.append(tensor(f"prop_boxes_{n}")[image][index])
            scores.append(best)
            level.append(torch.full_like(index, n))
        found = select(torch.cat(boxes), torch.cat(scores), torch.cat(level), size, 70)
        close(found[0], OPS[f"prop_out_boxes_{image}"], 1e-4)
        close(found[1], OPS[f"prop_out_logits_{image}"], 1e-4)


def test_detections_and_their_losses() -> None:
    boxes, logits, codes = tensor("det_proposals"), tensor("det_logits"), tensor("det_deltas")
    height, width = tuple(OPS["det_size"].tolist())
    found, rows = detect(boxes, logits, codes, (height, width), 40)
    close(found.boxes, OPS["det_boxes"], 1e-4)
    close(found.scores, OPS["det_scores"], 1e-4)
    assert torch.equal(found.classes, tensor("det_classes").long())
    assert torch.equal(rows, tensor("det_rows").long())
    close(rescaled(found, (height, width), (333, 431)).boxes, OPS["det_post_boxes_333x431"], 1e-4)
    terms = box_losses(logits, codes, boxes, tensor("boxloss_classes").long(), tensor("boxloss_gt"))
    close(terms["loss_cls"], OPS["boxloss_cls"], 5e-5)
    close(terms["loss_box_reg"], OPS["boxloss_reg"], 5e-5)


def test_masks() -> None:
    targets = mask_targets(flat_polygons(OPS["mask_polygons"]), tensor("mask_boxes"))
    assert torch.equal(targets, unpacked(OPS["mask_targets_packed"], 8, 28, 28))
    loss = mask_loss(tensor("mask_logits"), tensor("mask_classes").long(), targets)
    close(loss, OPS["mask_loss"], 5e-5)
    height, width = OPS["paste_size"].tolist()
    pasted = paste(tensor("paste_masks"), tensor("paste_boxes"), (height, width))
    wanted = unpacked(OPS["paste_packed"], 6, height, width)
    assert (pasted != wanted).sum() <= 5


def test_levels_and_pooling() -> None:
    assert torch.equal(levels(tensor("level_boxes"), (4, 8, 16, 32)) + 2, tensor("levels").long())
    order = tensor("roi_image").long()
    boxes = [tensor("roi_boxes")[order == n] for n in range(2)]
    back = torch.cat([(order == n).nonzero()[:, 0] for n in range(2)])
    found = pool([tensor("roi_map")], (16,), boxes, 7)
    close(found, tensor("roi_out_7")[back], 1e-4)


# ---- whole networks ----


def _weight(key: str, shape: list[int]) -> Tensor:
    random = np.random.RandomState(zlib.crc32(key.encode()))
    x = random.standard_normal(shape).astype("f4")
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last == "running_var":
        x = 1 + 0.1 * abs(x)
    elif last in ("running_mean", "bias"):
        x = 0.1 * x
    elif len(shape) > 1:
        x = x * np.float32(np.sqrt(1 / np.prod(shape[1:])))
    else:
        x = 1 + 0.1 * x
    return torch.from_numpy(np.asarray(x, "f4"))


def _theirs(name: str) -> str:
    if name.startswith("backbone."):
        return name.removeprefix("backbone.")
    module, _, last = name.rpartition(".")
    while module not in NAMES:
        module, _, before = module.rpartition(".")
        last = f"{before}.{last}"
    return f"{NAMES[module]}.{last}"


def load(kind: str) -> tuple[Detector, dict[str, np.ndarray]]:
    backbone = build_backbone(RESNET50)
    assert isinstance(backbone, ResNetBackbone)
    model: Detector = C4Detector(backbone, 20) if kind == "c4" else FPNDetector(backbone, 80)
    keys = json.loads((GOLDEN / f"det_{kind}_keys.json").read_text())
    shapes = {second: shape for _, second, shape in keys}
    own = {name: _theirs(name) for name in model.state_dict()}
    assert sorted(own.values()) == sorted(shapes)
    model.load_state_dict({name: _weight(key, shapes[key]) for name, key in own.items()})
    return model, dict(np.load(GOLDEN / f"det_{kind}.npz"))


def normal(image: np.ndarray) -> Tensor:
    return (torch.from_numpy(image).float() - MEAN) / STD


def same_boxes(found: Tensor, wanted: np.ndarray) -> None:
    """As sets: 99 % within a hundredth of a pixel of one another."""
    distance = torch.cdist(found, torch.from_numpy(wanted), p=float("inf"))
    assert (distance.min(0).values < 0.01).float().mean() >= 0.99


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_the_network_as_it_detects(kind: str) -> None:
    model, golden = load(kind)
    model.eval()
    with torch.inference_mode():
        batch, sizes = batch_images([normal(golden["image"])], model.divisible)
        assert list(batch.shape[-2:]) == golden["padded_size"].tolist()
        maps = model.maps(batch)
        if kind == "c4":
            close(maps[0][0, ::64], golden["map_res4"], 1e-4)
        else:
            for n, one in enumerate(maps, 2):
                close(one[0, ::32], golden[f"map_p{n}"], 1e-4)
        logits, codes = model.rpn(maps)
        for n, one in enumerate(maps):
            height, width = one.shape[-2:]
            grid = logits[n][0].view(height, width, -1).permute(2, 0, 1)
            close(grid, golden[f"rpn_logits_{n}"], 1e-4)
            grid = codes[n][0].view(height, width, -1).permute(2, 0, 1)
            grid = grid[:, ::2] if kind == "fpn" and n == 0 else grid
            close(grid, golden[f"rpn_deltas_{n}"], 1e-4)
        anchors = model.rpn.anchors(maps)
        close(torch.cat(anchors)[:: 7 if kind == "fpn" else 1], golden["anchors"], 1e-5)
        boxes, _ = model.rpn.propose(anchors, logits, codes, sizes)[0]
        assert len(boxes) == golden["proposal_count"]
        same_boxes(boxes, golden["proposals"])

        given = torch.from_numpy(golden["fixed_proposals"])
        maps = maps[: len(model.strides)]
        pooled = pool(maps, model.strides, [given], model.pooled)
        close(pooled[:, :: 256 if kind == "c4" else 64], golden["fixed_pooled"], 1e-4)
        features = model.features(pooled)
        close(
            features[:, ::16], golden[f"fixed_{'res5_mean' if kind == 'c4' else 'box_head'}"], 1e-4
        )
        classes, deltas = model.predictor(features)
        close(classes, golden["fixed_cls_logits"], 1e-4)
        close(deltas, golden["fixed_box_deltas"], 1e-4)
        found, rows = detect(given, 4 * classes, deltas, sizes[0])
        same_boxes(found.boxes, golden["det_boxes_x4"])
        assert sorted(zip(found.classes.tolist(), rows.tolist(), strict=True)) == sorted(
            zip(golden["det_classes_x4"].tolist(), golden["det_rows_x4"].tolist(), strict=True)
        )
        if model.mask_head is None:
            return
        inside, named = (
            torch.from_numpy(golden["mask_boxes"]),
            torch.from_numpy(golden["mask_classes"]),
        )
        pooled = pool(maps, model.strides, [inside], 14)
        close(pooled[:, ::64], golden["mask_pooled"], 1e-4)
        masks = model.mask_head(pooled)
        close(masks.mean((2, 3)), golden["mask_logits_all_mean"], 1e-4)
        masks = masks[torch.arange(8), named.long()]
        close(masks, golden["mask_logits"], 1e-4)
        height, width = golden["paste_size"].tolist()
        scale = torch.tensor([width / sizes[0][1], height / sizes[0][0]]).repeat(2)
        pasted = paste(masks.sigmoid(), inside * scale, (height, width))
        assert (pasted != unpacked(golden["paste_packed"], 8, height, width)).sum() <= 5


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_the_network_as_it_learns(kind: str) -> None:
    model, golden = load(kind)
    model.train()
    images = [normal(golden[f"train_image_{n}"]) for n in range(2)]
    objects = [
        Objects(
            torch.from_numpy(golden[f"train_boxes_{n}"]),
            torch.from_numpy(golden[f"train_classes_{n}"]).long(),
            flat_polygons(golden[f"train_polygons_{n}"]) if kind == "fpn" else (),
        )
        for n in range(2)
    ]
    batch, _ = batch_images(images, model.divisible)
    assert list(batch.shape[-2:]) == golden["train_padded_size"].tolist()
    maps = model.maps(batch)
    logits, codes = model.rpn(maps)
    anchors = torch.cat(model.rpn.anchors(maps))
    labels = torch.stack([torch.from_numpy(golden[f"rpn_labels_{n}"]).long() for n in range(2)])
    matched = []
    for n, one in enumerate(objects):
        index, raw = match(overlap(one.boxes, anchors), 0.3, 0.7, keep_best=True)
        assert torch.equal(raw, torch.from_numpy(golden[f"rpn_labels_raw_{n}"]).long())
        matched.append(one.boxes[index])
        close(matched[n][labels[n] == POSITIVE], golden[f"rpn_matched_pos_{n}"], 1e-5)
    terms = model.rpn.losses(
        anchors, torch.cat(logits, 1), torch.cat(codes, 1), labels, torch.stack(matched)
    )
    regions = []
    for n, one in enumerate(objects):
        boxes = torch.cat([torch.from_numpy(golden[f"train_proposals_{n}"]), one.boxes])
        index, raw = match(overlap(one.boxes, boxes), 0.5, 0.5, keep_best=False)
        classes = torch.where(raw == POSITIVE, one.classes[index], model.predictor.classes)
        assert [len(boxes), int((raw == POSITIVE).sum())] == golden[f"roi_count_{n}"].tolist()
        regions.append(Regions(boxes, classes, index))
    terms |= model.region_losses(maps, regions, objects)
    for name, value in terms.items():
        assert value.item() == pytest.approx(float(golden[name]), rel=5e-5), name
    total = torch.stack(list(terms.values())).sum()
    assert total.item() == pytest.approx(float(golden["loss_total"]), rel=5e-5)
    total.backward()
    parameters = {_theirs(name): value for name, value in model.named_parameters()}
    for name, wanted in zip(golden["grad_names"].tolist(), golden["grad_norms"], strict=True):
        grad = parameters[name].grad if name in parameters else parameters[_second(kind, name)].grad
        assert grad is not None
        assert grad.norm().item() == pytest.approx(float(wanted), rel=5e-3), name
    norm = model.norm if isinstance(model, C4Detector) else model.get_submodule("box_convs.10")
    for module, name, step in ((model.backbone.bn1, "bn1", 1), (norm, "head_norm", 8)):
        assert isinstance(module, nn.BatchNorm2d)
        close(module.running_mean[::step], golden[f"{name}_running_mean_after"], 1e-5)
        close(module.running_var[::step], golden[f"{name}_running_var_after"], 1e-5)


def _second(kind: str, name: str) -> str:
    keys = json.loads((GOLDEN / f"det_{kind}_keys.json").read_text())
    return next(second for first, second, _ in keys if first == name)


def test_what_is_sampled_follows_from_its_generators() -> None:
    """And every anchor but 256 of an image is ignored."""
    anchors = grid_anchors(cell_anchors((32, 64)), (20, 20), 16)
    boxes = torch.tensor([[10.0, 10.0, 70.0, 80.0]])
    labels = [
        label_anchors(anchors, [boxes], [torch.Generator().manual_seed(seed)])[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])
    assert (labels[0] >= 0).sum() == 256


def test_recomputed_maps_change_neither_gradients_nor_statistics() -> None:
    found = []
    for recompute in (False, True):
        model, golden = load("c4")
        assert isinstance(model, C4Detector)
        model._recompute = recompute
        pooled = torch.from_numpy(golden["fixed_pooled"]).repeat(1, 256, 1, 1)[:4].requires_grad_()
        model.features(pooled).square().sum().backward()
        layer = model.backbone.layer4
        found.append([pooled.grad, *(p.grad for p in layer.parameters()), *layer.buffers()])
    for plain, again in zip(*found, strict=True):
        assert torch.equal(plain, again)


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_images_without_objects_have_finite_losses(kind: str) -> None:
    backbone = build_backbone(resnet(output_stride=32))
    assert isinstance(backbone, ResNetBackbone)
    model = (
        C4Detector(backbone, 3) if kind == "c4" else FPNDetector(backbone, 3, width=8, hidden=16)
    )
    images = [torch.randn(3, 64, 96), torch.randn(3, 70, 64)]
    nothing = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    seeds = Generators(torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    terms = model(images, [nothing, nothing], [seeds, seeds])
    total = torch.stack(list(terms.values())).sum()
    total.backward()
    assert total.isfinite()
    assert terms["loss_rpn_loc"] == 0
    assert terms["loss_box_reg"] == 0


# ---- what training and data need beside the network ----


def test_resized_images() -> None:
    for (height, width, short), wanted in zip(OPS["resize_cases"], OPS["resize_out"], strict=True):
        assert fitted_size(int(height), int(width), (int(short), 1333)) == tuple(wanted)
    image = tensor("resize_image").permute(2, 0, 1)
    for name in ("resized_down", "resized_up"):
        wanted = tensor(name)
        found = resize(image, (wanted.shape[0], wanted.shape[1])).permute(1, 2, 0)
        assert torch.equal(found, wanted)


def test_flipped_objects() -> None:
    before, after = tuple(OPS["resize_image"].shape[:2]), tuple(OPS["flip_size"].tolist())
    box = moved_boxes(OPS["flip_box_in"][None].astype(float), before, after, flip=True)
    np.testing.assert_allclose(box[0], OPS["flip_box_out"], rtol=1e-6)
    polygon = moved(OPS["flip_polygon_in"].reshape(-1, 2).astype(float), before, after, flip=True)
    np.testing.assert_allclose(polygon.ravel(), OPS["flip_polygon_out"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "iterations", "milestones", "warmup"),
    [("voc", 24000, (18000, 22000), 100), ("coco", 90000, (60000, 80000), 1000)],
)
def test_learning_rates(
    name: str, iterations: int, milestones: tuple[int, int], warmup: int
) -> None:
    shares = tuple(one / iterations for one in milestones)
    settings = StepSettings(milestones=shares, warmup_iterations=warmup, warmup_ratio=0.001)
    found = [step_lr(0.02, settings, int(i), iterations) for i in OPS[f"lr_iterations_{name}"]]
    np.testing.assert_allclose(found, OPS[f"lr_{name}"], rtol=1e-9)
    if name == "voc":
        defaults = DetectionTraining()
        assert (defaults.step, defaults.iterations, defaults.lr) == (settings, iterations, 0.02)


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_norms_do_not_decay(kind: str) -> None:
    model, _ = load(kind)
    settings = SgdSettings(kind="sgd", lr=0.02, weight_decay=1e-4, no_decay="norm")
    groups = build_optimizer(settings, model).param_groups
    found = [
        (group["weight_decay"], len(group["params"]), sum(p.numel() for p in group["params"]))
        for group in groups
    ]
    assert found == [tuple(row) for row in OPS[f"decay_{kind}"].tolist()]


def test_precise_statistics() -> None:
    norm = nn.BatchNorm2d(5).train()
    with precise_statistics(norm):
        for n in range(4):
            norm(tensor(f"precise_x_{n}"))
    close(norm.running_mean, OPS["precise_mean"], 1e-5)
    close(norm.running_var, OPS["precise_var"], 1e-5)


def test_objects_of_an_annotation(tmp_path: Path) -> None:
    file = tmp_path / "2008_000008.xml"
    file.write_text(str(OPS["voc_xml"]))
    names = (
        *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
        *("train", "tvmonitor"),
    )
    boxes, classes = as_arrays(read_objects(file, names), names)
    np.testing.assert_allclose(boxes, OPS["voc_boxes"], rtol=1e-6)
    assert classes.tolist() == OPS["voc_classes"].tolist()
