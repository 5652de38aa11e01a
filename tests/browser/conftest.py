"""A microphone and a Chromium for the page's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.browser.pages import browser, spoken
from tests.stack import ROOT

TRAIN = ROOT / "tests/speech/train.wav"
OpenBrowser = Callable[[Path, float], Browser]


@pytest.fixture(scope="module")
def playwright_driver() -> Iterator[Playwright]:
    """Ended with its module: while it lives, an event loop runs in this thread and asyncio.run is refused."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def open_browser(playwright_driver: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBrowser]:
    """A Chromium for a clip and the silence before it, one for all tests of a module that ask for the same.

    Each recording hears the file from its beginning, whatever was recorded before.
    """
    running: dict[tuple[Path, float], Browser] = {}

    def get(clip: Path, silence_s: float) -> Browser:
        if (clip, silence_s) not in running:
            sound = spoken(tmp_path_factory.mktemp("sound") / "microphone.wav", clip, silence_s, 60)
            running[clip, silence_s] = browser(playwright_driver, sound)
        return running[clip, silence_s]

    yield get
    for chromium in running.values():
        chromium.close()


@pytest.fixture
def open_page(open_browser: OpenBrowser) -> Iterator[Callable[..., Page]]:
    """Make a page in a context of its own: nothing is stored there yet, and nothing stays.

    Whatever the page complains of (a policy violation, an uncaught error) fails the test at its end.
    """
    opened: list[BrowserContext] = []
    complaints: list[str] = []

    def make(*, silence_s: float = 0.3, clip: Path = TRAIN) -> Page:
        context = open_browser(clip, silence_s).new_context(
            ignore_https_errors=True, permissions=["microphone"], locale="en-GB"
        )
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None,
        )
        return page

    yield make
    for context in opened:
        context.close()
    assert not complaints, complaints
