"""The model card of an export: what it is, its input, scores, provenance and licences."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from cp2.errors import WrongFile
from cp2.models.conventions import input_statistics
from cp2.models.export.targets import Network, Target, snippet
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import CheckpointRecipe, DatasetRecipe, EvaluateRecipe, PretrainRecipe
from cp2.record.readers import read_environment, read_scores
from cp2.settings.models import ResNetSettings


def model_card(
    run: Run, plan: Plan, results: Path, target: Target, network: Network, folder: Path
) -> str:
    """README.md of an exported folder, in Markdown with the hub's front matter."""
    front = {
        "library_name": "timm",
        "license": "other",
        "tags": ["self-supervised-learning", "semantic-segmentation", *_tags(run)],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {run.id}",
        "\n".join(_made_from(run, plan)),
        f"## Load it\n\n```\n{snippet(target, network, folder)}```",
        "## Input\n\n" + "\n".join(_input(network)),
        "## Scores\n\n" + "\n".join(_scores(run, plan, results) or ["None was measured yet."]),
        "## Provenance\n\n" + "\n".join(_provenance(run, results)),
        "## Licences\n\n" + "\n".join(_licences(run, plan)),
    ]
    return "\n\n".join(parts) + "\n"


def _tags(run: Run) -> list[str]:
    return sorted({run.tags[key] for key in ("method", "dataset") if key in run.tags})


def _made_from(run: Run, plan: Plan) -> Iterator[str]:
    """One line a run that trained it, the first one first."""
    for one in plan.ancestors([run.key]):
        recipe = one.recipe
        if isinstance(recipe, PretrainRecipe):
            method, plural = recipe.method, "s" * (recipe.epochs != 1)
            yield (
                f"- pretrained with {method.name} on {recipe.dataset}: {recipe.epochs} "
                f"epoch{plural}, batches of {method.batch_size}, crops of "
                f"{method.views.crop_size} pixels, seed {one.seed}"
            )
        elif isinstance(recipe, CheckpointRecipe):
            yield f"- weights of the published file {recipe.checkpoint.archive.file}"
        elif one.stage == "finetune":
            yield f"- finetuned on {one.need('dataset')}, seed {one.seed}"


def _input(network: Network) -> Iterator[str]:
    settings = network.settings
    mean, std = input_statistics(settings)
    yield f"- RGB, colours from 0 to 1, minus {mean}, divided by {std}"
    if isinstance(settings, ResNetSettings):
        yield f"- trained at output stride {settings.output_stride}; zero padding on both sides"
    else:
        yield (
            "- position embeddings are resized bicubically without antialiasing here; a library "
            "that antialiases gives slightly other features at other sizes"
        )


def _scores(run: Run, plan: Plan, results: Path) -> list[str]:
    """Each finished evaluation that started from the run."""
    lines = []
    for one in plan.stage("evaluate"):
        recipe = one.recipe
        if not isinstance(recipe, EvaluateRecipe) or not one.is_done(results):
            continue
        if run not in plan.ancestors([one.key]):
            continue
        try:
            found = read_scores(one.folder(results).scores, recipe.metrics, one.id).values
        except WrongFile:  # the report names it
            continue
        told = ", ".join(
            f"{metric.title} {found[metric.name] * metric.scale:.{metric.digits}f}"
            for metric in recipe.metrics
            if metric.name in found
        )
        lines.append(f"- {recipe.dataset}, {recipe.split} ({recipe.protocol}): {told} (`{one.id}`)")
    return lines


def _provenance(run: Run, results: Path) -> Iterator[str]:
    environment = read_environment(run.folder(results).environment)
    yield f"- run `{run.key}`; its settings are in `recipe.json`"
    for key, title in (
        ("git_commit", "commit"),
        ("device", "device"),
        ("torch", "PyTorch"),
        ("timm", "timm"),
    ):
        if environment.get(key):
            yield f"- {title}: {environment[key]}"


def _licences(run: Run, plan: Plan) -> Iterator[str]:
    """Those of data sets and published files that the weights come from."""
    for one in plan.ancestors([run.key]):
        recipe = one.recipe
        if isinstance(recipe, DatasetRecipe):
            yield f"- {one.id}: {recipe.dataset.licence or 'not stated'}"
        elif isinstance(recipe, CheckpointRecipe):
            yield f"- {one.id}: {recipe.checkpoint.licence or 'not stated'}"
