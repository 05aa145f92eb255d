"""Names that a campaign maps: a misspelt one would map nothing, without a word."""

from collections.abc import Iterator

from cp2.errors import UserError
from cp2.settings.load import Configuration
from cp2.settings.messages import nearest
from cp2.settings.tables import Pretraining, TableSettings

_MAPPED = ("backbones", "heads", "methods", "datasets", "checkpoints")


def check_names(configuration: Configuration) -> None:
    """Check what stands left in `substitute` and in `seeds.finetune_by_dataset`.

    Allowed is any name in the sections of configs/ and any that the campaign's tables use, so that
    a campaign may keep its entries when only some of its tables are made.

    Raises:
        UserError: an unknown name; says the nearest.
    """
    campaign = configuration.campaign
    known = {name for section in _MAPPED for name in configuration.names(section)}
    datasets = set(configuration.names("datasets"))
    for table in map(configuration.table, campaign.tables):
        known |= set(_names_in(table))
        datasets |= {column.dataset for column in table.columns}
    for key, names, allowed in (
        ("substitute", campaign.substitute, known),
        ("seeds.finetune_by_dataset", campaign.seeds.finetune_by_dataset, datasets),
    ):
        for name in names:
            if name not in allowed:
                raise UserError(
                    f"campaign {campaign.name!r}: {key}.{name}: no table and no file in "
                    f"{configuration.configs} has this name; {nearest(name, allowed)}"
                )


def _names_in(table: TableSettings) -> Iterator[str]:
    if table.head:
        yield table.head
    for column in table.columns:
        yield column.dataset
        if column.head:
            yield column.head
    for row in table.rows:
        yield row.backbone
        if row.checkpoint:
            yield row.checkpoint
        if row.pretrain:
            yield from _names_in_pretraining(row.pretrain)


def _names_in_pretraining(pretraining: Pretraining) -> Iterator[str]:
    yield pretraining.method
    yield pretraining.dataset
    if pretraining.checkpoint:
        yield pretraining.checkpoint
    if pretraining.start:
        yield from _names_in_pretraining(pretraining.start)
