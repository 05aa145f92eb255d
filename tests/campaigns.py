"""Small campaigns written into a temporary folder, on the project's own configs."""

from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.settings.load import Configuration, load_campaign

CONFIGS = Path(__file__).parents[1] / "configs"
BASE = """
title: Test
scale: mini
tables: [mini_segmentation]
substitute: {labelled: voc2012-train, unlabelled: voc2012-train}
"""


def load(folder: Path, text: str = BASE, *assignments: str) -> Configuration:
    """The campaign `text`, as folder/my.yaml."""
    file = folder / "my.yaml"
    file.write_text(text, encoding="utf-8")
    return load_campaign(str(file), assignments, CONFIGS)


def refusal(folder: Path, text: str = BASE, *assignments: str) -> str:
    """The error text that loading ends in, with the folder and the configs' place left out."""
    with pytest.raises(UserError) as caught:
        load(folder, text, *assignments)
    return str(caught.value).replace(f"{folder}/", "").replace(str(CONFIGS), "configs")
