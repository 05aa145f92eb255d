import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from cp2.augment.photometric import augment_views
from cp2.augment.pipeline import batches, prepare
from cp2.augment.samples import PretrainDataset
from cp2.data.loading import Batches
from cp2.errors import UserError, WrongFile
from cp2.settings.methods import Cp2Settings, MoCoV2Settings
from cp2.settings.views import ViewSettings

IMAGES = 23
SMALL = ViewSettings(crop_size=32)


def cp2(**changes):
    return Cp2Settings(name="t", title="", kind="cp2", optimizer={}, views=SMALL, **changes)


def moco(**changes):
    return MoCoV2Settings(name="t", title="", kind="moco-v2", optimizer={}, views=SMALL, **changes)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Images of one grey level each, by which a crop tells where it comes from."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for number in range(IMAGES):
        files.append(folder / f"ümlaut {number}.png")
        Image.new("RGB", (50 + number, 40), (number * 10,) * 3).save(files[-1])
    return files


@pytest.fixture(scope="module")
def noise_paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    files = []
    for number in range(9):
        files.append(folder / f"{number}.jpg")
        pixels = rng.integers(0, 256, size=(48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(files[-1])
    return files


def collect(paths, settings, epoch=0, first=0, batch=4, workers=0, seed=0, **share):
    dataset = PretrainDataset(paths, settings, seed)
    return list(batches(dataset, epoch, first, batch, workers, pin=False, **share))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize("settings", [cp2(), cp2(background="batch"), moco()], ids=str)
def test_shapes_types_and_dropped_rest(paths, settings):
    got = collect(paths, settings)
    views = 4 if settings.kind == "cp2" else 2
    assert len(got) == IMAGES // 4
    assert got[0].crops.shape == (4, views, 32, 32, 3)
    assert got[0].crops.dtype == torch.uint8
    assert got[0].parameters.shape[:2] == (4, views)
    assert got[0].masks.shape == ((4, 2, 32, 4) if settings.kind == "cp2" else (4, 0, 32, 0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("settings", [cp2(), cp2(background="batch"), moco()], ids=str)
def test_one_loader_of_all_epochs_is_their_loaders_in_a_row(paths, settings, workers):
    each = [b for e in range(1, 4) for b in collect(paths, settings, epoch=e, first=2 * (e == 1))]
    assert_same(each, collect(paths, settings, epoch=1, first=2, workers=workers, epochs=4))


def test_batches_do_not_depend_on_the_number_of_workers(noise_paths):
    alone = collect(noise_paths, cp2(), batch=3)
    assert_same(alone, collect(noise_paths, cp2(), batch=3, workers=2))


def test_an_epoch_entered_in_the_middle_goes_on_as_it_would_have(noise_paths):
    whole = collect(noise_paths, cp2(), epoch=3, batch=2)
    assert_same(whole[2:], collect(noise_paths, cp2(), epoch=3, first=2, batch=2))
    assert collect(noise_paths, cp2(), epoch=3, first=4, batch=2) == []


def test_a_resume_leaves_the_global_generator_alone(noise_paths):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    collect(noise_paths, cp2(), batch=3)
    assert torch.equal(state, torch.get_rng_state())


def test_processes_share_the_batches_of_one_process(noise_paths):
    whole = collect(noise_paths, cp2(), batch=4)
    shares = [collect(noise_paths, cp2(), batch=4, rank=r, world_size=2) for r in range(2)]
    joined = [
        type(a)(*(torch.cat(pair) for pair in zip(a, b, strict=True)))
        for a, b in zip(*shares, strict=True)
    ]
    assert_same(whole, joined)


def test_epochs_and_seeds_change_everything(noise_paths):
    first = collect(noise_paths, cp2())[0]
    for other in (collect(noise_paths, cp2(), epoch=1)[0], collect(noise_paths, cp2(), seed=1)[0]):
        assert not torch.equal(first.crops, other.crops)
        assert not torch.equal(first.parameters, other.parameters)
        assert not torch.equal(first.masks, other.masks)


def test_each_image_is_once_foreground_and_once_either_background(paths):
    crops = torch.cat([b.crops for b in collect(paths, cp2(), batch=1)])
    levels = crops[:, :, 16, 16, 0] // 10  # (N, 4): which image each view comes from
    assert torch.equal(levels[:, 0], levels[:, 1])
    for view in (0, 2, 3):
        assert sorted(levels[:, view].tolist()) == list(range(IMAGES))
    orders = {tuple(levels[:, view].tolist()) for view in (0, 2, 3)}
    assert len(orders) == 3


def test_the_two_views_of_an_image_differ(noise_paths):
    batch = collect(noise_paths, moco())[0]
    assert not torch.equal(batch.crops[:, 0], batch.crops[:, 1])
    assert not torch.equal(batch.parameters[:, 0], batch.parameters[:, 1])


def test_prepared_cp2_images_are_foreground_inside_and_background_outside(noise_paths):
    settings = cp2()
    batch = collect(noise_paths, settings)[0]
    images_q, images_k, mask_q, mask_k, _ = prepare(batch, settings, "cpu")
    for side, (image, mask) in enumerate(((images_q, mask_q), (images_k, mask_k))):
        foreground, background = (
            augment_views(batch.crops[:, view].permute(0, 3, 1, 2), batch.parameters[:, view])
            for view in (side, side + 2)
        )
        torch.testing.assert_close(image, foreground * mask + background * (1 - mask))
        assert image.dtype == torch.float32
        drawn = np.unpackbits(batch.masks[:, side].numpy(), axis=-1)
        assert np.array_equal(mask[:, 0].numpy(), drawn)


def test_backgrounds_of_the_batch_are_two_other_images(paths):
    plain = ViewSettings(crop_size=32, jitter_probability=0, gray_probability=0, blur_probability=0)
    settings = cp2(background="batch").model_copy(update={"views": plain})
    batch = collect(paths, settings, batch=5)[0]
    images_q, images_k, mask_q, mask_k, _ = prepare(batch, settings, "cpu")
    level = ((images_q[:, 0] * 0.229 + 0.485) * 25.5).round()  # the number of the image
    level_k = ((images_k[:, 0] * 0.229 + 0.485) * 25.5).round()
    for sample in range(5):
        outside_q = level[sample][mask_q[sample, 0] == 0].unique().tolist()
        outside_k = level_k[sample][mask_k[sample, 0] == 0].unique().tolist()
        assert outside_q == [batch.images[(sample + 1) % 5].item()]
        assert outside_k == [batch.images[(sample + 2) % 5].item()]
        inside = level[sample][mask_q[sample, 0] == 1].unique().tolist()
        assert inside == [batch.images[sample].item()]


def test_moco_has_no_masks(noise_paths):
    settings = moco()
    prepared = prepare(collect(noise_paths, settings)[0], settings, "cpu")
    assert prepared.mask_q is None
    assert prepared.mask_k is None
    assert prepared.images_q.shape == (4, 3, 32, 32)


def test_autocast_around_the_preparation_changes_nothing(noise_paths):
    settings = cp2()
    batch = collect(noise_paths, settings)[0]
    plain = prepare(batch, settings, "cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = prepare(batch, settings, "cpu")
    assert torch.equal(plain.images_q, mixed.images_q)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_without_a_workers_traceback(paths, tmp_path, workers):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no photograph")
    with pytest.raises(WrongFile) as error:
        collect([broken] * 4, moco(), workers=workers)
    assert str(error.value).startswith(str(broken))
    assert "replace the file" in str(error.value)
    assert "Traceback" not in str(error.value)
    assert not multiprocessing.active_children(), "its workers have ended"


@pytest.mark.parametrize(
    ("settings", "batch", "share", "text"),
    [
        (moco(), 24, {}, "batch_size 24 is more than the 23 training images"),
        (moco(), 5, {"world_size": 2}, "use a multiple of 2"),
    ],
)
def test_unsuitable_batch_sizes(paths, settings, batch, share, text):
    with pytest.raises(UserError, match=text):
        collect(paths, settings, batch=batch, **share)


class Killed(Dataset):
    """Images whose loading process ends as a machine without memory ends it."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_no_traceback():
    with pytest.raises(UserError, match=r"a loading process was killed, .*execution\.workers=0"):
        list(Batches(Killed(), workers=1))


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "unable to allocate shared memory(shm) for file </torch_1_2>: No space left",
            "--shm-size",
        ),
        ("DataLoader worker (pid 7) is killed by signal: Bus error.", "--shm-size=8g"),
        ("received 0 items of ancdata", "ulimit -n"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "for want of memory"),
        ("CUDA error: out of memory", None),
    ],
)
def test_what_a_machine_refuses_its_workers_has_a_remedy(said, remedy):
    class Failing(IterableDataset):
        def __iter__(self):
            yield 1
            raise RuntimeError(said)

    found = iter(Batches(Failing(), workers=0, batch_size=None))
    assert next(found) == 1
    with pytest.raises(UserError if remedy else RuntimeError, match=remedy or said):
        next(found)


def test_no_images():
    with pytest.raises(UserError, match="holds no image"):
        PretrainDataset([], moco(), 0)


def test_more_workers_than_cores_are_the_users_choice(recwarn):
    workers = len(os.sched_getaffinity(0)) + 1
    assert list(Batches(range(3), workers, batch_size=None)) == [0, 1, 2]
    assert not recwarn.list
