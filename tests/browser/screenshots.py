"""Pictures of the page in each state, light and dark, desktop and phone: `make screenshots` writes docs/img.

The server is scripted, so that every run shows the same words at the same moment.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.browser.pages import browser, scripted_page, spoken
from tests.browser.scripted import TOKEN, Scripted

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "img"
SCREENS: dict[str, ViewportSize] = {
    "desktop": {"width": 1180, "height": 760},
    "phone": {"width": 390, "height": 780},
}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
LINES = (
    (0.0, 1.2, "Good morning, and welcome to the meeting."),
    (1.2, 2.2, "Please write down every word that people say today."),
    (4.0, 4.8, "The bridge over the river was closed for the winter."),
    (4.8, 9.0, "We will open the window, because the room is warm and the coffee is not."),
)


def main() -> int:
    if shutil.which("chromium") is None:
        sys.stderr.write("the pictures need Chromium: apt-get install chromium\n")
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        clip = spoken(Path(folder) / "clip.wav", ROOT / "tests/speech/train.wav", 0.3, 60)
        for screen, size in SCREENS.items():
            for scheme in SCHEMES:
                chromium = browser(playwright, clip)  # the microphone's file plays once per browser
                _one(chromium, Path(folder), size, scheme, f"{screen}-{scheme}")
                chromium.close()
    return 0


def _one(chromium: Browser, folder: Path, size: ViewportSize, scheme: Scheme, suffix: str) -> None:
    context = chromium.new_context(
        viewport=size,
        color_scheme=scheme,
        permissions=["microphone"],
        device_scale_factor=2 if size["width"] < 500 else 1,
        locale="en-GB",
    )
    script = Scripted(waking=["waking.capacity", "waking.boot", "waking.service"], lines=LINES, held=True)
    with scripted_page(folder, script) as (address, server):
        page = context.new_page()
        page.goto(address)
        expect(page.get_by_test_id("phase")).to_have_text("An access token is needed")
        _shoot(page, f"token-{suffix}")
        page.goto(f"{address}#token={TOKEN}")
        expect(page.get_by_test_id("phase")).to_have_text("The GPU is asleep")
        _shoot(page, f"asleep-{suffix}")
        page.get_by_test_id("start").click()
        server.waking.pop(0)
        expect(page.get_by_test_id("phase")).to_have_text("Starting the machine")
        expect(page.locator("#elapsed")).to_have_text("0:02")  # not by script: the page's policy forbids eval
        _shoot(page, f"waking-{suffix}")
        server.held = False
        expect(page.get_by_test_id("partial")).to_contain_text("because the room", timeout=20_000)
        _shoot(page, f"live-{suffix}")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
        _shoot(page, f"finished-{suffix}")
    context.close()


def _shoot(page: Page, name: str) -> None:
    page.screenshot(path=TARGET / f"{name}.png")
    sys.stdout.write(f"docs/img/{name}.png\n")


if __name__ == "__main__":
    sys.exit(main())
