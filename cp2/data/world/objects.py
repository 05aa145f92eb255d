"""Things of the demo world: outlines and surfaces, about one unit high, standing at (0, 0)."""

from collections.abc import Callable, Sequence

import numpy as np

from cp2.data.world.canvas import Part, Points
from cp2.data.world.textures import Colour

Drawer = Callable[[np.random.Generator], list[Part]]
DARK: Colour = (38, 36, 40)
GLASS: Colour = (120, 160, 185)


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    """24 points of an ellipse around (x, y)."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    across, along = rx * np.cos(angle), ry * np.sin(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([x + cos * across - sin * along, y + sin * across + cos * along], 1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Four corners."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def polygon(*corners: tuple[float, float]) -> Points:
    """Corners in order."""
    return np.array(corners, float)


def pick(rng: np.random.Generator, colours: Sequence[Colour], spread: float = 14) -> Colour:
    """One of the colours, varied a little."""
    red, green, blue = np.clip(rng.normal(colours[int(rng.integers(len(colours)))], spread), 8, 250)
    return float(red), float(green), float(blue)


def darker(colour: Colour, factor: float = 0.7) -> Colour:
    """A shade of a colour; above 1 it is lighter."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def aeroplane(rng: np.random.Generator) -> list[Part]:
    """In flight, from the side; the middle of its body is half a unit up."""
    body = pick(rng, [(225, 225, 230), (200, 205, 215), (235, 230, 215)])
    trim = pick(rng, [(190, 40, 40), (30, 70, 160), (230, 150, 30)])
    windows = [Part(box(x, -0.56, x + 0.06, -0.5), DARK) for x in np.arange(-0.7, 0.75, 0.16)]
    return [
        Part(polygon((-0.1, -0.5), (0.25, -0.5), (-0.25, -0.95), (-0.4, -0.95)), darker(body)),
        Part(polygon((-0.75, -0.55), (-1.15, -0.98), (-1.25, -0.98), (-1.1, -0.5)), trim),
        Part(ellipse(0, -0.5, 1.2, 0.16), body),
        Part(ellipse(0.98, -0.55, 0.1, 0.05), DARK),
        *windows,
        Part(polygon((-0.15, -0.45), (0.3, -0.45), (-0.3, 0.0), (-0.5, 0.0)), darker(body, 0.85)),
        Part(ellipse(-0.1, -0.26, 0.13, 0.06), trim),
    ]


def bird(rng: np.random.Generator) -> list[Part]:
    """Perched, with its wing at its side."""
    coat = pick(rng, [(190, 70, 45), (60, 110, 190), (215, 180, 60), (90, 85, 80)])
    belly = pick(rng, [(235, 220, 190), (225, 150, 100)])
    return [
        Part(
            polygon((-0.25, -0.4), (-0.95, -0.12), (-0.85, 0.0), (-0.2, -0.22)), darker(coat, 0.6)
        ),
        Part(box(-0.04, -0.2, 0.0, 0.0), DARK),
        Part(box(0.1, -0.2, 0.14, 0.0), DARK),
        Part(ellipse(0.05, -0.42, 0.45, 0.28, -0.5), belly, "fur"),
        Part(ellipse(-0.05, -0.45, 0.4, 0.2, -0.55), coat, "fur"),
        Part(ellipse(0.35, -0.78, 0.2, 0.19), coat, "fur"),
        Part(polygon((0.5, -0.84), (0.78, -0.74), (0.5, -0.7)), (225, 160, 40)),
        Part(ellipse(0.42, -0.82, 0.04, 0.04), DARK),
        Part(ellipse(-0.12, -0.42, 0.34, 0.13, -0.35), darker(coat, 0.7), "stripes"),
    ]


