"""A microphone and a Chromium for the page's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.browser.pages import browser, spoken

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def playwright_driver() -> Iterator[Playwright]:
    """Ended with its module: while it lives, an event loop runs in this thread and asyncio.run is refused."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture
def open_page(playwright_driver: Playwright, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Make a page in a browser of its own: the microphone's file plays once, from that browser's first recording.

    Whatever the page complains of (a policy violation, an uncaught error) fails the test at its end.
    """
    opened: list[Browser] = []
    complaints: list[str] = []

    def make(*, silence_s: float = 0.3, clip: Path = ROOT / "tests/speech/train.wav") -> Page:
        chromium = browser(playwright_driver, spoken(tmp_path / "microphone.wav", clip, silence_s, 60))
        opened.append(chromium)
        context = chromium.new_context(ignore_https_errors=True, permissions=["microphone"], locale="en-GB")
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None,
        )
        return page

    yield make
    for chromium in opened:
        chromium.close()
    assert not complaints, complaints
