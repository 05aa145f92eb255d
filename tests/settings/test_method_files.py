"""Methods that change a few things of another one."""

import pytest
import yaml
from campaigns import CONFIGS

from cp2.errors import UserError
from cp2.settings.based_files import read_method
from cp2.settings.load import load_campaign


def write(folder, name, text):
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def family(tmp_path):
    """Three generations."""
    write(tmp_path, "one", "kind: a\ntitle: One\nviews: {x: 1, y: [1, 2]}\nmomentum: 0.5\n")
    write(tmp_path, "two", "base: one\nkind: b\ntitle: Two\nviews: {y: [3]}\n")
    return write(tmp_path, "three", "base: two\ntitle: Three\nmomentum: null\n")


def test_keys_are_laid_over_those_of_the_base(family):
    tree, where = read_method(family)
    expected = {"kind": "b", "title": "Three", "views": {"x": 1, "y": [3]}, "momentum": None}
    assert tree == expected
    assert where == f"{family} (base: two)"


def test_a_method_without_a_base_is_its_file():
    tree, where = read_method(CONFIGS / "methods" / "cp2.yaml")
    assert tree["kind"] == "cp2"
    assert where == str(CONFIGS / "methods" / "cp2.yaml")


def test_pixcons_variants_differ_in_the_variant_alone():
    configuration = load_campaign("paper_pixcon", (), CONFIGS)
    trees = [
        configuration.method(f"pixcon-{v}").model_dump(exclude={"name", "title", "variant"})
        for v in ("sim", "coord", "sr")
    ]
    assert trees[0] == trees[1] == trees[2]
    own = {"name", "title", "kind", "projector_layers", "projector_width"}
    plus = configuration.method("moco-v2-plus").model_dump(exclude=own)
    assert {key: trees[0][key] for key in plus} == plus


def test_a_change_of_the_base_is_not_handed_down():
    changed = load_campaign("paper_pixcon", ["methods.moco-v2-plus.batch_size=64"], CONFIGS)
    assert changed.method("moco-v2-plus").batch_size == 64
    assert changed.method("pixcon-sim").batch_size == 512


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: [one]", r"two.yaml: base: must be the name of a method, found \['one'\]"),
        ("base: oen", r"two.yaml: base: no method 'oen'; did you mean 'one'\?"),
        ("base: two", r"two.yaml: base: 'two' has this method as its own base"),
        ("base: three", r"three.yaml: base: 'two' has this method as its own base"),
    ],
)
def test_bases_that_cannot_be(family, text, message):
    write(family.parent, "two", text)
    with pytest.raises(UserError, match=message):
        read_method(family.with_name("two.yaml"))


def test_a_wrong_value_is_said_with_both_files(tmp_path):
    methods = tmp_path / "methods"
    methods.mkdir()
    for name in ("moco-v2-plus", "pixcon-sim"):
        content = yaml.safe_load((CONFIGS / "methods" / f"{name}.yaml").read_text())
        write(methods, name, yaml.safe_dump(content | {"queue_size": -1}))
    campaign = write(tmp_path, "mine", "title: Mine\nscale: mini\ntables: [none]\n")
    configuration = load_campaign(str(campaign), (), tmp_path)
    with pytest.raises(UserError, match=r"pixcon-sim.yaml \(base: moco-v2-plus\): queue_size = -1"):
        configuration.method("pixcon-sim")
