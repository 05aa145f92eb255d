"""A real headless Chromium: Debian's, or the one that Playwright brings."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]  # in containers there is neither


def why_not() -> str | None:
    """Why no browser can be had, or None."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return "NO BROWSER: playwright is not installed (pip install playwright); pages not opened"
    try:
        with sync_playwright() as playwright:
            start(playwright).close()
    except Error as error:
        reason = str(error).strip().splitlines()[0]
        return (
            f"NO BROWSER: install chromium (apt-get install chromium); pages not opened: {reason}"
        )
    return None


def start(playwright: Any) -> Any:
    """A browser of its own."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


class Visit:
    """A page that was opened, and everything that went wrong in it.

    Attributes:
        thrown: exceptions that nothing in the page caught.
        errors: these, and what its console says of errors and warnings.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.thrown: list[str] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", self._threw)
        page.on("console", self._said)
        page.on("request", lambda request: self.requests.append(request.url))

    def _threw(self, error: Any) -> None:
        self.thrown.append(str(error))
        self.errors.append(str(error))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@contextmanager
def visit(
    browser: Any, url: str, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[Visit]:
    """A fresh window with this page in it."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    try:
        visited = Visit(context.new_page())
        visited.page.goto(url)
        yield visited
    finally:
        context.close()