def boat(rng: np.random.Generator) -> list[Part]:
    """A sailing boat."""
    hull = pick(rng, [(150, 45, 40), (40, 60, 100), (235, 235, 230), (110, 75, 45)])
    sail = pick(rng, [(240, 236, 220), (235, 200, 120), (210, 90, 70)])
    return [
        Part(box(-0.03, -1.0, 0.03, -0.15), (120, 90, 60), "wood"),
        Part(polygon((0.05, -0.97), (0.62, -0.25), (0.05, -0.25)), sail, "cloth"),
        Part(polygon((-0.05, -0.9), (-0.42, -0.25), (-0.05, -0.25)), darker(sail, 0.88), "cloth"),
        Part(polygon((-0.68, -0.2), (0.75, -0.2), (0.52, 0.0), (-0.52, 0.0)), hull),
        Part(polygon((-0.68, -0.2), (0.75, -0.2), (0.72, -0.16), (-0.65, -0.16)), (235, 235, 235)),
    ]


def bus(rng: np.random.Generator) -> list[Part]:
    """A city bus from the side."""
    coat = pick(rng, [(200, 40, 35), (225, 180, 40), (50, 120, 70)])
    windows = [Part(box(x, -0.88, x + 0.26, -0.55), GLASS) for x in np.arange(-0.95, 0.85, 0.32)]
    wheels = [Part(ellipse(x, -0.1, 0.14, 0.13), DARK) for x in (-0.65, 0.65)]
    hubs = [Part(ellipse(x, -0.1, 0.06, 0.055), (150, 150, 150)) for x in (-0.65, 0.65)]
    return [
        Part(box(-1.1, -1.0, 1.1, -0.1), coat),
        Part(box(-1.1, -0.4, 1.1, -0.33), (240, 238, 230)),
        *windows,
        Part(box(1.0, -0.85, 1.1, -0.45), GLASS),
        Part(ellipse(1.06, -0.22, 0.04, 0.04), (250, 240, 180)),
        *wheels,
        *hubs,
    ]


def car(rng: np.random.Generator) -> list[Part]:
    """A saloon car from the side."""
    coat = pick(rng, [(60, 80, 140), (150, 150, 155), (35, 38, 42), (170, 40, 40), (225, 225, 222)])
    cabin = polygon((-0.75, -0.55), (-0.5, -1.0), (0.35, -1.0), (0.75, -0.55))
    front = polygon((-0.08, -0.57), (-0.08, -0.93), (0.3, -0.93), (0.62, -0.57))
    rear = polygon((-0.64, -0.57), (-0.45, -0.93), (-0.14, -0.93), (-0.14, -0.57))
    wheels = [Part(ellipse(x, -0.2, 0.24, 0.2), DARK) for x in (-0.85, 0.85)]
    hubs = [Part(ellipse(x, -0.2, 0.11, 0.09), (165, 165, 165)) for x in (-0.85, 0.85)]
    body = polygon(
        (-1.4, -0.2), (-1.4, -0.5), (-1.2, -0.6), (0.8, -0.6), (1.35, -0.48), (1.45, -0.2)
    )
    return [
        Part(cabin, darker(coat, 0.85)),
        Part(front, GLASS),
        Part(rear, GLASS),
        Part(body, coat),
        Part(ellipse(1.36, -0.4, 0.07, 0.05), (250, 240, 190)),
        *wheels,
        *hubs,
    ]


