"""Small campaigns written into a temporary folder, on the project's own configs."""

from pathlib import Path

import pytest

from cp2.data.preparers import prepare
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.plan.recipes import DatasetRecipe
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


def with_photos(file: Path) -> tuple[Configuration, Plan]:
    """A campaign file and its plan, with the data set `photos` prepared."""
    configuration = load_campaign(str(file))
    plan = build_plan(configuration)
    prepare_photos(configuration, plan)
    return configuration, plan


def prepare_photos(configuration: Configuration, plan: Plan) -> None:
    """Prepare the data set `photos`."""
    photos = plan.run("dataset", "photos")
    assert isinstance(photos.recipe, DatasetRecipe)
    prepare(photos.recipe.dataset, None, photos.folder(configuration.results).path)


def refusal(folder: Path, text: str = BASE, *assignments: str) -> str:
    """The error text that loading ends in, with the folder and the configs' place left out."""
    with pytest.raises(UserError) as caught:
        load(folder, text, *assignments)
    return str(caught.value).replace(f"{folder}/", "").replace(str(CONFIGS), "configs")
