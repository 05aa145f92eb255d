"""What the documents name exists, and their examples work."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[1]
FIDELITY = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")


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


VALUES = [
    (option, value)
    for option, values in re.findall(r"`(\w+\.[\w<>.-]+)`: ((?:[\w-]+, )+[\w-]+)", FIDELITY)
    for value in values.split(", ")
]


@pytest.mark.parametrize(("option", "value"), VALUES)
def test_values_of_the_fidelity_notes_can_be_set(option, value):
    settings = [f"{option.replace('<name>', 'voc2012')}={value}"]
    settings += {  # what the notes say these ask for
        "full": ["methods.cp2.dense_weight=0"],
        "slide": [
            f"protocols.cp2.datasets.voc2012.inference.{key}=[512, 512]"
            for key in ("window", "stride")
        ],
    }.get(value, [])
    configuration = load_campaign("paper", settings, ROOT / "configs")
    section, name, path = settings[0].partition("=")[0].split(".", 2)
    found = _values(getattr(configuration, section.removesuffix("s"))(name), path.split("."))
    assert [str(one) for one in found] == [value]


def test_keys_of_the_masks_exist():
    part = FIDELITY.partition("## Masks that the paper names")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+)(?:, in a view)? \|.*\| ([^|]*) \| [^|]* \|$", part, re.MULTILINE)
    named = [(kind, key) for kind, keys in rows for key in re.findall("`([^`]+)`", keys)]
    assert {kind for kind, _ in named} == {"polygon", "blocks", "patches", "dino"}
    for kind, key in named:
        configuration = load_campaign("paper", [f"methods.cp2.mask.kind={kind}"], ROOT / "configs")
        assert hasattr(configuration.method("cp2").mask, key), (kind, key)


def test_fidelity_notes_name_options_and_tests():
    tests = set(re.findall(r"`(\w+/test_\w+\.py)`", FIDELITY))
    assert len(OPTIONS) > 20
    assert len(VALUES) > 20
    assert len(tests) > 15
    assert not [name for name in tests if not (ROOT / "tests" / name).is_file()]


def test_the_documents_build_as_a_site(tmp_path: Path) -> None:
    """Strictly: links, anchors and pictures lead somewhere, and the menu leads to each page."""
    installed = f"{sys.prefix}/developed"
    words = ["make", "docs", f"VENV={sys.prefix}", f"--old-file={installed}", f"SITE={tmp_path}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.parent.name for page in tmp_path.glob("site/**/index.html")}
    assert {"troubleshooting", "own-data", "CONTRIBUTING"} <= pages


def test_the_campaign_on_own_photographs_can_be_planned(tmp_path):
    page = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
    classes, campaign, boxes = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    configs = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", configs)
    (configs / "classes" / "garden.yaml").write_text(classes, encoding="utf-8")
    (configs / "garden.yaml").write_text(campaign, encoding="utf-8")
    plan = build_plan(load_campaign("garden", (), configs))
    assert {run.id for run in plan.stage("dataset")} == {"garden-photos", "garden-scenes"}
    assert {run.recipe.classes for run in plan.stage("finetune")} == {3}
    swaps = (
        ("demo_detection", "demo_instances"),
        ("voc0712", "coco2017-instances"),
        ("voc-detection", "coco-detection"),
        ("kind: voc", "kind: coco-json"),
    )
    for name in ("yard", "yard-masks"):
        (configs / f"{name}.yaml").write_text(boxes, encoding="utf-8")
        plan = build_plan(load_campaign(name, (), configs))
        assert {run.id for run in plan.stage("dataset")} == {"yard"}
        assert len(list(plan.stage("finetune"))) == 4
        for old, new in swaps:
            boxes = boxes.replace(old, new)


PROMISES = re.findall(
    r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("file", "name"), PROMISES)
def test_each_promise_has_the_test_that_it_names(file: str, name: str) -> None:
    assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_messages_of_the_troubleshooting_page_exist() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith('| "')]
    messages = [message for row in rows for message in re.findall(r'"([^"]+)"', row)]
    files = ROOT.glob("cp2/**/*.py")
    # Texts go on over several lines of code.
    code = re.sub(r'"\s*\n\s*f?"', "", "".join(f.read_text(encoding="utf-8") for f in files))
    code = re.sub(r"{[^{}]*}", "", code)
    assert len(messages) >= 20
    assert not [one for one in messages if one not in code]
