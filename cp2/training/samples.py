"""What a pretraining's samples ran into: unreadable images, and pairs of views without overlap."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from cp2.augment.samples import ViewBatch
from cp2.data.pillow import tolerated
from cp2.data.sources import ImageSource
from cp2.errors import UserError, WrongFile
from cp2.record.lines import LineWriter
from cp2.settings.views import ViewSettings

NOTED = 0.01  # share of the pairs from which on the log says it
_ENOUGH = 500  # pairs that are looked at before anything is said


class CentralPairs:
    """Counts them in this process' share of the batches; says once where they are many.

    Args:
        say: shows a line to the user.
    """

    def __init__(self, views: ViewSettings, say: Callable[[str], None]) -> None:
        self._least = views.min_overlap
        self._say = say
        self._said = False
        self.pairs = self.central = 0

    def check(self, view_boxes: Tensor) -> None:
        """Count a batch, view boxes (N, 2, 7) on the host; see cp2.augment.view_boxes."""
        if not self._least:
            return
        boxes = view_boxes[..., :4]
        self.pairs += len(boxes)
        self.central += int((boxes[:, 0] == boxes[:, 1]).all(1).sum())
        if not self._said and self.pairs >= _ENOUGH and self.central > NOTED * self.pairs:
            self._said = True
            self._say(
                f"{self.central} of the first {self.pairs} pairs of views are the same central "
                f"crop, because no second crop overlapped the first by views.min_overlap "
                f"{self._least:g}; a smaller one, or larger crops (views.crop_scale), would help"
            )

    def notes(self) -> list[str]:
        """For the run's record; none where it was never the case."""
        if not self.central:
            return []
        return [
            f"{self.central} of {self.pairs} pairs of views of this attempt (of the first "
            "process) were the same central crop, for want of an overlap (views.min_overlap)"
        ]


class UnreadableImages:
    """Writes each such image down once, in a file that outlasts a stop.

    Args:
        source: where the images come from.
        record: file with a line an image; what earlier attempts found counts, too.
        say: shows a line to the user.
    """

    def __init__(self, source: ImageSource, record: Path, say: Callable[[str], None]) -> None:
        self._source, self._record, self._say = source, record, say
        self._lines = LineWriter(record)
        self._names = self._read()

    def _read(self) -> list[str]:
        if not self._record.is_file():
            return []
        return list(dict.fromkeys(self._record.read_text(encoding="utf-8").splitlines()))

    def check(self, batch: ViewBatch) -> None:
        """Say which images of the batch were replaced by others.

        Raises:
            UserError: more images cannot be read than `tolerated` allows.
        """
        for index in sorted(set(batch.unreadable.flatten().tolist()) - {-1}):
            name = self._source.name(index)
            if name in self._names:
                continue
            self._names.append(name)
            self._lines.write(name)
            self._say(f"replaced by another image: {self._reason(index)}")
        most = tolerated(len(self._source))
        if len(self._names) > most:
            raise UserError(
                f"{len(self._names)} of {len(self._source)} images cannot be read, the last one "
                f"is {self._names[-1]}; at most {most} are replaced by others. They are "
                f"listed in {self._record}; repair the data set, remove that list and start again."
            )

    def _reason(self, index: int) -> str:
        try:
            self._source.open(index).pixels()
        except WrongFile as error:
            return str(error)
        return f"{self._source.name(index)}: it could not be read a moment ago, but can now"

    def notes(self) -> list[str]:
        """For the run's record, by all processes; none where every image could be read."""
        names = self._read()
        if not names:
            return []
        return [
            f"{len(names)} of {len(self._source)} images could not be read and were replaced by "
            f"others: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''} "
            f"({self._record.name} lists them)"
        ]
