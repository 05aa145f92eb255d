"""What the documents name exists, and their examples work."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[1]
FIDELITY = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("re*/README.md")])


def _values(tree: Any, keys: list[str]) -> list[Any]:
    """What stands at a path; `{a,b}` is both, `*` any, `<...>` each."""
    if not keys:
        return [tree]
    key, rest = keys[0], keys[1:]
    if key == "*":
        return [tree]
    if match := re.fullmatch(r"(.*)\{(.*)\}(.*)", key):
        before, names, after = match.groups()
        return [
            value
            for name in names.split(",")
            for value in _values(tree, [f"{before}{name}{after}", *rest])
        ]
    if key.startswith("<"):
        return [value for below in tree.values() for value in _values(below, rest)]
    if isinstance(tree, dict):
        return _values(tree[key], rest)
    assert hasattr(tree, key), f"no {key!r} in {type(tree).__name__}"
    return _values(getattr(tree, key), rest)


OPTIONS = sorted(set(re.findall(r"`((?:methods|protocols|heads|backbones)\.[^`:]+)`", FIDELITY)))


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_the_fidelity_notes_exist(option):
    section, name, path = re.fullmatch(r"(\w+)\.([\w<>-]+)\.(.+)", option).groups()
    configuration = load_campaign("paper", (), ROOT / "configs")
    names = ["cp2", "moco-v2"] if name == "<method>" else [name]
    keys = re.findall(r"(?:\{[^}]*\}|<[^>]*>|[^.{<])+", path)
    for each in names:
        assert _values(getattr(configuration, section.removesuffix("s"))(each), keys)


def test_fidelity_notes_name_options_and_tests():
    tests = set(re.findall(r"`(\w+/test_\w+\.py)`", FIDELITY))
    assert len(OPTIONS) > 20
    assert len(tests) > 15
    assert not [name for name in tests if not (ROOT / "tests" / name).is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)]+)\)", text) if "://" not in t]
    assert not [t for t in targets if t and not (page.parent / t).exists()]


def test_the_campaign_on_own_photographs_can_be_planned(tmp_path):
    page = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
    classes, campaign = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)
    (configs / "classes" / "garden.yaml").write_text(classes, encoding="utf-8")
    (configs / "garden.yaml").write_text(campaign, encoding="utf-8")
    plan = build_plan(load_campaign("garden", (), configs))
    assert {run.id for run in plan.stage("dataset")} == {"garden-photos", "garden-scenes"}
    assert {run.recipe.classes for run in plan.stage("finetune")} == {3}
