"""Pictures of the page in each state, light and dark, desktop and phone: `make screenshots` writes docs/img.

The server is scripted, so that every run shows the same words at the same moment.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.browser.pages import browser, scripted_page, spoken
from tests.browser.scripted import TOKEN, Break, Scripted

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "img"
SCREENS: dict[str, ViewportSize] = {
    "desktop": {"width": 1180, "height": 760},
    "phone": {"width": 390, "height": 780},
}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
OFTEN = {("desktop", "light"), ("phone", "dark")}
"""Where every state is shown; elsewhere those of a conversation only."""
COLOURS = 96
"""A page of few colours needs no more; the files are a third as large."""
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
    expect.set_options(timeout=20_000)
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
    often = tuple(suffix.split("-")) in OFTEN
    script = Scripted(waking=["waking.capacity", "waking.boot", "waking.service"], lines=LINES, held=True)
    with scripted_page(folder, script) as (address, server):
        page = context.new_page()
        page.goto(address)
        expect(page.get_by_test_id("phase")).to_have_text("An access token is needed")
        if often:
            _shoot(page, f"token-{suffix}")
        page.goto(f"{address}#token={TOKEN}")
        expect(page.get_by_test_id("phase")).to_have_text("The GPU is asleep")
        _shoot(page, f"asleep-{suffix}")
        if often:
            _settings(page, suffix)
        page.get_by_test_id("start").click()
        server.waking.pop(0)
        expect(page.get_by_test_id("phase")).to_have_text("Starting the machine")
        expect(page.locator("#elapsed")).to_have_text(re.compile("0:0[2-9]"))  # by script: refused
        _shoot(page, f"waking-{suffix}")
        server.held = False
        expect(page.get_by_test_id("partial")).to_contain_text("because the")
        _shoot(page, f"live-{suffix}")
        server.breaks.append(Break(server.seconds, down_s=4.0))
        expect(page.get_by_test_id("phase")).to_have_text("Connecting again")
        _shoot(page, f"reconnecting-{suffix}")
        expect(page.get_by_test_id("phase")).to_have_text("Listening")
        if often:
            page.keyboard.press("c")
            _shoot(page, f"captions-{suffix}")
            page.keyboard.press("Escape")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
        if often:
            page.get_by_text("Where the time goes").click()
        _shoot(page, f"finished-{suffix}")
        if often:
            page.get_by_role("button", name="Save").click()
            _shoot(page, f"saving-{suffix}")
            page.get_by_role("button", name="Done").click()
            _recordings(page, suffix)
    context.close()


def _settings(page: Page, suffix: str) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="Try it").click()
    expect(page.get_by_test_id("try-words")).to_contain_text("You are heard well")
    _shoot(page, f"settings-{suffix}")
    page.get_by_role("button", name="Done").click()


def _recordings(page: Page, suffix: str) -> None:
    page.get_by_role("link", name="Recordings").click()
    expect(page.get_by_test_id("recordings")).to_contain_text("Good morning")
    page.get_by_test_id("recordings").get_by_role("button").first.click()
    page.get_by_test_id("stamps").check()
    page.get_by_test_id("search").fill("the")
    expect(page.locator("#found")).to_contain_text("found")
    _shoot(page, f"recordings-{suffix}")


def _shoot(page: Page, name: str) -> None:
    path = TARGET / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    sys.stdout.write(f"docs/img/{name}.png\n")


if __name__ == "__main__":
    sys.exit(main())
