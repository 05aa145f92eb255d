"""Objects in VOC's XML: reading, refusing, and which classes an image shows."""

from pathlib import Path

import numpy as np
import pytest

from cp2.data.annotations import ImageObject, image_labels, read_objects
from cp2.errors import WrongFile

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "svm.npz"
CLASSES = ("aeroplane", "bird", "boat", "cat")
BOX = {"xmin": "10", "ymin": "20.5", "xmax": "30", "ymax": "40"}


def one(name: str = "cat", difficult: str = "<difficult>0</difficult>", **sides: str) -> str:
    box = "".join(f"<{side}>{at}</{side}>" for side, at in (BOX | sides).items())
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name>{difficult}<bndbox>{box}</bndbox>{part}</object>"


def write(path: Path, *objects: str) -> Path:
    path.write_text(f"<annotation><size/>{''.join(objects)}</annotation>")
    return path


def test_reads_objects_but_not_their_parts(tmp_path: Path) -> None:
    hard = one("bird", "<difficult>1</difficult>", xmax="100")
    path = write(tmp_path / "1.xml", one("cat", ""), hard)
    assert read_objects(path, CLASSES, (100, 50)) == [
        ImageObject("cat", (9, 19.5, 30, 40), False),
        ImageObject("bird", (9, 19.5, 100, 40), True),
    ]
    assert read_objects(write(path), CLASSES, (100, 50)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (one("cta"), r"1.xml: object 2 is of class 'cta'; did you mean 'cat'\?"),
        (one(""), "object 2 has no name; allowed: aeroplane, bird, boat, cat"),
        (one(difficult="<difficult>maybe</difficult>"), r"\(cat\): difficult is 'maybe', must be"),
        (one(xmin="nan"), "xmin of its bndbox is 'nan', must be a number"),
        (one(xmin="1_0"), "xmin of its bndbox is '1_0', must be a number"),
        (one(xmin="١٠"), "xmin of its bndbox is '١٠', must be a number"),
        (one(difficult="<bndbox/>"), r"\(cat\): it has 2 of bndbox; write an object for each"),
        (one(ymax=""), "ymax of its bndbox is '', must be a number"),
        ("<object><name>cat</name></object>", "xmin of its bndbox is None, must be a number"),
        (one(xmax="9"), "its box 10, 20.5 to 9, 40 has no area"),
        (one(xmax="102"), "to 102, 40 leaves the image, which is 100x50 pixels"),
        (one(ymin="-1"), "its box 10, -1 to 30, 40 leaves the image"),
    ],
)
def test_names_the_file_and_the_object(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(WrongFile, match=message):
        read_objects(write(tmp_path / "1.xml", one(), text), CLASSES, (100, 50))


def test_what_is_no_xml_is_a_message(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    with pytest.raises(WrongFile, match=r"1\.xml: is not there; correct it"):
        read_objects(path, CLASSES)
    path.write_text("<annotation><object>")
    with pytest.raises(WrongFile, match=r"1\.xml: is not an annotation in VOC's XML"):
        read_objects(path, CLASSES)
    path.write_text("<rss><object><name>cat</name></object></rss>")
    with pytest.raises(WrongFile, match="begins with <rss>, not with <annotation>"):
        read_objects(path, CLASSES)
    path.write_text('<annotation xmlns="http://a/b"><object/></annotation>')
    with pytest.raises(WrongFile, match=r"<{http://a/b}annotation>, .* remove its namespace"):
        read_objects(path, CLASSES)


@pytest.mark.parametrize("tag", ["Object", "objects", "{http://a/b}object"])
def test_objects_under_another_name_are_not_lost(tmp_path: Path, tag: str) -> None:
    name, space = tag.rpartition("}")[2], ' xmlns="http://a/b"' if "}" in tag else ""
    path = write(tmp_path / "1.xml", one(), f"<{name}{space}/>")
    with pytest.raises(WrongFile, match=rf"1\.xml: .*it has <{tag}> where <object> must be"):
        read_objects(path, CLASSES)


LAUGHS = "<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;'>]><a>&c;</a>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "it has a DOCTYPE"),
        ("<a>" * 101 + "</a>" * 101, "100 in each other"),
        ("<a>" + "<b/>" * 100_000 + "</a>", "over 100000 elements"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_of_another_kind_is_refused(
    tmp_path: Path, text: str, message: str, encoding: str
) -> None:
    (tmp_path / "1.xml").write_text(text, encoding)
    with pytest.raises(WrongFile, match=message):
        read_objects(tmp_path / "1.xml", CLASSES)


def test_labels_are_those_of_vocs_lists(tmp_path: Path) -> None:
    """1 present, -1 absent, 0 only difficult become 1, 0, -1, as in DenseCL's scripts."""
    with np.load(GOLDEN) as data:
        listed, expected = data["label_files"], data["label_arrays"]
    names = ("bird", "aeroplane", "cat", "boat")
    hard = one("{}", "<difficult>1</difficult>")
    objects = {1: hard + one("{}") + hard, 0: hard, -1: ""}
    paths = [
        write(
            tmp_path / f"{i}.xml",
            *(objects[flag].format(*3 * [name]) for name, flag in zip(names, row, strict=True)),
        )
        for i, row in enumerate(listed)
    ]
    np.testing.assert_array_equal(image_labels(paths, CLASSES), expected)
