import pytest
import torch

from cp2.methods.momentum import KeyQueue

SIZE = 16


def oracle(columns, pointer, keys):
    columns = columns.clone()
    for key in keys:
        columns[:, pointer] = key
        pointer = (pointer + 1) % SIZE
    return columns, pointer


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("start", [0, 1, 15])
def test_keys_replace_the_oldest_one_by_one(count, start):
    queue = KeyQueue(4, SIZE)
    queue.queue_ptr.fill_(start)
    keys = torch.randn(count, 4)
    expected, pointer = oracle(queue.queue, start, keys)
    queue.enqueue(keys)
    assert torch.equal(queue.queue, expected)
    assert queue.queue_ptr.tolist() == [pointer]


def test_it_starts_with_unit_columns_and_an_official_layout():
    queue = KeyQueue(8, SIZE)
    torch.testing.assert_close(queue.queue.norm(dim=0), torch.ones(SIZE))
    state = {name: tuple(value.shape) for name, value in queue.state_dict().items()}
    assert state == {"queue": (8, SIZE), "queue_ptr": (1,)}


def test_half_precision_keys_are_stored_in_full():
    queue = KeyQueue(4, SIZE)
    queue.enqueue(torch.ones(2, 4, dtype=torch.bfloat16))
    assert queue.queue.dtype == torch.float32
    assert (queue.queue[:, :2] == 1).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_keys_that_are_not_finite_leave_the_entries_in_their_place(bad):
    queue = KeyQueue(4, SIZE)
    queue.queue_ptr.fill_(SIZE - 1)
    before = queue.queue.clone()
    keys = torch.randn(3, 4)
    keys[1, 2] = bad
    queue.enqueue(keys)
    expected, pointer = oracle(before, SIZE - 1, keys)
    expected[:, 0] = before[:, 0]
    assert torch.equal(queue.queue, expected)
    assert queue.queue_ptr.tolist() == [pointer] == [2]
