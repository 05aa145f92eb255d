"""Which pretrainings of a table used another batch size than the published one."""

from pathlib import Path

from cp2.plan.graph import Plan, PlannedTable
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.method_files import read_method
from cp2.settings.methods import MethodSettings


def batch_notes(plan: Plan, planned: PlannedTable, configs: Path) -> tuple[str, ...]:
    """One sentence a method and size.

    The methods' files in `configs` have the published sizes. Micro-batches and the number of GPUs
    do not change what a step sees, so they are no matter here.
    """
    sizes = {}
    for run in plan.ancestors(planned.runs):
        if isinstance(run.recipe, PretrainRecipe):
            method = run.recipe.method
            published = _published(method, configs)
            if method.batch_size != published:
                sizes[method.title, method.batch_size] = published
    return tuple(
        f"{title} was pretrained here with batches of {size}; published: {published}."
        for (title, size), published in sizes.items()
    )


def _published(method: MethodSettings, configs: Path) -> int:
    """The method's batch size without a campaign's changes."""
    tree, _ = read_method(configs / "methods" / f"{method.name}.yaml")
    given = tree.get("batch_size")
    return int(given or type(method).model_fields["batch_size"].default)
