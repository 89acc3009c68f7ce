"""The system's Chromium, driven by Playwright: one browser for a file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import needs

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = needs.program("chromium", "chromium-browser", "google-chrome")
    playwright = needs.package("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=str(chromium), args=list(QUIET))
        yield found
        found.close()


@pytest.fixture
def errors() -> list[str]:
    """What pages wrote to the console or threw."""
    return []


@pytest.fixture
def page(browser: Any, errors: list[str]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    found = context.new_page()
    found.set_default_timeout(30_000)
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda message: errors.append(message.text))
    yield found
    context.close()