def cat(rng: np.random.Generator) -> list[Part]:
    """Sitting, facing us."""
    coat = pick(rng, [(205, 130, 60), (130, 125, 120), (70, 60, 55), (215, 190, 150)])
    eye = pick(rng, [(150, 190, 70), (225, 190, 60)])
    eyes = [Part(ellipse(x, -0.77, 0.045, 0.04), eye) for x in (-0.09, 0.09)]
    pupils = [Part(ellipse(x, -0.77, 0.015, 0.035), DARK) for x in (-0.09, 0.09)]
    return [
        Part(ellipse(0.38, -0.16, 0.3, 0.08, -0.9), darker(coat, 0.85), "stripes"),
        Part(ellipse(0, -0.28, 0.34, 0.3), coat, "stripes"),
        Part(ellipse(0, -0.48, 0.23, 0.28), coat, "stripes"),
        Part(ellipse(-0.14, -0.05, 0.1, 0.07), darker(coat, 1.1), "fur"),
        Part(ellipse(0.14, -0.05, 0.1, 0.07), darker(coat, 1.1), "fur"),
        Part(polygon((-0.24, -0.82), (-0.23, -1.0), (-0.05, -0.9)), darker(coat, 0.8), "fur"),
        Part(polygon((0.24, -0.82), (0.23, -1.0), (0.05, -0.9)), darker(coat, 0.8), "fur"),
        Part(ellipse(0, -0.76, 0.25, 0.19), coat, "stripes"),
        Part(ellipse(0, -0.68, 0.1, 0.07), darker(coat, 1.25), "fur"),
        *eyes,
        *pupils,
        Part(polygon((-0.03, -0.71), (0.03, -0.71), (0, -0.68)), (200, 110, 110)),
    ]


def sheep(rng: np.random.Generator) -> list[Part]:
    """Grazing height, woolly."""
    wool = pick(rng, [(232, 226, 210), (205, 195, 175)])
    face = pick(rng, [(50, 45, 42), (120, 105, 90)])
    angles = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    lumps = [
        Part(ellipse(0.48 * np.cos(a), -0.55 + 0.2 * np.sin(a), 0.24, 0.2), wool, "wool")
        for a in angles
    ]
    legs = [Part(box(x, -0.35, x + 0.09, 0.0), face) for x in (-0.45, -0.28, 0.22, 0.4)]
    return [
        *legs,
        *lumps,
        Part(ellipse(0, -0.55, 0.5, 0.26), wool, "wool"),
        Part(ellipse(0.62, -0.86, 0.1, 0.05, 0.5), darker(face, 0.8), "fur"),
        Part(ellipse(0.76, -0.72, 0.15, 0.2, -0.5), face, "fur"),
        Part(ellipse(0.66, -0.9, 0.16, 0.1), wool, "wool"),
    ]


def person(rng: np.random.Generator) -> list[Part]:
    """Standing."""
    shirt = pick(rng, [(170, 50, 60), (50, 90, 160), (210, 200, 90), (80, 140, 90)])
    trousers = pick(rng, [(50, 55, 80), (90, 80, 65), (35, 35, 38)])
    skin = pick(rng, [(224, 180, 150), (160, 110, 80), (105, 70, 50)], 8)
    hair = pick(rng, [(45, 32, 25), (120, 80, 40), (30, 28, 28)], 8)
    stride = rng.uniform(0.02, 0.12)
    legs = [
        Part(polygon((x, -0.5), (x + 0.1, -0.5), (x + 0.09 + s, 0), (x + s, 0)), trousers, "cloth")
        for x, s in ((-0.11, -stride), (0.01, stride))
    ]
    return [
        *legs,
        Part(ellipse(-0.17, -0.64, 0.045, 0.2, 0.2), darker(shirt, 0.8), "cloth"),
        Part(polygon((-0.15, -0.84), (0.15, -0.84), (0.12, -0.46), (-0.12, -0.46)), shirt, "cloth"),
        Part(ellipse(0.17, -0.64, 0.045, 0.2, -0.2), darker(shirt, 0.9), "cloth"),
        Part(ellipse(0, -0.93, 0.075, 0.08), hair),
        Part(ellipse(0.01, -0.91, 0.065, 0.07), skin),
    ]


