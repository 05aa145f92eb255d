"""CP², DenseCL and PixCon reproduced. Public names, imported when first asked for:

- compose, draw_masks, RectangleMaskSettings: copy-paste augmentation (CP² Eq. 1, sec. 3.1)
- info_nce, dense_loss, masked_average, KeyQueue: the losses and their queue (CP² Eq. 2 to 5)
- load_backbone: the backbone of a run's folder, as a torch module
- load_plan: a campaign's runs and tables
- scores: a campaign's scores, as a pandas frame
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from cp2.plan.graph import Plan

_MODULES = {
    "compose": "cp2.augment.copy_paste",
    "draw_masks": "cp2.drawing.masks",
    "RectangleMaskSettings": "cp2.settings.masks",
    "info_nce": "cp2.methods.losses",
    "dense_loss": "cp2.methods.losses",
    "masked_average": "cp2.methods.losses",
    "KeyQueue": "cp2.methods.momentum",
    "load_backbone": "cp2.models.trained",
}
__all__ = [*_MODULES, "load_plan", "scores"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cp2' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def load_plan(campaign: str, assignments: Sequence[str] = ()) -> "Plan":
    """All runs of a campaign, and the tables that they fill.

    Args:
        campaign: name in configs/, or path of a YAML file.
        assignments: as with `--set`, e.g. "campaign.execution.results=/scratch/results".
    Raises:
        UserError: the campaign or an assignment is wrong.
    """
    from cp2.plan.build import build_plan
    from cp2.settings.load import load_campaign

    return build_plan(load_campaign(campaign, assignments))


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
    from cp2.plan.build import build_plan
    from cp2.settings.load import load_campaign
    from cp2.tables.frame import score_frame  # pandas takes half a second to import

    configuration = load_campaign(campaign, assignments)
    return score_frame(configuration, build_plan(configuration))
