"""Decoding on the device. On a CPU the device's decoder is the workers' own: equal to the byte."""

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.augment import device_decoding
from cp2.augment.device_decoding import EncodedBatch, EncodedDataset, decoded
from cp2.augment.pipeline import batches
from cp2.augment.samples import PretrainDataset
from cp2.augment.views import crop
from cp2.errors import UserError, WrongFile
from cp2.settings.methods import Cp2Settings
from cp2.settings.views import ReadingSettings, ViewSettings

CPU = torch.device("cpu")


def settings(decoder, background="permutation", **reading):
    return Cp2Settings(
        name="t",
        title="",
        kind="cp2",
        optimizer={},
        background=background,
        views=ViewSettings(crop_size=32),
        reading=ReadingSettings(decoder=decoder, **reading),
    )


@pytest.fixture
def paths(tmp_path):
    """Colour and grey JPEG, and what devices do not decode: CMYK, PNG, palette, 16 bits."""
    rng = np.random.default_rng(0)
    files = []
    for number, mode in enumerate(["RGB", "L", "RGB", "CMYK", "RGB", "P", "I;16", "RGB"]):
        coarse = rng.integers(0, 256, size=(9, 12, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((90 + number, 70), Image.Resampling.BICUBIC)
        suffix = "png" if number in (4, 5, 6) else "jpg"
        files.append(tmp_path / f"{number}.{suffix}")
        if mode == "I;16":
            gray = np.asarray(image.convert("L")).astype(np.uint16) * 257
            Image.fromarray(gray).save(files[-1])
        else:
            image.convert(mode).save(files[-1])
    return files


def by_workers(paths, background="permutation", **reading):
    dataset = PretrainDataset(paths, settings("workers", background, **reading), 0)
    return list(batches(dataset, 0, 0, 4, 0, pin=False))


def by_device(paths, background="permutation", workers=0, **reading):
    dataset = EncodedDataset(paths, settings("device", background, **reading), 0)
    loader = batches(dataset, 0, 0, 4, workers, pin=False)
    return list(decoded(loader, dataset, CPU))


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize("background", ["batch", "permutation"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_workers(paths, background, workers):
    assert_same(by_workers(paths, background), by_device(paths, background, workers))


def test_an_image_of_several_samples_is_handed_over_once_and_only_what_devices_read(paths):
    dataset = EncodedDataset(paths, settings("device", "batch"), 0)
    for batch in batches(dataset, 0, 0, 4, 0, pin=False):
        assert isinstance(batch, EncodedBatch)
        assert sorted(batch.images.tolist()) == sorted(batch.views.images.tolist())
        starts = [0, *batch.ends.tolist()[:-1]]
        rows = zip(batch.images, starts, batch.ends, batch.sizes, strict=True)
        for index, start, end, size in rows:
            content = batch.contents[start:end].numpy().tobytes()
            if index in (3, 4, 5, 6):
                assert size.tolist() == [70, 90 + index]
                assert len(content) == 70 * (90 + index) * 3
            else:
                assert size.tolist() == [0, 0]
                assert content == paths[index].read_bytes()


def test_files_without_end_or_header_are_replaced_as_the_workers_do(paths):
    paths[0].write_bytes(paths[0].read_bytes()[:-200])
    paths[5].write_bytes(b"not an image")
    ours = by_device(paths, unreadable="replace")
    assert_same(by_workers(paths, unreadable="replace"), ours)
    replaced = torch.cat([batch.unreadable.flatten() for batch in ours])
    assert set(replaced.tolist()) == {-1, 0, 5}
    with pytest.raises(WrongFile, match=r"(0\.jpg|5\.png): is (not|empty).* a readable image"):
        by_device(paths, unreadable="stop")


def broken_inside(path):
    """A header and an end, and no pixels between them."""
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\xff\xda")] + b"\xff\xd9")


def test_damage_that_only_the_decoder_sees_stops_with_the_files_name(paths):
    broken_inside(paths[2])
    with pytest.raises(WrongFile, match=r"2\.jpg: is (not|empty).* a readable image"):
        by_device(paths)


def test_what_the_device_refuses_is_decoded_by_the_host(paths, monkeypatch):
    refused = paths[2].read_bytes()
    real = device_decoding.decode_jpeg

    def choosy(files, mode, device):
        if any(file.numpy().tobytes() == refused for file in files):
            raise RuntimeError("unsupported")
        return real(files, mode=mode, device=device)

    monkeypatch.setattr(device_decoding, "decode_jpeg", choosy)
    assert_same(by_workers(paths), by_device(paths))


def test_a_torchvision_without_a_decoder_for_the_device_is_said(monkeypatch):
    device_decoding.check_decoder(CPU)

    def without(files, mode, device):
        raise RuntimeError("not compiled with nvJPEG support")

    monkeypatch.setattr(device_decoding, "decode_jpeg", without)
    with pytest.raises(UserError, match=r"no JPEG files on cpu .*nvJPEG.* write decoder: workers"):
        device_decoding.check_decoder(CPU)


def test_a_full_device_is_no_broken_file(paths, monkeypatch):
    def full(files, mode, device):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(device_decoding, "decode_jpeg", full)
    with pytest.raises(torch.OutOfMemoryError):
        by_device(paths)


def test_a_crop_in_float32_differs_by_one_level_at_most():
    class OnAGpu(torch.Tensor):
        """Says of itself that it is not on the CPU."""

        is_cpu = False

    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 90, 120), generator=generator, dtype=torch.uint8)
    for box in ((0, 0, 90, 120), (3, 5, 40, 17), (10, 10, 1, 1)):
        expected = crop(image, box, 32).int()
        found = crop(image.as_subclass(OnAGpu), box, 32)
        assert found.dtype == torch.uint8
        assert (found.int() - expected).abs().max() <= 1


@pytest.mark.parametrize("other", ["scaled", "cache"])
def test_one_decoder_only(other):
    with pytest.raises(ValueError, match=f"decoder: device does not go together with {other}"):
        ReadingSettings(decoder="device", **{other: True if other == "scaled" else 64})


def test_nvjpeg_writes_once_all_earlier_work_of_the_stream_is_done(monkeypatch):
    """Also where files are tried again one by one: each try takes memory anew."""
    log = []

    class Stream:
        def synchronize(self):
            log.append("host waits for the stream")

    def refusing(files, mode, device):
        log.append(f"{len(files)} decoded on {device}")
        raise RuntimeError("unsupported")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(device_decoding, "decode_jpeg", refusing)
    device_decoding._decode([torch.zeros(3), torch.zeros(3)], torch.device("cuda"))
    assert log[::2] == ["host waits for the stream"] * 3
    assert log[1::2] == ["2 decoded on cuda", *["1 decoded on cuda"] * 2]