def tree(rng: np.random.Generator) -> list[Part]:
    """Broad-leaved."""
    green = pick(rng, [(60, 105, 45), (85, 125, 50), (110, 115, 40), (40, 85, 50)])
    crown = [
        Part(
            ellipse(rng.uniform(-0.24, 0.24), rng.uniform(-0.82, -0.48), 0.24, 0.19),
            darker(green, rng.uniform(0.75, 1.2)),
            "leaves",
        )
        for _ in range(7)
    ]
    return [Part(polygon((-0.05, -0.5), (0.05, -0.5), (0.08, 0), (-0.08, 0)), (95, 70, 50), "rock"),
            *crown]  # fmt: skip


def church(rng: np.random.Generator) -> list[Part]:
    """Nave and tower."""
    wall = pick(rng, [(215, 205, 185), (180, 110, 85), (190, 185, 180)])
    roof = pick(rng, [(120, 60, 45), (75, 75, 85)])
    windows = [Part(box(x, -0.34, x + 0.1, -0.12), (60, 70, 95)) for x in (-0.05, 0.18, 0.41)]
    return [
        Part(box(-0.1, -0.45, 0.65, 0), wall, "brick"),
        Part(polygon((-0.12, -0.45), (0.0, -0.68), (0.58, -0.68), (0.7, -0.45)), roof, "stripes"),
        *windows,
        Part(box(-0.42, -0.68, -0.1, 0), darker(wall, 0.9), "brick"),
        Part(polygon((-0.45, -0.68), (-0.26, -1.0), (-0.07, -0.68)), roof),
        Part(box(-0.32, -0.2, -0.2, 0), (80, 55, 40), "wood"),
    ]


def sign(rng: np.random.Generator) -> list[Part]:
    """Face of a traffic sign; its pole is drawn apart, for it has a label of its own."""
    face = pick(rng, [(200, 35, 35), (30, 80, 170), (235, 190, 40)])
    return [
        Part(ellipse(0, -0.86, 0.14, 0.14), (235, 235, 235)),
        Part(ellipse(0, -0.86, 0.115, 0.115), face),
        Part(box(-0.07, -0.885, 0.07, -0.835), (240, 240, 240)),
    ]


def pole(rng: np.random.Generator) -> list[Part]:
    """What carries a sign or a lamp."""
    return [Part(box(-0.02, -1.0, 0.02, 0), pick(rng, [(125, 128, 130)]))]


def bed(rng: np.random.Generator) -> list[Part]:
    """From its long side."""
    cover = pick(rng, [(70, 90, 150), (170, 80, 90), (120, 150, 110), (220, 205, 180)])
    return [
        Part(box(-1.3, -1.0, -1.15, 0), (110, 75, 45), "wood"),
        Part(box(-1.2, -0.5, 1.2, -0.1), darker(cover, 0.8), "cloth"),
        Part(box(-0.6, -0.58, 1.2, -0.2), cover, "cloth"),
        Part(ellipse(-0.9, -0.58, 0.26, 0.13), (238, 236, 230), "cloth"),
        Part(box(1.12, -0.65, 1.22, 0), (110, 75, 45), "wood"),
    ]


def chair(rng: np.random.Generator) -> list[Part]:
    """From the side."""
    wood = pick(rng, [(150, 100, 55), (90, 60, 40), (60, 60, 65)])
    legs = [Part(box(x, -0.45, x + 0.07, 0), darker(wood, 0.85), "wood") for x in (-0.28, 0.22)]
    return [
        *legs,
        Part(box(-0.3, -1.0, -0.2, -0.4), wood, "wood"),
        Part(box(-0.3, -0.52, 0.32, -0.42), wood, "wood"),
    ]


def lamp(rng: np.random.Generator) -> list[Part]:
    """A standard lamp."""
    shade = pick(rng, [(245, 225, 160), (230, 180, 120)])
    return [
        Part(box(-0.02, -0.75, 0.02, 0), DARK),
        Part(ellipse(0, -0.01, 0.14, 0.025), DARK),
        Part(polygon((-0.12, -1.0), (0.12, -1.0), (0.2, -0.72), (-0.2, -0.72)), shade, "cloth"),
    ]
