"""Files that once broke a reader, whole ones, and some changed ones, the same at each run."""

from pathlib import Path

import pytest
from fuzz import SEEDS, run
from targets import TARGETS

pytestmark = pytest.mark.filterwarnings("ignore")  # of the decoders, about damage


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_file_holds_is_a_value_or_a_message(tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    kept = sorted((SEEDS / name).glob("*"))
    for content in [*target.seeds(), *(path.read_bytes() for path in kept)]:
        target.check(tmp_path, content)
    run(target, tmp_path, 20, None)
