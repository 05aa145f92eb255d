"""Landscapes with objects, labelled with VOC's classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cp2.data.world import objects
from cp2.data.world.canvas import Canvas, Pose
from cp2.data.world.objects import Drawer, pick
from cp2.data.world.scenery import GREENS, SKIES, WATERS, Scene, fill_band, ridge, skyline

# class ids as VOC's palette pictures store them
VOC_IDS = {
    "aeroplane": 1,
    "bird": 3,
    "boat": 4,
    "bus": 6,
    "car": 7,
    "cat": 8,
    "person": 15,
    "sheep": 17,
}


class Thing(NamedTuple):
    """An object that a scene can hold."""

    name: str
    draw: Drawer
    half_width: float  # in units of its height
    height: tuple[float, float]  # share of the picture's height
    where: str  # "ground", "sky" or "water"


THINGS = {
    thing.name: thing
    for thing in (
        Thing("aeroplane", objects.aeroplane, 1.2, (0.22, 0.42), "sky"),
        Thing("bird", objects.bird, 0.7, (0.25, 0.5), "ground"),
        Thing("boat", objects.boat, 0.7, (0.4, 0.75), "water"),
        Thing("bus", objects.bus, 1.1, (0.3, 0.55), "ground"),
        Thing("car", objects.car, 1.4, (0.2, 0.38), "ground"),
        Thing("cat", objects.cat, 0.45, (0.4, 0.75), "ground"),
        Thing("person", objects.person, 0.2, (0.45, 0.8), "ground"),
        Thing("sheep", objects.sheep, 0.8, (0.28, 0.52), "ground"),
        Thing("tree", objects.tree, 0.45, (0.5, 0.9), "ground"),
        Thing("church", objects.church, 0.6, (0.5, 0.85), "ground"),
    )
}
_LANDS = {
    "ground": ("meadow", "street", "beach"),
    "sky": ("meadow", "beach", "sea"),
    "water": ("sea",),
}
_COMPANY = {
    "meadow": ("sheep", "bird", "cat", "person", "aeroplane"),
    "street": ("bus", "car", "person", "cat", "bird"),
    "beach": ("bird", "person", "cat", "aeroplane"),
    "sea": ("boat", "aeroplane"),
}


def object_scene(rng: np.random.Generator, height: int, width: int, names: Sequence[str]) -> Scene:
    """1 to 3 objects of distinct classes in a landscape; the first of `names` is among them.

    Labels: 0 is background, i + 1 is names[i].
    """
    main = THINGS[names[0]]
    lands = _LANDS[main.where]
    land = lands[rng.integers(len(lands))]
    canvas = Canvas(rng, height, width)
    horizon = _landscape(canvas, land)
    others = [name for name in _COMPANY[land] if name in names and name != main.name]
    count = min(len(others), int(rng.choice([0, 1, 2], p=[0.45, 0.4, 0.15])))
    chosen = [THINGS[str(name)] for name in rng.permutation(others)[:count]] + [main]
    feet = np.sort(rng.uniform(horizon + 0.25, 0.98, len(chosen)))  # the nearest hides the others
    for thing, foot in zip(chosen, feet, strict=True):
        _place(canvas, thing, float(foot), horizon, names.index(thing.name) + 1)
    return canvas.develop()


def voc_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Labels are VOC's: 0 background, then a few of its 20 classes."""
    names = [str(name) for name in rng.permutation(list(VOC_IDS))]
    image, labels = object_scene(rng, height, width, names)
    ids = np.array([0, *(VOC_IDS[name] for name in names)], np.uint8)
    return image, ids[labels]


def _place(canvas: Canvas, thing: Thing, foot: float, horizon: float, label: int) -> None:
    rng = canvas.rng
    height = rng.uniform(*thing.height)
    share = thing.half_width * height * canvas.height / canvas.width  # of the picture's width
    height *= min(1.0, 0.52 / share)  # a long object fits in, nearly
    x = rng.uniform(0.25, 0.75)
    mirrored = bool(rng.integers(2))
    if thing.where == "sky":
        top = rng.uniform(height + 0.02, max(height + 0.04, horizon + 0.1))
        pose = Pose(x, top, height, mirrored, rng.uniform(-0.25, 0.25))
    else:
        pose = Pose(x, foot, height, mirrored, rng.uniform(-0.04, 0.04))
        canvas.shadow(pose, thing.half_width)
    canvas.stamp(thing.draw(rng), pose, label)


def _landscape(canvas: Canvas, land: str) -> float:
    """Sky and ground, all labelled 0; returns the horizon's height as a share from the top."""
    rng = canvas.rng
    horizon = rng.uniform(0.3, 0.55)
    fill_band(canvas, 0, 1, pick(rng, SKIES), "sky", 0)
    if land == "street":
        skyline(canvas, horizon, 0)
        fill_band(canvas, horizon, 1, pick(rng, [(125, 122, 118), (95, 95, 100)]), "asphalt", 0)
        return horizon
    if land != "sea":
        ridge(canvas, horizon, pick(rng, [(110, 130, 120), (130, 125, 120)]), 0)
    if land == "meadow":
        fill_band(canvas, horizon, 1, pick(rng, GREENS), "grass", 0)
        for _ in range(rng.integers(0, 3)):
            pose = Pose(rng.uniform(0, 1), horizon + 0.04, rng.uniform(0.15, 0.3))
            canvas.stamp(objects.tree(rng), pose, 0)
    else:
        fill_band(canvas, horizon, 1, pick(rng, WATERS), "water", 0)
    if land == "beach":
        shore = horizon + 0.12
        fill_band(canvas, shore, 1, pick(rng, [(215, 195, 150), (200, 175, 135)]), "sand", 0)
    return horizon
