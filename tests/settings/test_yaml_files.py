import pytest

from cp2.errors import UserError
from cp2.settings.yaml_files import assignment, merge, parse_yaml, read_mapping


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2.5E+4", -2.5e4),
        ("1", 1),
        ("0x10", 16),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("2020-01-01", "2020-01-01"),
        ("1e", "1e"),
        ("1:30", "1:30"),
        ("-1:30.5", "-1:30.5"),
        ("1" + ":1" * 5000, "1" + ":1" * 5000),
        ("18446744073709551615", 2**64 - 1),
        ("e5", "e5"),
        ("'1e-3'", "1e-3"),
        ("~", None),
        ("[1, 2e0, x]", [1, 2.0, "x"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_values(text, value):
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


def test_anchors_and_merge_keys():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n"
    assert parse_yaml(text, "here") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "my.yaml: not valid YAML: line 3: key 'a' is there twice"),
        ("x:\n  a: 1\n  a: 1\n", "my.yaml: not valid YAML: line 3: key 'a' is there twice"),
        ("{[1]: 2}", "a key must be text or a whole number, found a list"),
        (".nan: 1", "a key must be text or a whole number, found a number; quote it"),
        ("true: 1", "a key must be text or a whole number, found true; quote it"),
        ("a: [1\n", "not valid YAML: line 2: "),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("- 1\n", "my.yaml: holds a list, expected keys and values"),
        ("", "my.yaml: holds nothing, expected keys and values"),
        ("text", "my.yaml: holds text, expected keys and values"),
    ],
)
def test_bad_files(text, expected, tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_mapping(file)
    assert expected in str(caught.value)
    assert "my.yaml" in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_bytes(b"title: caf\xe9\n")
    with pytest.raises(UserError, match=r"my\.yaml: is not UTF-8 text"):
        read_mapping(file)


def test_a_folder_instead_of_a_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_mapping(tmp_path)


def test_merge_keeps_what_is_not_changed_and_notes_who_set_what():
    base = {"a": {"x": 1, "y": 2}, "b": 3, "c": [1]}
    origins = {}
    merged = merge(base, {"a": {"y": 4}, "b": {"z": 5}, "c": [2]}, origins, "here", ("top",))
    assert merged == {"a": {"x": 1, "y": 4}, "b": {"z": 5}, "c": [2]}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3, "c": [1]}
    assert origins == {
        ("top", "a", "y"): "here",
        ("top", "b", "z"): "here",
        ("top", "c"): "here",
    }


def test_assignment():
    assert assignment("a.b-c.d=[1, 2e-1]") == {"a": {"b-c": {"d": [1, 0.2]}}}
    assert assignment("a.b==") == {"a": {"b": "="}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"area": 1}, {"kind": "full"}, {"kind": "full"}),
        ({"area": 1}, {"kind": "rectangle"}, {"area": 1, "kind": "rectangle"}),
        ({"kind": "polygon", "area": 1}, {"kind": "polygon"}, {"kind": "polygon", "area": 1}),
        ({"kind": "polygon", "vertices": 1}, {"kind": "blocks"}, {"kind": "blocks"}),
        ({"kind": "polygon", "vertices": 1}, {"area": 2}, None),  # no other kind: joined
    ],
)
def test_settings_of_another_kind_replace_those_before(old, new, expected):
    origins = {("methods", "cp2", "mask", "area"): "--set", ("methods", "cp2", "amp"): "--set"}
    merged = merge({"mask": old}, {"mask": new}, origins, "a row", ("methods", "cp2"))
    assert merged == {"mask": old | new if expected is None else expected}
    stale = ("methods", "cp2", "mask", "area") in origins
    assert stale == (old | new == merged["mask"])
    assert ("methods", "cp2", "amp") in origins
    together = merge({"mask": old}, {"mask": new}, {}, "", ("methods", "cp2"), kinds=False)
    assert together == {"mask": old | new}


def test_a_method_of_another_kind_keeps_its_overrides():
    old = {"methods": {"own": {"kind": "cp2", "batch_size": 8}}}
    merged = merge(old, {"methods": {"own": {"kind": "moco-v2"}}}, {}, "")
    assert merged == {"methods": {"own": {"kind": "moco-v2", "batch_size": 8}}}


# Ten lines that stand for ten thousand million values; the same by merge keys.
LISTS = "a0: &a0 [1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGED = LISTS.replace("[1]", "{x: 1}").replace("[*", "{<<: [*").replace("]\n", "]}\n")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[" * 100_000, "nested too deeply"),  # libyaml would overrun its stack
        ("- " * 100_000, "nested too deeply"),
        ("{a: " * 2000 + "1" + "}" * 2000, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),  # what reads the values goes down with them
        (LISTS, "holds over 100000 values"),
        (
            LISTS.replace("[1]", "{x: 1}").replace("[*", "{<<: [*").replace("]\n", "]}\n"),
            "over 100000",
        ),
        ("a: &a [*a]", "or itself"),
        ("!!timestamp x", "could not determine a constructor"),
        ("a: !!set {x}", "could not determine a constructor"),
        ("a: !!binary eA==", "could not determine a constructor"),
        ("a: !!int x", "invalid literal"),
        ("9" * 5000, "not valid YAML"),
        ("a: 0x" + "f" * 5000, "line 1: a whole number has more than 128 bits"),
        ("\n!!int 0b1" + "0" * 128 + ": a", "line 2: a whole number has more than 128 bits"),
        ("\0", "not valid YAML"),
    ],
)
def test_hostile_texts_are_refused_in_one_line(text, wanted):
    with pytest.raises(UserError, match=wanted) as caught:
        parse_yaml(text, "here")
    assert str(caught.value).startswith("here: not valid YAML: ")
    assert len(str(caught.value).splitlines()) == 1
