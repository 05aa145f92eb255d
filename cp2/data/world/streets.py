"""Streets as from a car, labelled with Cityscapes' labelIds."""

import numpy as np

from cp2.data.world import objects
from cp2.data.world.canvas import Canvas, Pose
from cp2.data.world.objects import Drawer, pick
from cp2.data.world.scenery import SKIES, STONES, Scene, fill_band
from cp2.data.world.scenes import THINGS

LABEL_IDS = {
    "ego vehicle": 1,
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "pole": 17,
    "traffic sign": 20,
    "vegetation": 21,
    "sky": 23,
    "person": 24,
    "car": 26,
    "bus": 28,
}


def street_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """A road in perspective, the road in the middle."""
    ids = LABEL_IDS
    canvas = Canvas(rng, height, width)
    horizon, middle = rng.uniform(0.36, 0.46), rng.uniform(0.42, 0.58)
    fill_band(canvas, 0, 1, pick(rng, SKIES), "sky", ids["sky"])
    fill_band(canvas, horizon, 1, pick(rng, [(160, 155, 150), (175, 160, 150)]), "brick",
               ids["sidewalk"])  # fmt: skip
    road = [(middle - 0.05, horizon), (middle + 0.05, horizon), (1.0, 1.0), (0.0, 1.0)]
    canvas.fill(road, pick(rng, [(95, 95, 98), (115, 110, 108)]), "asphalt", ids["road"])
    for near in (0.5, 0.66, 0.86):
        centre = middle + (0.5 - middle) * (near - horizon) / (1 - horizon)
        corners = ((-0.006, 0.0), (0.006, 0.0), (0.009, 0.07), (-0.009, 0.07))
        line = [(centre + dx, near + dy) for dx, dy in corners]
        canvas.fill(line, (225, 225, 220), "plain", ids["road"])
    for side in (-1, 1):
        _house_row(canvas, middle, horizon, side)
    for _ in range(rng.integers(1, 4)):
        _beside_road(canvas, objects.tree, (0.35, 0.6), middle, ids["vegetation"])
    _sign_post(canvas, middle)
    for _ in range(rng.integers(1, 4)):
        _beside_road(canvas, objects.person, (0.22, 0.38), middle, ids["person"])
    for foot in np.sort(rng.uniform(horizon + 0.12, 0.85, rng.integers(1, 4))):
        name = "bus" if rng.random() < 0.3 else "car"
        nearness = (foot - horizon) / (1 - horizon)
        size = (0.12 + 0.3 * nearness) * (1.5 if name == "bus" else 1)
        pose = Pose(
            middle + rng.uniform(-0.3, 0.3) * nearness, float(foot), size, rng.random() < 0.5
        )
        canvas.shadow(pose, THINGS[name].half_width)
        canvas.stamp(THINGS[name].draw(rng), pose, ids[name])
    fill_band(canvas, 0.95, 1, (45, 45, 50), "plain", ids["ego vehicle"])
    return canvas.develop()


def _house_row(canvas: Canvas, middle: float, horizon: float, side: int) -> None:
    rng = canvas.rng
    edge = middle + side * 0.06
    while -0.1 < edge < 1.1:
        depth = abs(edge - middle)
        end = edge + side * rng.uniform(0.1, 0.2)
        top = max(0.0, horizon - 0.12 - depth * rng.uniform(0.4, 0.9))
        foot = horizon + 0.03 + 0.5 * depth * 0.4
        wall = [(edge, top), (end, top - 0.02), (end, foot + 0.03), (edge, foot)]
        canvas.fill(wall, pick(rng, STONES), "panes", LABEL_IDS["building"])
        edge = end


def _beside_road(
    canvas: Canvas, draw: Drawer, heights: tuple[float, float], middle: float, label: int
) -> None:
    rng = canvas.rng
    side = 1 if rng.random() < 0.5 else -1
    pose = Pose(middle + side * rng.uniform(0.26, 0.45), rng.uniform(0.58, 0.72),
                rng.uniform(*heights), rng.random() < 0.5)  # fmt: skip
    canvas.shadow(pose, 0.3)
    canvas.stamp(draw(rng), pose, label)


def _sign_post(canvas: Canvas, middle: float) -> None:
    rng = canvas.rng
    side = 1 if rng.random() < 0.5 else -1
    pose = Pose(middle + side * rng.uniform(0.24, 0.38), 0.68, rng.uniform(0.4, 0.55))
    canvas.stamp(objects.pole(rng), pose, LABEL_IDS["pole"])
    canvas.stamp(objects.sign(rng), pose, LABEL_IDS["traffic sign"])
