from pathlib import Path

import pytest

from cp2.record.mlflow_links import LOCAL, drop_foreign_links, read_links, write_links


@pytest.mark.parametrize(
    ("uri", "ui"),
    [
        ("sqlite:////data/mlflow.db", LOCAL),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://me:secret@tracking.example:8443/lab/", "https://tracking.example:8443/lab"),
    ],
)
def test_links_lead_to_the_ui_without_a_password(tmp_path: Path, uri: str, ui: str) -> None:
    write_links(tmp_path, uri, "3", {"evaluate/a": "0f"})
    links = read_links(tmp_path)
    assert links.link("evaluate/a") == f"{ui}/#/experiments/3/runs/0f"
    assert links.link("evaluate/b") is None
    assert not [p for p in tmp_path.iterdir() if "secret" in p.read_text()]


@pytest.mark.parametrize(
    "content",
    [
        *(None, "", "[]", '{"ui": "x"}', '{"ui": 1, "runs": 2'),
        '{"ui": "javascript:alert(1)//", "experiment": "1", "runs": {"evaluate/a": "0f"}}',
        '{"ui": 1, "experiment": "1", "runs": {"evaluate/a": "0f"}}',
    ],
)
def test_without_an_import_there_are_no_links(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "mlflow.json").write_text(content)
    assert read_links(tmp_path).link("evaluate/a") is None


@pytest.mark.parametrize(
    ("uri", "stays"),
    [
        ("https://tracking.example/lab/", True),
        ("https://me:other@tracking.example/lab", True),
        ("http://tracking.example/lab", False),
        ("https://tracking.example", False),
        ("sqlite:////data/mlflow.db", False),
    ],
)
def test_links_into_another_store_are_dropped(tmp_path: Path, uri: str, stays: bool) -> None:
    write_links(tmp_path, "https://me:secret@tracking.example/lab", "3", {"evaluate/a": "0f"})
    drop_foreign_links(tmp_path, uri)
    assert (read_links(tmp_path).link("evaluate/a") is not None) == stays


def test_two_databases_are_two_stores_and_no_file_is_no_error(tmp_path: Path) -> None:
    drop_foreign_links(tmp_path, "sqlite:///a.db")
    write_links(tmp_path, "sqlite:///a.db", "3", {"evaluate/a": "0f"})
    drop_foreign_links(tmp_path, "sqlite:///b.db")
    assert read_links(tmp_path).link("evaluate/a") is None
