"""Figures of what a backbone sees: views, matches, overlaps, similarity, moments of a training."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F

from cp2.drawing.crops import overlap
from cp2.errors import UserError
from cp2.methods.registry import build_networks
from cp2.models.backbones import build_backbone
from cp2.models.weights import save_weights
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.reporting.figures import correspondence as matching
from cp2.reporting.figures.encoded import (
    SHARED,
    SIDE,
    Moment,
    features,
    latest,
    moments,
    two_views,
)
from cp2.reporting.figures.similarity import SHORT_SIDE, similarity, similarity_map
from cp2.settings.load import Configuration, load_campaign

CAMPAIGN = """
title: figures
scale: demo
base: demo
tables: [cp2_deeplabv3, cp2_fcn, demo_methods]
execution: {{results: {folder}/results}}
"""


class Colours(nn.Module):
    """A backbone whose features are mean colours: only the same place looks the same."""

    stride, channels = 16, 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(images, 16)


def scene(height: int = 90, width: int = 120) -> torch.Tensor:
    """Red rises downwards, green to the right: each place has a colour of its own."""
    rows = torch.linspace(0, 255, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 255, width)[None].expand(height, width)
    return torch.stack([rows, columns, torch.full((height, width), 90.0)]).to(torch.uint8)


@pytest.fixture
def campaign(tmp_path: Path) -> tuple[Configuration, Plan]:
    file = tmp_path / "figures.yaml"
    file.write_text(CAMPAIGN.format(folder=tmp_path))
    configuration = load_campaign(str(file))
    return configuration, build_plan(configuration)


def run_of(plan: Plan, method: str) -> Run:
    return next(r for r in plan.stage("pretrain") if r.tags["method"] == method)


@pytest.mark.parametrize("seed", range(5))
def test_two_views_share_a_part_and_know_their_boxes(seed: int) -> None:
    image = scene()
    views = two_views(image, 64, seed)
    boxes = [tuple(box[:4].tolist()) for box in views.boxes]
    assert min(overlap(*boxes), overlap(*boxes[::-1])) >= SHARED
    for pixels, box in zip(views.pixels, views.boxes, strict=True):
        top, left, height, width, mirrored, *extent = box.tolist()
        assert extent == [90, 120]
        assert 0 <= top <= 90 - height
        assert 0 <= left <= 120 - width
        corners = image[1, top, [left, left + width - 1]].tolist()
        found = pixels[1, 32, [0, 63]].tolist()
        assert found == pytest.approx(corners[::-1] if mirrored else corners, abs=5)
    again = two_views(image, 64, seed)
    assert torch.equal(views.pixels, again.pixels)


def test_matches_are_judged_by_their_place() -> None:
    """Against a slow loop; and colours that tell the place are matched at the right place."""
    views = two_views(scene(), SIDE * 16, seed=3)
    index, score, mutual = matching.matches(Moment("m", Colours()), views.pixels)
    right = matching.judged(views.boxes, index)

    def centre(view: int, cell: int) -> np.ndarray:
        top, left, height, width, mirrored = views.boxes[view, :5].tolist()
        row, column = divmod(cell, SIDE)
        column = SIDE - 1 - column if mirrored else column
        return np.array([top + (row + 0.5) / SIDE * height, left + (column + 0.5) / SIDE * width])

    reach = max(np.hypot(*box[2:4].tolist()) / SIDE for box in views.boxes)
    for cell in range(0, SIDE**2, 17):
        distances = [np.linalg.norm(centre(0, cell) - centre(1, other)) for other in range(SIDE**2)]
        assert bool(right[cell]) == (distances[int(index[cell])] <= reach)
    assert right[mutual].float().mean() > 0.8
    assert (score <= 1 + 1e-6).all()


def test_only_cells_that_find_each_other_are_drawn() -> None:
    """Against a loop over both directions."""
    torch.manual_seed(0)
    views = torch.randint(0, 256, (2, 3, SIDE * 16, SIDE * 16), dtype=torch.uint8)
    moment = Moment("m", Colours())
    index, _, mutual = matching.matches(moment, views)
    maps = features(moment.backbone, views).flatten(2)
    cosines = maps[0].T @ maps[1]
    for cell in range(SIDE**2):
        other = int(cosines[cell].argmax())
        assert int(index[cell]) == other
        assert bool(mutual[cell]) == (int(cosines[:, other].argmax()) == cell)
    assert 0 < mutual.sum() < SIDE**2


def test_cells_do_not_see_where_the_image_ends() -> None:
    """With zeros beyond the edge, the cells of an image of one colour would differ there."""
    torch.manual_seed(0)
    settings = tiny.resnet((4, 4, 4, 4), output_stride=16)
    backbone = build_backbone(settings).eval()
    flat = torch.full((1, 3, SIDE * 16, SIDE * 16), 200, dtype=torch.uint8)
    maps = features(backbone, flat)
    assert maps.shape == (1, backbone.channels, SIDE, SIDE)
    torch.testing.assert_close(maps, maps[..., 7:8, 7:8].expand_as(maps), atol=1e-5, rtol=0)
    plain = F.normalize(backbone(flat / 255), dim=1)
    assert (plain[..., 0, 0] - plain[..., 7, 7]).abs().max() > 1e-3


def test_the_lowest_matches_of_the_overlap() -> None:
    score = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.2])
    mask = torch.tensor([True, False, True, True, True])
    assert matching.lowest_inside(mask, score) == [4, 3, 2, 0]


@pytest.mark.parametrize(("pixel", "cell"), [((0.0, 0.0), (0, 0)), ((1.0, 1.0), (-1, -1))])
def test_a_pixel_is_most_similar_to_itself(
    pixel: tuple[float, float], cell: tuple[int, int]
) -> None:
    heat = similarity_map(Moment("m", Colours()), scene(), pixel)
    assert heat.shape == (SHORT_SIDE, round(SHORT_SIDE * 120 / 90))
    assert heat[cell] == pytest.approx(1, abs=1e-5)
    assert heat.max() <= 1 + 1e-5
    assert heat[cell] - heat[-1 - cell[0], -1 - cell[1]] > 0.5


def test_the_figures_are_pictures(tmp_path: Path) -> None:
    images, columns = [scene(), scene(60, 50)], [Moment("a", Colours()), Moment("b", Colours())]
    found = [
        matching.correspondence(images, columns, tmp_path, "correspondence"),
        similarity(images, (0.2, 0.7), columns, tmp_path, "attention"),
        matching.overlaps(images, columns[0], tmp_path, "overlap"),
    ]
    for figure in found:
        assert figure.png.stat().st_size > 10_000
        assert figure.svg is None
        assert figure.pictures


def test_moments_of_a_training(campaign: tuple[Configuration, Plan]) -> None:
    configuration, plan = campaign
    run, results = run_of(plan, "densecl"), configuration.results
    folder = run.folder(results).path
    (folder / "snapshots").mkdir(parents=True)
    weights = {}
    for seed, name in enumerate(("snapshots/epoch-2", "snapshots/epoch-1", "model")):
        torch.manual_seed(100 + seed)
        weights[name] = build_backbone(run.recipe.backbone).state_dict()
        save_weights(folder / f"{name}.safetensors", {"backbone": weights[name]}, {})
    (folder / "done.json").write_text("{}")
    found = moments(run, results)
    titles = ["random weights", "epoch 1", "epoch 2", f"epoch {run.recipe.epochs}"]
    assert [moment.title for moment in found] == titles
    names = ["snapshots/epoch-1", "snapshots/epoch-2", "model"]
    for moment, name in zip(found[1:], names, strict=True):
        assert torch.equal(moment.backbone.conv1.weight, weights[name]["conv1.weight"])
        assert not moment.backbone.training
    assert {moment.backbone.stride for moment in found} == {16}
    torch.manual_seed(run.seed)
    drawn = build_backbone(run.recipe.backbone, conv_init=run.recipe.method.conv_init)
    assert torch.equal(found[0].backbone.conv1.weight, drawn.conv1.weight)


def test_a_run_under_way_is_shown_as_it_was_saved(campaign: tuple[Configuration, Plan]) -> None:
    configuration, plan = campaign
    run, results = run_of(plan, "moco-v2"), configuration.results
    with pytest.raises(UserError, match="neither finished nor saved its state yet"):
        latest(run, results)
    state = run.folder(results).state
    state.mkdir(parents=True)
    backbone = build_backbone(run.recipe.backbone)
    module = {f"encoders.query.backbone.{k}": v for k, v in backbone.state_dict().items()}
    module |= {k.replace("query", "key"): torch.zeros_like(v) for k, v in module.items()}
    (state / "last.pt").write_bytes(b"damaged")
    torch.save({"step": 40, "module": module}, state / "previous.pt")
    moment = latest(run, results)
    assert moment.title == "step 40"
    assert torch.equal(moment.backbone.conv1.weight, backbone.conv1.weight)


@pytest.mark.parametrize(
    ("method", "exported"), [("simclr", "encoder"), ("slotcon", "encoders.key")]
)
def test_a_state_is_shown_by_the_network_that_its_method_exports(
    method: str, exported: str, campaign: tuple[Configuration, Plan]
) -> None:
    configuration, plan = campaign
    run = run_of(plan, method)
    state = run.folder(configuration.results).state
    state.mkdir(parents=True)
    made = build_networks(run.recipe)
    for name, parameter in made.named_parameters():
        parameter.data += "key" in name  # a teacher is not its student
    torch.save({"step": 4, "module": made.state_dict()}, state / "last.pt")
    moment = latest(run, configuration.results)
    expected = made.get_submodule(f"{exported}.backbone").conv1.weight
    assert torch.equal(moment.backbone.conv1.weight, expected)


def test_a_stage_without_a_backbone(campaign: tuple[Configuration, Plan]) -> None:
    configuration, plan = campaign
    with pytest.raises(UserError, match="give a pretrain, checkpoint or finetune run"):
        moments(plan.run("dataset", "demo-imagenet"), configuration.results)
    run = next(iter(plan.stage("finetune")))
    with pytest.raises(UserError, match="is not done yet"):
        moments(run, configuration.results)
