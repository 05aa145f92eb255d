"""What protocols add to a plan: one file a kind, and which of them a column asks for.

`cp2/plan/protocols/<kind>.py` has the recipes of its runs, subclasses of `FinetuneRecipe` and
`EvaluateRecipe`, and one function, which adds what a score needs beside the pretraining:

    evaluation(stages, cell, start, seed) -> the evaluate run

`start` is the checkpoint or pretraining whose weights are judged; None: random ones.
"""

from dataclasses import dataclass

from cp2.errors import UserError
from cp2.plan.graph import Run, make_run
from cp2.plan.recipes import DatasetRecipe, EvaluateRecipe, FinetuneRecipe
from cp2.plan.stages import Stages, source_name
from cp2.settings.joined import module_of
from cp2.settings.load import Configuration
from cp2.settings.messages import nearest
from cp2.settings.metrics import SECONDS_PER_EPOCH, Metric, ProtocolSettings
from cp2.settings.tables import Column, Row, TableSettings


@dataclass(frozen=True)
class CellSettings:
    """What one cell of a table says; as text, where it stands."""

    table: TableSettings
    row: Row
    column: Column
    protocol: ProtocolSettings

    def __str__(self) -> str:
        return f"table {self.table.name!r}, column {self.column.name!r}"


def evaluate_cell(
    stages: Stages,
    table: TableSettings,
    row: Row,
    column: Column,
    pretrain_seed: int,
    finetune_seed: int,
) -> Run:
    """The evaluate run of one cell and one pair of seeds; adds it and all that it starts from.

    Raises:
        UserError: names that do not exist, or settings that do not fit together.
    """
    protocol = protocol_of(stages.configuration, table, column)
    start = stages.start(table, row, pretrain_seed)
    seed = finetune_seed if protocol.seeded or start is None else 0
    spec = module_of(__name__, protocol.kind, protocol.module)
    run: Run = spec.evaluation(stages, CellSettings(table, row, column, protocol), start, seed)
    return run


def protocol_run(
    stages: Stages,
    stage: str,
    recipe: FinetuneRecipe | EvaluateRecipe,
    backbone: str,
    start: Run | None,
    seed: int,
    *,
    label: str,
    suffix: str = "",
    **tags: str,
) -> Run:
    """A run that trains or scores what `start` pretrained, on the recipe's data set; adds it.

    Args:
        label: stands in the id between data set and start: a head, a detector, a kind of probe.
        suffix: stands behind the backbone: the share of the labels, where it is not all.
        tags: beside those that every such run has.
    """
    source = source_name(start)
    common = {"method": source, "backbone": backbone, "dataset": recipe.dataset}
    common["init"] = start.id if start else "random"
    name = f"{recipe.dataset}-{label}-{source}-{backbone}{suffix}-s{seed}"
    needs = [stages.plan.runs[f"dataset/{recipe.dataset}"], *([start] if start else [])]
    return stages.plan.add(make_run(stage, name, recipe, needs, common | tags, seed))


def scoring_run(stages: Stages, recipe: EvaluateRecipe, finetuning: Run) -> Run:
    """The run that scores a finetuned model, by the same name; adds it."""
    needs = [stages.plan.runs[f"dataset/{recipe.dataset}"], finetuning]
    name = finetuning.id.rsplit("-", 1)[0]
    run = make_run("evaluate", name, recipe, needs, dict(finetuning.tags), finetuning.seed)
    return stages.plan.add(run)


def dataset_with_objects(stages: Stages, cell: CellSettings, hint: str = "") -> tuple[Run, int]:
    """The data set of a column that is judged by objects, and how many classes it has.

    Args:
        hint: what to write in place of a column's label_fraction.
    Raises:
        UserError: it does not say which objects an image shows, or the column asks for what is
            segmentation's.
    """
    dataset = stages.dataset(cell.column.dataset)
    assert isinstance(dataset.recipe, DatasetRecipe)
    settings, classes = dataset.recipe.dataset, dataset.recipe.classes
    if settings.labels != "objects" or classes is None:
        raise UserError(
            f"{cell}: data set {dataset.id!r} (kind {settings.kind}) does not say which objects an "
            f"image shows; kind {cell.protocol.kind} needs one of kind "
            "voc2007, voc, coco-instances or coco-json"
        )
    if cell.column.label_fraction or cell.column.head:
        raise UserError(f"{cell}: label_fraction and head are for segmentation{hint}")
    return dataset, len(classes.classes)


def protocol_of(
    configuration: Configuration, table: TableSettings, column: Column
) -> ProtocolSettings:
    """The column's own protocol, else the table's."""
    return configuration.protocol(column.protocol or table.protocol)


def metric_of(configuration: Configuration, table: TableSettings, column: Column) -> Metric:
    """What a column measures; where it names no metric, its protocol's first.

    A metric that no protocol has is known by its name alone; only a column that says why it is
    `missing` may name one.

    Raises:
        UserError: the column's protocol does not measure it.
    """
    protocol = protocol_of(configuration, table, column)
    if column.metric is None:
        return protocol.metrics[0]
    known = {metric.name: metric for metric in (*protocol.metrics, SECONDS_PER_EPOCH)}
    if column.metric in known:
        return known[column.metric]
    if column.missing:
        return Metric(column.metric, column.metric, "percent")
    raise UserError(
        f"table {table.name!r}, column {column.name!r}: protocol {protocol.name!r} (kind "
        f"{protocol.kind}) does not measure {column.metric!r}; {nearest(column.metric, known)}; "
        "or name another protocol, or write missing: <why>"
    )


def check_metrics(configuration: Configuration, table: TableSettings) -> None:
    """Check that a table's columns measure what their protocols can, all in one unit.

    Raises:
        UserError: a metric is unknown, or the units differ.
    """
    units = {column.name: metric_of(configuration, table, column).unit for column in table.columns}
    first, *others = units
    for name in others:
        if units[name] != units[first]:
            raise UserError(
                f"table {table.name!r}: column {first!r} is in {units[first]}, column {name!r} in "
                f"{units[name]}; one of them needs a table of its own"
            )
