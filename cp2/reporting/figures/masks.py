"""Every kind of foreground mask on images of the campaign (the paper's Figure 4)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from cp2.augment.views import crop
from cp2.data.attention_maps import AttentionMaps
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetIndex, read_index
from cp2.drawing import counters
from cp2.drawing.attention import attention_mask
from cp2.drawing.crops import Box, draw_crop
from cp2.drawing.masks import draw_masks
from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.reporting.figures.drawing import ReportFigure, save
from cp2.settings.masks import (
    BlocksMaskSettings,
    DinoMaskSettings,
    FullMaskSettings,
    MaskSettings,
    PatchesMaskSettings,
    PolygonMaskSettings,
    RectangleMaskSettings,
)
from cp2.settings.methods import CopyPasteSettings

EXAMPLES = 3  # composed images of each kind
TITLES = {
    "rectangle": "rectangle",
    "polygon": "polygon",
    "blocks": "random blocks",
    "patches": "random patches",
    "dino": "self-attention\n(DINO)",
    "full": "no copy-paste",
}


class _View(NamedTuple):
    number: int  # of the image in its split
    extent: tuple[int, int]  # height and width of the image
    box: Box
    pixels: np.ndarray  # uint8 (S, S, 3)


def mask_examples(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """Masks and composed images, without colour changes, from the first such pretraining's images.

    A kind is drawn with the settings of the campaign's first run that uses it, else with the
    default ones; DINO's where its maps have been computed.
    """
    runs = [(run, method) for run in plan.stage("pretrain") if (method := _composed(run))]
    runs = [(run, method) for run, method in runs if plan.runs[run.needs[0]].is_done(results)]
    if not runs:
        return None
    index = read_index(runs[0][0].needed_folder("dataset", results).path)
    views = _views(index, runs[0][1])
    if len(views) < 2 * EXAMPLES:
        return None
    pairs = list(zip(views[::2], views[1::2], strict=True))
    maps = _maps(plan, results, index)
    columns = [("foreground,\nbackground", [(f.pixels, b.pixels) for f, b in pairs])]
    for mask in _kinds([method for _, method in runs], maps is not None):
        columns.append((TITLES[mask.kind], [_compose(mask, f, b, maps) for f, b in pairs]))
    size = (1.15 * len(columns), 2.4 * EXAMPLES + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for panel, (title, pictures) in zip(panels, columns, strict=True):
        panel.set_axis_off()
        panel.imshow(_stack(pictures), interpolation="none")
        panel.set_title(title, fontsize=8)
    caption = (
        f"Images of {index.record.name}: above the mask, below it the composed image, whose "
        "foreground and background are in the first column. The mask lies on the foreground; both "
        "keep their places. Views are shown without changes of colour. Columns: "
        + ", ".join(title.replace("\n", " ") for title, _ in columns)
        + "."
    )
    return save(figure, folder, "masks", "Foreground masks", caption, pictures=True)


def _composed(run: Run) -> CopyPasteSettings | None:
    method = run.recipe.method if isinstance(run.recipe, PretrainRecipe) else None
    return method if isinstance(method, CopyPasteSettings) else None


def _views(index: DatasetIndex, method: CopyPasteSettings) -> list[_View]:
    """Crops of images spread over the data set; unreadable images are passed over."""
    paths = index.paths(index.pretraining_split)
    views: list[_View] = []
    for number in counters.permutation(len(paths), 0, counters.FOREGROUND_ORDER, 0):
        if len(views) == 2 * EXAMPLES:
            break
        try:
            image = decode_rgb(paths[number])
        except WrongFile:
            continue
        extent = (image.shape[1], image.shape[2])
        rng = counters.generator(0, counters.VIEWS, 0, len(views))
        box = draw_crop(rng, *extent, method.views.crop_scale, method.views.crop_ratio)
        pixels = crop(image, box, method.views.crop_size).permute(1, 2, 0).numpy()
        views.append(_View(int(number), extent, box, pixels))
    return views


def _maps(plan: Plan, results: Path, index: DatasetIndex) -> AttentionMaps | None:
    """Attention of the data set's images, if some run needs it and it has been computed."""
    for run in plan.stage("masks"):
        if run.tags["dataset"] == index.record.name and run.is_done(results):
            maps = AttentionMaps(run.folder(results).path)
            maps.check(index)
            return maps
    return None


def _kinds(methods: list[CopyPasteSettings], dino: bool) -> list[MaskSettings]:
    """One mask of each kind that can be shown."""
    size = methods[0].views.crop_size
    shown: dict[str, MaskSettings] = {
        mask.kind: mask
        for mask in (
            RectangleMaskSettings(),
            PolygonMaskSettings(kind="polygon"),
            BlocksMaskSettings(kind="blocks"),
            PatchesMaskSettings(kind="patches"),
            DinoMaskSettings(kind="dino"),
            FullMaskSettings(kind="full"),
        )
    }
    shown |= {method.mask.kind: method.mask for method in reversed(methods)}
    patches = shown["patches"]
    if isinstance(patches, PatchesMaskSettings) and size % patches.patch:
        del shown["patches"]
    if not dino:
        del shown["dino"]
    return list(shown.values())


def _compose(
    mask: MaskSettings, foreground: _View, background: _View, maps: AttentionMaps | None
) -> tuple[np.ndarray, np.ndarray]:
    """The mask and the composed image, both uint8 (S, S, 3)."""
    size = len(foreground.pixels)
    if isinstance(mask, FullMaskSettings):
        inside = np.ones((size, size), dtype=bool)
    elif isinstance(mask, DinoMaskSettings):
        assert maps is not None
        ranks = maps[foreground.number]
        inside = attention_mask(ranks, foreground.extent, foreground.box, False, size, mask)
    else:
        rng = counters.generator(0, counters.MASKS, 0, foreground.number)
        inside = draw_masks(rng, 1, size, mask)[0]
    composed = np.where(inside[..., None], foreground.pixels, background.pixels)
    return np.repeat(inside[..., None], 3, 2).astype(np.uint8) * 255, composed


def _stack(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Pictures below each other: a thin gap within a pair, a wide one after it."""
    parts = []
    for above, below in pairs:
        size = len(above)
        thin, wide = (np.full((size // part, size, 3), 255, dtype=np.uint8) for part in (24, 8))
        parts += [_framed(above), thin, _framed(below), wide]
    return np.concatenate(parts[:-1])


def _framed(picture: np.ndarray) -> np.ndarray:
    """With a grey edge, so that white masks are seen to end."""
    framed = np.full_like(picture, 160)
    framed[1:-1, 1:-1] = picture[1:-1, 1:-1]
    return framed
