"""Scores made elsewhere take the place of a cell's runs, if they say where they come from."""

import hashlib
from pathlib import Path

from cp2.errors import UserError, WrongFile
from cp2.settings.imported import ImportedFile, ImportedScores
from cp2.settings.load import Configuration
from cp2.settings.messages import nearest, validated
from cp2.settings.tables import TableSettings
from cp2.settings.yaml_files import read_mapping

Place = tuple[str, str, str]  # table, row, column


def read_imported(configuration: Configuration) -> dict[Place, ImportedScores]:
    """All scores of the files that the campaign names in `imported`.

    Raises:
        UserError: a key is missing or wrong, a table, row or column does not exist, or a cell is
            there twice.
        WrongFile: the record that the values come from is missing or has changed.
    """
    found: dict[Place, ImportedScores] = {}
    for name in configuration.campaign.imported:
        file = Path(name)
        for scores in _read(file).scores:
            where = f"{file}: {scores.table}, {scores.row}, {scores.column}"
            _check_cell(configuration.table(scores.table), scores, where)
            _check_record(file.parent / scores.file, scores, where)
            place = (scores.table, scores.row, scores.column)
            if place in found:
                raise UserError(f"{where}: is imported twice; remove one")
            found[place] = scores
    return found


def _read(file: Path) -> ImportedFile:
    advice = (
        "\nNumbers made elsewhere need table, row, column, values, seeds, source, file and "
        "sha256; docs/imported-results.md shows an example."
    )
    found: ImportedFile = validated(ImportedFile, read_mapping(file), f"{file}: ", advice)
    return found


def _check_cell(table: TableSettings, scores: ImportedScores, where: str) -> None:
    rows = [row.name for row in table.rows]
    columns = [column.name for column in table.columns]
    if scores.row not in rows:
        raise UserError(f"{where}: no such row; {nearest(scores.row, rows)}")
    if scores.column not in columns:
        raise UserError(f"{where}: no such column; {nearest(scores.column, columns)}")


def _check_record(path: Path, scores: ImportedScores, where: str) -> None:
    if not path.is_file():
        raise WrongFile(
            f"{where}: {path} is not there; put the record that the values were read from there"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != scores.sha256:
        raise WrongFile(
            f"{where}: {path} has sha256 {digest}, expected {scores.sha256}. It has changed since "
            "its values were written down: read them again and correct both, or put the old file "
            "back."
        )
