"""Files that are stored with a run."""

import tempfile
from pathlib import Path

from cp2.record.folder import RunFolder
from cp2.tracking.store import Store


def send_files(
    store: Store, run_id: str, folder: RunFolder, status: str, classes: str | None, upload: bool
) -> None:
    """Recipe and environment; log and attempts once the run ended; of a finished run its pictures,
    IoU a class and, where `upload` says so, its model.

    One request takes them all: looking a run's artifacts up is what costs.

    Args:
        classes: IoU of every class as CSV.
    """
    files = [folder.recipe, folder.environment]
    if status not in ("RUNNING", "SCHEDULED"):
        files += [folder.log, folder.attempts]
    if status == "FINISHED":
        files += sorted(folder.pictures.glob("*"))
        files += [folder.model] if upload else []
    with tempfile.TemporaryDirectory(prefix="cp2-track-") as temporary:
        staged = Path(temporary)
        for file in filter(Path.is_file, files):
            link = staged / file.relative_to(folder.path)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file.resolve())
        if classes is not None:
            (staged / "per_class_iou.csv").write_text(classes, encoding="utf-8")
        store.upload(run_id, staged)
