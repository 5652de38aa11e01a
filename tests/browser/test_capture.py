"""The microphone in Chromium: what reaches the server is what was played, whatever rate the browser gives."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from tests.browser.pages import scripted_page
from tests.browser.scripted import TOKEN, Scripted
from tests.waiting import wait_until

pytestmark = pytest.mark.chromium
CLIP = Path(__file__).resolve().parents[1] / "speech/short.wav"
RATE = 16000
ALIKE = 0.98
RECORDINGS = 3

# A browser that gives no context at 16 kHz, as Firefox with a microphone of another rate.
NATIVE_ONLY = """
const Native = window.AudioContext;
window.AudioContext = class extends Native {
  constructor(options = {}) {
    if (options.sampleRate) throw new DOMException("not at this rate", "NotSupportedError");
    super(options);
    window.nativeRate = this.sampleRate;
  }
};
"""


def clip() -> NDArray[np.float64]:
    with wave.open(str(CLIP)) as source:
        pcm = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2")
    return pcm.astype(np.float64) / 32768


def likeness(heard: NDArray[np.float64], played: NDArray[np.float64]) -> float:
    """The highest normalised cross-correlation of `played` with a stretch of `heard`; 1: the same but for height."""
    size = 1 << (len(heard) + len(played)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)), size)[: len(heard)]
    at = int(np.argmax(products[: max(1, len(heard) - len(played) + 1)]))
    stretch = heard[at : at + len(played)]
    return float(stretch @ played / (np.linalg.norm(stretch) * np.linalg.norm(played)))


@pytest.mark.parametrize("native_only", [False, True], ids=["at 16 kHz", "at the device's rate"])
def test_what_is_played_arrives(open_page: Callable[..., Page], tmp_path: Path, native_only: bool) -> None:
    played = clip()
    page = open_page(clip=CLIP)
    if native_only:
        page.add_init_script(NATIVE_ONLY)
    # A machine that does not give Chromium its tenths of a second tears a hole into one recording, not into each.
    found: list[float] = []
    while len(found) < RECORDINGS and max(found, default=0.0) <= ALIKE:
        found.append(likeness(recorded(page, tmp_path, len(played) / RATE + 2), played))
    assert max(found) > ALIKE, found
    if native_only:
        assert page.evaluate("window.nativeRate") not in (None, RATE)


def recorded(page: Page, folder: Path, seconds: float) -> NDArray[np.float64]:
    """What reaches a server of one recording."""
    with scripted_page(folder) as (address, server):
        page.goto(f"{address}#token={TOKEN}")
        page.get_by_test_id("start").click()
        wait_until(lambda: server.seconds > seconds, 60, "the clip to be streamed")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("phase")).to_have_text("Finished")
    return np.frombuffer(bytes(server.audio), dtype="<f4").astype(np.float64)


# Keeps what the page opened, so that a test can do to it what a system does.
OPENED = """
window.tracks = [];
window.contexts = [];
window.noOther = false;
const media = MediaDevices.prototype.getUserMedia;
MediaDevices.prototype.getUserMedia = async function (wish) {
  if (window.noOther) throw new DOMException("none", "NotFoundError");
  const stream = await media.call(this, wish);
  window.tracks.push(stream.getAudioTracks()[0]);
  return stream;
};
const Context = window.AudioContext;
window.AudioContext = class extends Context {
  constructor(options) {
    super(options);
    window.contexts.push(this);
  }
};
"""


def test_what_a_system_does_to_a_microphone(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page(clip=CLIP)
    page.add_init_script(OPENED)
    with scripted_page(tmp_path, Scripted(waking=[])) as (address, server):
        page.goto(f"{address}#token={TOKEN}")
        page.get_by_test_id("start").click()
        phase, detail = page.get_by_test_id("phase"), page.locator("#detail")
        wait_until(lambda: server.seconds > 0.5, 30, "samples to come")

        page.evaluate("tracks[0].dispatchEvent(new Event('mute'))")
        expect(detail).to_have_text("The microphone gives no sound: another program or a switch on it holds it.")
        expect(page.get_by_test_id("lost")).to_have_text("0.0 s lost")
        page.evaluate("tracks[0].dispatchEvent(new Event('unmute'))")
        expect(detail).not_to_contain_text("no sound")

        page.evaluate("contexts[0].suspend()")  # as a phone call does
        wait_until(lambda: page.evaluate("contexts[0].state") == "running", 10, "the context to run again")
        before = server.seconds
        wait_until(lambda: server.seconds > before + 0.5, 20, "samples to come again")

        page.evaluate("tracks[0].dispatchEvent(new Event('ended'))")
        expect(detail).to_contain_text("The microphone went away; recording goes on with")
        before = server.seconds
        wait_until(lambda: server.seconds > before + 0.5, 20, "the other microphone's samples")
        assert page.evaluate("tracks.length") == 2

        page.evaluate("window.noOther = true; tracks[1].dispatchEvent(new Event('ended'))")
        expect(phase).to_have_text("Finished", timeout=20_000)
    assert server.wrong == []
    assert server.ended
