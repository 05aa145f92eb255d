"""Saves in the background: what is copied when, what a full disk or a kill costs."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cp2.errors import UserError
from cp2.training import saving
from cp2.training.saving import Buffers, StateWriter, load_state, save_state, wait_for_saves

CPU = torch.device("cpu")


def _writer(folder: Path) -> tuple[StateWriter, list[str]]:
    said: list[str] = []
    return StateWriter(folder, said.append), said


def _step(folder: Path) -> int | None:
    state = load_state(folder, CPU)
    return None if state is None else int(state["step"])


class Gate:
    """Lets `save_state` begin only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered = threading.Event(), threading.Event()

        def slow(folder: Path, state: dict[str, Any]) -> None:
            self.entered.set()
            assert self.open.wait(120)
            save_state(folder, state)

        monkeypatch.setattr(saving, "save_state", slow)


def test_the_state_at_the_call_is_saved_while_training_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    momentum = optimizer.state_dict()["state"][0]["momentum_buffer"].clone()
    writer, said = _writer(tmp_path)
    writer.save({"step": 1, "module": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert gate.entered.wait(120)
    assert writer.busy
    assert load_state(tmp_path, CPU) is None
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    gate.open.set()
    writer.wait()
    assert not writer.busy
    state = load_state(tmp_path, CPU)
    assert state is not None
    for key, tensor in before.items():
        assert torch.equal(state["module"][key], tensor)
        assert not torch.equal(model.state_dict()[key], tensor)
    assert torch.equal(state["optimizer"]["state"][0]["momentum_buffer"], momentum)
    assert state["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    assert said == []


def test_one_save_at_a_time_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    writer, _ = _writer(tmp_path)
    tensor = torch.zeros(2)
    writer.save({"step": 1, "x": tensor})
    timer = threading.Timer(0.1, gate.open.set)
    timer.start()
    tensor += 1
    writer.save_now({"step": 2, "x": tensor})  # waits for the first, whose memory it takes
    timer.join()
    assert _step(tmp_path) == 2
    (tmp_path / "last.pt").unlink()
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert (state["step"], state["x"].tolist()) == (1, [0.0, 0.0])


def test_copies_keep_values_kinds_and_layout_and_use_their_memory_again() -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {"a": [image, (torch.arange(3), None)], "b": {0: torch.tensor(1.5)}, "c": "text"}
    buffers = Buffers()
    buffers.copy(state)()
    first = buffers.state
    assert torch.equal(first["a"][0], image)
    assert first["a"][0].is_contiguous(memory_format=torch.channels_last)
    assert isinstance(first["a"][1], tuple)
    assert first["a"][1][1] is None
    assert (first["b"][0].item(), first["c"]) == (1.5, "text")
    kept = first["a"][0].data_ptr()
    assert kept != image.data_ptr()
    state["a"] = [image + 1, (torch.arange(7), None), torch.zeros(1)]
    buffers.copy(state)()
    assert buffers.state["a"][0].data_ptr() == kept
    assert torch.equal(buffers.state["a"][0], image + 1)
    assert buffers.state["a"][1][0].tolist() == list(range(7))
    assert len(buffers.state["a"]) == 3


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_during_training_is_said_and_the_next_save_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, said = _writer(tmp_path)
    writer.save_now({"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        writer.save({"step": 2})
        wait_for_saves()
    assert said == []
    writer.poll()
    writer.poll()
    assert len(said) == 1
    assert said[0].startswith(f"WARNING: {tmp_path}: the state of step 2 could not be saved: the ")
    assert "Training goes on" in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert _step(tmp_path) == 1
    writer.save_now({"step": 3})
    assert _step(tmp_path) == 3


def test_a_failed_save_that_nobody_polled_is_said_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, said = _writer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        writer.save({"step": 1})
        wait_for_saves()
    writer.save_now({"step": 2})
    assert len(said) == 1
    assert _step(tmp_path) == 2


@pytest.mark.parametrize(
    ("number", "text"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output error")]
)
def test_a_last_save_that_fails_says_what_to_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    writer, said = _writer(tmp_path)
    writer.save_now({"step": 1})
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(
        UserError, match=f"the state of step 2 could not be saved.*{text}"
    ) as caught:
        writer.save_now({"step": 2, "x": torch.zeros(1_000_000)})
    assert "needs 4 MB beside it" in str(caught.value)
    assert said == []
    assert _step(tmp_path) == 1


def test_a_run_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """Moved away amid a run: what is written next by its path must fail, too."""
    run = tmp_path / "run"
    run.mkdir()
    writer, _ = _writer(run / "state")
    writer.save_now({"step": 1})
    run.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="the state of step 2 could not be saved"):
        writer.save_now({"step": 2})
    assert not run.exists()
    assert _step(tmp_path / "elsewhere" / "state") == 1


def test_an_error_of_ours_is_not_hidden(tmp_path: Path) -> None:
    writer, _ = _writer(tmp_path)
    writer.save({"step": threading.Lock()})  # cannot be saved at all
    wait_for_saves()
    with pytest.raises(TypeError):
        writer.poll()


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 1})
    (tmp_path / ".new.pt.7.tmp").write_bytes(b"half")
    _writer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


SAVE_AND_BE_KILLED = """
import os, random, signal, sys, torch
from pathlib import Path
from cp2.training.saving import StateWriter
from cp2.training.saving import load_state

def save(folder, pipe):
    writer = StateWriter(folder, print)
    for step in range(1, 100000):
        writer.save({"step": step, "x": torch.full((200_000,), float(step))})
        os.write(pipe, b".")

began = []
for seed in range(8):  # all forks come before this process computes, which would start threads
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        save(Path(sys.argv[1]) / str(seed), writing)
    begun = 0
    while begun < random.Random(seed).randint(3, 30):
        begun += len(os.read(reading, 1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writing)
    began.append(begun + len(os.read(reading, 10000)))
for seed, begun in enumerate(began):
    state = load_state(Path(sys.argv[1]) / str(seed), torch.device("cpu"))
    print(begun, state["step"], bool((state["x"] == state["step"]).all()))
"""


def test_a_kill_during_a_background_save_leaves_a_whole_state(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_BE_KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = [line.split() for line in done.stdout.splitlines() if "damaged" not in line]
    assert len(found) == 8
    for begun, step, whole in found:
        assert int(step) >= int(begun) - 1  # the save before had ended when the last one began
        assert whole == "True"


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    writer, said = _writer(tiny_disk / "state")
    small, large = torch.zeros(100_000), torch.zeros(1_000_000)
    writer.save_now({"step": 1, "x": small})
    writer.save({"step": 2, "x": large})
    wait_for_saves()
    writer.poll()
    assert len(said) == 1
    assert "the disk is full" in said[0]
    with pytest.raises(UserError, match="the state of step 3 could not be saved: the disk is full"):
        writer.save_now({"step": 3, "x": large})
    assert [path.name for path in (tiny_disk / "state").iterdir()] == ["last.pt"]
    writer.save_now({"step": 4, "x": small})
    assert _step(tiny_disk / "state") == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_state_is_copied_in_the_order_of_the_stream(tmp_path: Path) -> None:
    writer, _ = _writer(tmp_path)
    x = torch.zeros(50_000_000, device="cuda")
    for step in range(1, 6):
        x += 1
        writer.save({"step": step, "x": x})
        x += 1000
        x -= 1000
    writer.wait()
    state = load_state(tmp_path, CPU)
    assert state is not None
    assert bool((state["x"] == 5).all())
