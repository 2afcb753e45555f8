"""Pages as a person sees them: headless Chromium, which notes what a page complains about and asks for.

Debian's Chromium is driven through playwright's Python API; where one of them is absent, the test is skipped.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


class Visit(NamedTuple):
    """A tab, and what happened in it so far."""

    page: "Page"
    complaints: list[str]  # console errors and warnings, uncaught errors
    requests: list[str]  # every address that the page asked for, its own first


@contextmanager
def chromium_page(**context: object) -> Iterator[Visit]:
    """A fresh tab.

    Args:
        context: options of playwright's ``new_context``, such as ``viewport`` or ``color_scheme``.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_context(**context).new_page()
        page.set_default_timeout(60_000)  # milliseconds
        visit = Visit(page, [], [])
        page.on("pageerror", lambda error: visit.complaints.append(f"uncaught: {error}"))
        page.on("console", lambda line: _note(line, visit.complaints))
        page.on("request", lambda request: visit.requests.append(request.url))
        yield visit
        browser.close()


def _note(line, complaints: list[str]) -> None:
    if line.type in ("error", "warning"):
        complaints.append(f"{line.type}: {line.text}")
