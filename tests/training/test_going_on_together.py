"""Processes that go on from different states refuse to."""

from pathlib import Path

import pytest
from two_processes import meeting, on_two

from cp2.errors import PassingError
from cp2.training.parallel import Agreement


def _go_on(rank: int, folder: Path, steps: list[int]) -> None:
    with meeting(rank, folder):
        try:
            Agreement().on_step(steps[rank], folder)
        except PassingError as error:
            (folder / f"said-{rank}").write_text(str(error))


@pytest.mark.parametrize("steps", [[3, 3], [3, 0]])
def test_all_go_on_from_one_step(tmp_path: Path, steps: list[int]) -> None:
    on_two(_go_on, tmp_path, steps)
    said = [(tmp_path / f"said-{rank}").is_file() for rank in range(2)]
    assert said == [steps[0] != steps[1]] * 2
    if said[1]:
        text = (tmp_path / "said-1").read_text()
        assert "process 0 goes on from step 3, but the processes found [3, 0]" in text
