"""Rooms and landscapes in which everything is labelled, with ADE20K's values (0 is other)."""

import numpy as np

from cp2.data.world import objects
from cp2.data.world.canvas import Canvas, Pose
from cp2.data.world.objects import Drawer, pick
from cp2.data.world.scenery import GREENS, SKIES, WATERS, Scene, fill_band, ridge

LABELS = {
    "other": 0,
    "wall": 1,
    "sky": 3,
    "floor": 4,
    "tree": 5,
    "road": 7,
    "bed": 8,
    "windowpane": 9,
    "grass": 10,
    "person": 13,
    "door": 15,
    "mountain": 17,
    "chair": 20,
    "car": 21,
    "water": 22,
    "painting": 23,
    "house": 26,
    "lamp": 37,
}


def ade_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """A room or a landscape in which everything is labelled; one of the two."""
    canvas = Canvas(rng, height, width)
    (_room if rng.random() < 0.5 else _countryside)(canvas)
    return canvas.develop()


def _room(canvas: Canvas) -> None:
    rng, ids = canvas.rng, LABELS
    base = rng.uniform(0.6, 0.72)
    paint = pick(rng, [(215, 205, 185), (170, 190, 195), (205, 170, 150), (190, 200, 170)])
    fill_band(canvas, 0, 1, paint, "plain", ids["wall"])
    fill_band(canvas, base, 1, pick(rng, [(150, 110, 70), (175, 140, 100)]), "wood", ids["floor"])
    fill_band(canvas, base - 0.02, base, (235, 232, 225), "plain", ids["other"])  # skirting
    left, middle, right = rng.permutation([0.17, 0.5, 0.83])
    window = [(left - 0.12, 0.12), (left + 0.12, 0.12), (left + 0.12, 0.45), (left - 0.12, 0.45)]
    canvas.fill(window, pick(rng, SKIES), "panes", ids["windowpane"])
    door = [(middle - 0.1, 0.15), (middle + 0.1, 0.15), (middle + 0.1, base), (middle - 0.1, base)]
    canvas.fill(door, pick(rng, [(125, 80, 50), (225, 220, 210)]), "wood", ids["door"])
    art = [(right - 0.08, 0.16), (right + 0.08, 0.16), (right + 0.08, 0.38), (right - 0.08, 0.38)]
    canvas.fill(art, pick(rng, [(180, 70, 60), (60, 90, 150), (220, 180, 60)]), "rock",
                ids["painting"])  # fmt: skip
    furniture: list[tuple[str, Drawer, float, float]] = [
        ("lamp", objects.lamp, 0.3, rng.uniform(0.45, 0.6)),
        ("chair", objects.chair, 0.4, rng.uniform(0.3, 0.45)),
        ("bed", objects.bed, 1.2, rng.uniform(0.3, 0.42)),
        ("person", objects.person, 0.2, rng.uniform(0.55, 0.75)),
    ]
    chosen = rng.choice(len(furniture), rng.integers(2, 4), replace=False)
    for index, foot in zip(
        chosen, np.sort(rng.uniform(base + 0.06, 0.97, len(chosen))), strict=True
    ):
        name, draw, half_width, size = furniture[index]
        pose = Pose(rng.uniform(0.15, 0.85), float(foot), size, rng.random() < 0.5)
        canvas.shadow(pose, half_width)
        canvas.stamp(draw(rng), pose, ids[name])


def _countryside(canvas: Canvas) -> None:
    rng, ids = canvas.rng, LABELS
    horizon = rng.uniform(0.35, 0.5)
    fill_band(canvas, 0, 1, pick(rng, SKIES), "sky", ids["sky"])
    ridge(canvas, horizon, pick(rng, [(115, 120, 130), (130, 115, 100)]), ids["mountain"])
    fill_band(canvas, horizon, 1, pick(rng, GREENS), "grass", ids["grass"])
    if rng.random() < 0.5:
        fill_band(canvas, horizon, horizon + 0.15, pick(rng, WATERS), "water", ids["water"])
    if rng.random() < 0.6:
        top = rng.uniform(0.72, 0.8)
        fill_band(canvas, top, top + 0.15, (110, 108, 105), "asphalt", ids["road"])
        pose = Pose(rng.uniform(0.2, 0.8), top + 0.12, rng.uniform(0.16, 0.24), rng.random() < 0.5)
        canvas.stamp(objects.car(rng), pose, ids["car"])
    things: list[tuple[str, Drawer, float]] = [
        ("tree", objects.tree, rng.uniform(0.4, 0.7)),
        ("house", objects.church, rng.uniform(0.35, 0.55)),
        ("tree", objects.tree, rng.uniform(0.3, 0.5)),
        ("person", objects.person, rng.uniform(0.4, 0.6)),
    ]
    chosen = rng.choice(len(things), rng.integers(2, 4), replace=False)
    for index in sorted(chosen):
        name, draw, size = things[index]
        foot = rng.uniform(0.85, 0.98) if name == "person" else rng.uniform(horizon + 0.15, 0.7)
        pose = Pose(rng.uniform(0.1, 0.9), foot, size, rng.random() < 0.5)
        canvas.shadow(pose, 0.4)
        canvas.stamp(draw(rng), pose, ids[name])
