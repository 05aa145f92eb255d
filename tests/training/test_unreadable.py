import json
import shutil

import pytest
import torch
from attempts import StopAfter

from cp2.augment.samples import ViewBatch
from cp2.data.index import read_index
from cp2.data.sources import ImageFiles
from cp2.errors import UserError
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.pretrain import pretrain
from cp2.training.samples import UnreadableImages


def batch(*unreadable):
    empty = torch.empty(0)
    return ViewBatch(empty, empty, empty, empty, empty, torch.tensor(unreadable, dtype=torch.int64))


@pytest.fixture
def source(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(2000)]
    for path in paths[:50]:
        path.write_bytes(b"")
    return ImageFiles(paths)


def test_each_image_is_named_once_with_its_reason(tmp_path, source):
    said = []
    images = UnreadableImages(source, tmp_path / "unreadable.txt", said.append)
    images.check(batch([-1, -1, -1]))
    assert not said
    assert images.notes() == []
    images.check(batch([3, -1, 7], [-1, 3, -1]))
    images.check(batch([3, -1, -1]))
    assert len(said) == 2
    assert f"{source.name(3)}: is empty, must be a readable image" in said[0]
    assert (tmp_path / "unreadable.txt").read_text().splitlines() == [
        source.name(3),
        source.name(7),
    ]
    assert images.notes() == [
        "2 of 2000 images could not be read and were replaced by others: "
        f"{source.name(3)}, {source.name(7)} (unreadable.txt lists them)"
    ]


def test_the_next_attempt_goes_on_counting(tmp_path, source):
    said = []
    UnreadableImages(source, tmp_path / "unreadable.txt", said.append).check(batch([1]))
    later = UnreadableImages(source, tmp_path / "unreadable.txt", said.append)
    later.check(batch([1]))
    later.check(batch([2]))
    assert len(said) == 2
    assert later.notes()[0].startswith("2 of 2000 images")


def test_too_many_stop_the_run(tmp_path, source):
    images = UnreadableImages(source, tmp_path / "unreadable.txt", lambda line: None)
    images.check(batch(list(range(20))))
    with pytest.raises(UserError, match=r"21 of 2000 images cannot be read.*at most 20 are"):
        images.check(batch([20]))


def test_a_pretraining_goes_on_without_them_and_resumes_alike(tiny, find):
    configuration, _ = tiny
    run, results = find("cp2"), configuration.results
    paths = read_index(results / "datasets" / "photos").paths("train")
    paths[2].write_bytes(paths[2].read_bytes()[:60])
    paths[9].write_bytes(b"")
    pretrain(run, results, configuration.campaign.execution, Deadline())
    folder = run.folder(results)
    whole = folder.model.read_bytes()
    notes = json.loads(folder.done.read_text())["notes"]
    assert any(note.startswith("2 of 12 images could not be read") for note in notes)
    log = folder.log.read_text()
    assert log.count("replaced by another image") == 2
    assert f"{paths[9]}: is empty, must be a readable image" in log
    shutil.rmtree(folder.path)
    with pytest.raises(StoppedForResumeError):
        pretrain(run, results, configuration.campaign.execution, StopAfter(2))
    pretrain(run, results, configuration.campaign.execution, Deadline())
    assert folder.model.read_bytes() == whole
    assert json.loads(folder.done.read_text())["notes"] == notes
