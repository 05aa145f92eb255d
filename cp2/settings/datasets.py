"""Data sets: where they come from and what must be true of them."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from cp2.settings.base import (
    FileName,
    FolderPath,
    Name,
    PositiveFloat,
    PositiveInt,
    Settings,
    added,
    same_name,
    unhashed,
)
from cp2.settings.joined import joined

Level = Annotated[int, Field(ge=0, le=255)]
OWN_FOLDER = (
    "images",
    "labelled",
    "folders",
    "voc",
    "coco-json",
)  # kinds that use a folder of the user's in place
_NOT_PRINTED = re.compile(
    "[|\x00-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
Kind = Literal[
    "voc2012",
    "voc2007",
    "cityscapes",
    "ade20k",
    "imagenet",
    "coco",
    "camvid",
    "images",
    "labelled",
    "folders",
    "voc",
    "coco-instances",
    "coco-json",
]
_OURS = get_args(Kind)
HASH = r"^(sums|(md5|sha1|sha256):[0-9a-f]{8,64})$"


class Archive(Settings):
    """One downloadable file.

    `hash` is "md5:...", "sha1:..." or "sha256:..."; a digest shorter than the algorithm's is a
    published prefix. "sums" means: a file SHA256SUMS lies beside the archive. None: none is known.
    """

    file: FileName
    urls: tuple[str, ...] = unhashed(())  # empty: needs a login, `manual` says what to do
    hash: Annotated[str, Field(pattern=HASH)] | None = None
    manual: str | None = unhashed(None)  # how to get a file that has no public URL
    gb: PositiveFloat | None = unhashed(None)  # 10^9 bytes, as its page says; for costs only


def _or_joined(kind: Any, ours: ValidatorFunctionWrapHandler) -> Any:
    try:
        return ours(kind)
    except ValidationError:
        if joined("cp2.datasets", kind) is None:
            raise
        return kind


class DatasetSettings(Settings):
    """A data set as one preparer (`kind`) makes it.

    `counts` are images a split; the preparer stops when it finds another number. `classes` names a
    file in configs/classes/. `root` is the user's own folder, for the generic kinds only.
    `uncounted` are images of splits that the preparer does not count; costs are computed from both.
    `label_values` are for kind labelled: value in the label files -> train id, or 255 to ignore.
    Without `unpack` the images of kinds imagenet and coco are read in their archives: few files.
    The pixels of `decoded` images, spread evenly, are decoded when the set is made; of all others
    the header is read.
    """

    kind: Annotated[Kind, WrapValidator(_or_joined)]
    name: Name
    title: str = unhashed()
    archives: tuple[Archive, ...] = ()
    root: FolderPath | None = unhashed(None)
    counts: dict[str, PositiveInt] = Field(default_factory=dict)
    uncounted: dict[str, PositiveInt] = unhashed({})
    classes: Name | None = None
    licence: str = unhashed("")
    label_values: dict[Level, Level] | None = added(None)
    decoded: PositiveInt = unhashed(50_000)
    unpack: bool = unhashed(True)

    @model_validator(mode="after")
    def _root_or_archives(self) -> "DatasetSettings":
        if self.kind not in _OURS:  # of another package, which may use either
            return self
        generic = self.kind in OWN_FOLDER
        if generic and self.root is None:
            raise ValueError(f"kind {self.kind} needs root: the folder that holds the images")
        if not generic and self.root is not None:
            raise ValueError(f"root is for kinds {', '.join(OWN_FOLDER)}, not for {self.kind}")
        if self.label_values is not None and self.kind != "labelled":
            raise ValueError(f"label_values is for kind labelled, not for {self.kind}")
        if not self.unpack and self.kind not in ("imagenet", "coco"):
            raise ValueError(f"unpack: false is for kinds imagenet and coco, not for {self.kind}")
        if not generic and not self.archives:
            raise ValueError(f"kind {self.kind} needs archives")
        if self.kind == "voc2007" and len(self.archives) not in (2, 3):
            raise ValueError(
                "kind voc2007 needs the archives of trainval and test, in this order, and may have "
                "a third, VOC 2012's of trainval"
            )
        if self.kind == "coco-instances" and len(self.archives) != 3:
            raise ValueError(
                "kind coco-instances needs the archives of train2017, val2017 and the annotations"
            )
        if self.labels in ("pixels", "objects") and self.classes is None:
            raise ValueError(f"kind {self.kind} needs classes: a name from configs/classes/")
        if self.labels == "image" and self.classes is not None:
            raise ValueError("kind folders: the folders' names are the classes; leave classes out")
        return self

    @property
    def labels(self) -> Literal["pixels", "objects", "image"] | None:
        """What an image's label holds: a class a pixel, objects with boxes, or one class."""
        if self.kind not in _OURS:
            return "pixels" if self.classes else None
        if self.kind == "folders":
            return "image"
        if self.kind in ("imagenet", "coco", "images"):
            return None
        return "objects" if self.kind in ("voc2007", "voc") or self.masks else "pixels"

    @property
    def masks(self) -> bool:
        """Whether objects have masks."""
        return self.kind in ("coco-instances", "coco-json")


class ClassList(Settings):
    """Class names and colours in train-id order."""

    name: Name
    classes: Annotated[tuple[str, ...], Field(max_length=255)]  # 255 means: ignored
    palette: tuple[tuple[Level, Level, Level], ...]

    @model_validator(mode="after")
    def _tell_apart(self) -> "ClassList":
        if len(self.classes) < 2:
            raise ValueError(
                f"classes: {list(self.classes)}: a model that knows one class is always right; "
                "name the rest, too: [background, ...], and give it a value in the labels"
            )
        plain = [same_name(name) for name in self.classes]
        wrong = next((n for n in plain if not n or plain.count(n) > 1), None)
        if wrong is not None:
            what = f"{wrong!r} is there twice" if wrong else "one has an empty name"
            raise ValueError(f"classes: {what}; each needs a name of its own")
        odd = next((name for name in self.classes if _NOT_PRINTED.search(name)), None)
        if odd is not None:
            raise ValueError(
                f"classes: {odd!r} holds a line break, a | or another sign that no table can print"
            )
        if len(self.classes) != len(self.palette):
            raise ValueError(f"{len(self.classes)} classes but {len(self.palette)} colours")
        return self
