"""The report in a real browser: sorts, opens provenance, resolves its links, fits every screen."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import visit
from tiny_campaign import PUBLISHED, tiny

from cp2.reporting.report import write_report

TABLE = "#cp2_fcn table.numbers"
OURS = f"{TABLE} thead tr:nth-child(2) th:nth-child(1) button"  # of the first column
PAPER = 718
SIZES = [("wide", 1200, 1500, False), ("narrow", 390, 844, False), ("dark", 1280, 900, True)]


def rows(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(f"{TABLE} tbody th").all_inner_texts()]


def values(page: Any, place: int) -> list[str]:
    return page.locator(f"{TABLE} tbody tr").evaluate_all(
        f"rows => rows.map(row => row.cells[{place}].dataset.value)"
    )


@pytest.mark.parametrize("name", ["index.html", "pictures.html", "tables/cp2_fcn.html"])
def test_pages_open_without_errors_or_network(browser: Any, report: Path, name: str) -> None:
    with visit(browser, (report.parent / name).as_uri()) as seen:
        assert seen.page.locator("h1").count() == 1
        assert seen.errors == []
        assert {urlsplit(url).scheme for url in seen.requests} <= {"file", "data"}
        assert len([url for url in seen.requests if url.startswith("file")]) == 1


def test_a_label_with_html_is_text(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        assert "<img src=x onerror=" in seen.page.locator("h1").inner_text()
        assert seen.page.title() != "1"


@pytest.mark.parametrize("name", ["index.html", "pictures.html"])
def test_every_link_resolves(browser: Any, report: Path, name: str) -> None:
    with visit(browser, (report.parent / name).as_uri()) as seen:
        links = seen.page.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
        ids = set(seen.page.locator("[id]").evaluate_all("all => all.map(a => a.id)"))
    assert len(links) >= 3
    for link in links:
        inside = link.startswith("#") and link[1:] in ids
        assert inside or (report.parent / link).is_file(), link


def test_a_heading_sorts_and_says_so(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        page = seen.page
        printed = rows(page)
        page.click(OURS)
        heading = page.locator(OURS).locator("..")
        assert heading.get_attribute("aria-sort") == "descending"
        shown = values(page, 1)
        numbers = [float(value) for value in shown if value]
        assert len(numbers) == 4
        assert numbers == sorted(numbers, reverse=True)
        assert shown[4:] == [""] * (len(shown) - 4)  # cells without a number are last
        assert "descending" in page.locator("#spoken").inner_text()
        page.keyboard.press("Enter")  # the button has the focus
        assert heading.get_attribute("aria-sort") == "ascending"
        shown = values(page, 1)
        assert [float(value) for value in shown[:4]] == sorted(numbers)
        assert shown[4:] == [""] * (len(shown) - 4)
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") is None
        assert rows(page) == printed


def test_names_are_sorted_from_a_to_z_first(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        page = seen.page
        printed = rows(page)
        names = page.locator(f"{TABLE} thead tr:first-child th:first-child")
        names.locator("button").click()
        assert names.get_attribute("aria-sort") == "ascending"
        assert rows(page)[0].lower() < rows(page)[-1].lower()
        upwards = rows(page)
        names.locator("button").click()
        assert names.get_attribute("aria-sort") == "descending"
        assert rows(page) == upwards[::-1]
        assert "sorted by row, descending" in page.locator("#spoken").inner_text()
        names.locator("button").click()
        assert names.get_attribute("aria-sort") is None
        assert rows(page) == printed


def test_headings_that_sort_name_their_column(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        for name in ("ours voc2012 mIoU", "published cityscapes mIoU", "gap voc2012 mIoU"):
            button = seen.page.locator("#cp2_fcn").get_by_role("button", name=name, exact=True)
            assert button.count() == 1


@pytest.mark.parametrize("name", ["index.html", "pictures.html"])
def test_a_printed_page_is_no_wider_than_its_paper(browser: Any, report: Path, name: str) -> None:
    """A4 less margins of 1 cm at 96 dots an inch."""
    own = os.environ.get("REPORT_PAGE")
    page = own.replace("index.html", name) if own else (report.parent / name).as_uri()
    with visit(browser, page, PAPER, 1123) as seen:
        seen.page.emulate_media(media="print")
        wide = seen.page.evaluate(
            """limit => [...document.body.querySelectorAll("*")]
              .filter(one => one.getBoundingClientRect().right > limit + 1
                             && getComputedStyle(one).clipPath === "none"
                             && getComputedStyle(one).visibility !== "hidden")
              .map(one => one.outerHTML.slice(0, 120))""",
            PAPER,
        )
        assert wide == []


def test_provenance_is_read_on_a_phone_without_scrolling_sideways(
    browser: Any, report: Path
) -> None:
    with visit(browser, report.as_uri(), 390, 844) as seen:
        seen.page.locator(f"{TABLE} a.origin", has_text="75.6").first.click()
        dialog = seen.page.locator("dialog[open]")
        assert dialog.locator("table.runs").first.is_visible()
        for place in dialog.locator(".scroll").all():
            assert place.evaluate("one => one.scrollWidth <= one.clientWidth + 1")
        text = dialog.locator("table.runs td", has_text="evaluate").first
        before = text.evaluate("one => getComputedStyle(one, '::before').content")
        assert "stage" in before


def test_a_number_opens_its_provenance(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        page = seen.page
        link = page.locator(f"{TABLE} a.origin", has_text="75.6").first
        link.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("dialog[open]")
        text = dialog.inner_text()
        for words in ("CP2 200 · voc2012 mIoU", "75.6 ± 0.2 (2)", "snakemake", "75.40", "node7"):
            assert words in text
        assert "differ from the row above, MoCo v2 r.200" in text
        dialog.locator("summary", has_text="paper's setting").click()
        changed = dialog.locator("tr", has_text="pretrain.method.queue_size").last.inner_text()
        assert changed.split()[-2:] == ["65536", "1024"]
        dialog.locator("summary", has_text="Recipe and log: finetune/").first.click()
        opened = dialog.locator("details[data-run][open]")
        opened.locator("pre").first.wait_for()
        assert "optimization:" in opened.inner_text()
        assert "step 1/3 <b>loss</b> 4.0" in opened.inner_text()
        assert page.url.partition("#")[2].startswith("cp2_fcn-")
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        assert link.evaluate("link => link === document.activeElement")
        assert seen.errors == []


def test_rows_are_filtered_by_words_and_by_state(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        page = seen.page
        shown = page.locator(f"{TABLE} tbody tr:visible th")
        page.fill("#filter input", "qt")
        assert shown.all_inner_texts() == ["CP2 QT r.200", "CP2 QT r.800", "CP2 QT v.300"]
        page.select_option("#filter select", label="a number")
        assert shown.all_inner_texts() == ["CP2 QT r.200"]
        page.fill("#filter input", "fcn head")  # of the table's title
        assert shown.count() == 4
        assert page.locator("details.folded").get_attribute("open") is not None
        page.fill("#filter input", "")
        page.select_option("#filter select", "")
        assert shown.count() == 9
        assert seen.errors == []


def test_a_cell_is_compared_with_every_row_and_has_its_link(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        seen.page.locator(f"{TABLE} a.origin", has_text="75.6").first.click()
        dialog = seen.page.locator("dialog[open]")
        assert dialog.locator("form a").get_attribute("href") == "#cp2_fcn-cp2-200-voc2012-miou"
        dialog.locator("summary", has_text="minus those of the other rows").click()
        # 75.55 − 74.535; errors 0.15 and 0.085; Student's t at 1.58 degrees of freedom: 5.9
        assert "MoCo v2 r.200\t+1.0 [−0.0, +2.0]" in dialog.inner_text()
        dialog.locator("summary", has_text="3 classes").click()
        assert "background\t90.0 ± 0.0 (2)" in dialog.inner_text()


def test_an_address_with_a_cell_opens_it(browser: Any, report: Path) -> None:
    with visit(browser, f"{report.as_uri()}#cp2_fcn-supervised-voc2012-miou") as seen:
        assert "supervised · voc2012 mIoU" in seen.page.locator("dialog[open] h2").inner_text()


def test_numbers_stand_at_their_decimal_points(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        for place, count in ((2, 4), (3, 8)):
            cells = f"{TABLE} tbody td:nth-child({place}) .rest"
            lefts = seen.page.locator(cells).evaluate_all(
                "all => all.map(one => one.getBoundingClientRect().left)"
            )
            assert len(lefts) == count
            assert max(lefts) - min(lefts) < 1


def test_gaps_have_a_sign_beside_their_colour(browser: Any, report: Path) -> None:
    with visit(browser, report.as_uri()) as seen:
        marks = seen.page.locator(f"{TABLE} .mark").all_inner_texts()
        kinds = seen.page.locator(f"{TABLE} td:has(.mark)").evaluate_all(
            "all => all.map(one => one.className)"
        )
        signs = {"near": "≈", "above": "▲", "below": "▼", "far-above": "▲▲", "far-below": "▼▼"}
        assert [signs[kind] for kind in kinds] == marks
        assert {"near", "far-below"} <= set(kinds)


def test_every_picture_has_a_text(browser: Any, report: Path) -> None:
    for name in ("index.html", "pictures.html"):
        with visit(browser, (report.parent / name).as_uri()) as seen:
            pictures = seen.page.locator("img")
            assert pictures.count() > 0
            for picture in pictures.all():
                assert len(picture.get_attribute("alt")) > 20
                assert picture.evaluate("one => one.complete && one.naturalWidth > 0")


@pytest.mark.parametrize(("name", "width", "height", "dark"), SIZES)
def test_the_page_fits_the_screen(
    browser: Any, report: Path, tmp_path: Path, name: str, width: int, height: int, dark: bool
) -> None:
    """With REPORT_PICTURES=<folder> the pictures for the documents are kept there."""
    folder = Path(os.environ.get("REPORT_PICTURES", tmp_path))
    page = os.environ.get("REPORT_PAGE")  # of another campaign than this test's
    with visit(browser, page or report.as_uri(), width, height, dark) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        background = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, background[4:-1].split(","))) < 60) == dark
        picture = "report" if name == "wide" else f"report-{name}"
        seen.page.screenshot(path=folder / f"{picture}.png")
        seen.page.locator("table.numbers a.origin").first.click()
        box = seen.page.locator("dialog").bounding_box()
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        seen.page.screenshot(path=folder / f"{picture}-origin.png")


@pytest.mark.parametrize("width", [1200, 390])
def test_the_pictures_page_fits_the_screen(
    browser: Any, report: Path, tmp_path: Path, width: int
) -> None:
    folder = Path(os.environ.get("REPORT_PICTURES", tmp_path)) if width > 390 else tmp_path
    page = os.environ.get("REPORT_PAGE", report.as_uri()).replace("index.html", "pictures.html")
    with visit(browser, page, width, 900) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        seen.page.screenshot(path=folder / "report-pictures.png")


def test_nothing_done_says_what_will_come(browser: Any, tmp_path: Path) -> None:
    page = write_report(*tiny(tmp_path), PUBLISHED)
    with visit(browser, page.resolve().as_uri()) as seen:
        assert "No run is done yet." in seen.page.locator("#overview").inner_text()
        assert seen.errors == []
        seen.page.locator(f"{TABLE} a.origin").first.click()
        assert "snakemake" in seen.page.locator("dialog[open]").inner_text()
