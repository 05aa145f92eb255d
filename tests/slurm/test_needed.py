"""Where there must be a Slurm, its tests are not skipped."""

import pytest
from scheduler import skip_or_fail


@pytest.mark.parametrize("needed", [False, True])
def test_without_slurm(needed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CP2_NEED_SLURM", "1" if needed else "")
    skip_or_fail(None)
    ends = pytest.fail if needed else pytest.skip
    with pytest.raises(ends.Exception, match="no slurmctld here"):
        skip_or_fail("no slurmctld here")
