"""Reproduction of CP², DenseCL and PixCon; `cp2.scores` is for notebooks, the rest for `cp2`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def scores(campaign: str, assignments: Sequence[str] = ()) -> "pd.DataFrame":
    """All scores of a campaign so far, beside the published numbers: a line a planned run.

    Columns are those of `cp2.tables.frame.COLUMNS`; `value` is NaN where a run is not done.

    Args:
        campaign: name in configs/, or path of a YAML file; results are looked for from the
            current folder on, so start the notebook in the repository.
        assignments: as with `--set`, e.g. "campaign.execution.results=/scratch/results".
    Raises:
        UserError: the campaign, an assignment or a published CSV is wrong.
    """
    from cp2.tables.frame import campaign_scores  # pandas takes half a second to import

    return campaign_scores(campaign, assignments)
