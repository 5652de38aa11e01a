"""The page in Chromium on the real chain while it breaks: one run, what each connection carried, what was heard.

Between Chromium and the edge lies a relay that a test takes down; page, edge, GPU host and control plane are real.
What went over a WebSocket is what the browser itself reports of it, and what was recorded is what the page keeps.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, Playwright, WebSocket, expect

from tests.browser.pages import browser
from tests.stack import Stack
from tests.wss import plain_words, word_error_rate
from whisperctl.relay import Relay

RATE = 16000
BACK_S = 3.0
"""Live again within so many seconds of the network's return."""
OVERLAP_S = 1.0
"""So much before what is confirmed may be sent again."""
Samples = NDArray[np.int16]

PHASES = """
addEventListener("DOMContentLoaded", () => {
  window.phases = [];
  const phase = document.getElementById("phase");
  if (!phase) return;
  const note = () => phases.push([Date.now() / 1000, phase.textContent]);
  new MutationObserver(note).observe(phase, { childList: true, characterData: true, subtree: true });
});
"""
RECORDED = """
async () => {
  const { Keeping } = await import("/js/keeping.js");
  const keeping = await Keeping.open();
  const [newest] = await keeping.list();
  const blocks = await keeping.audio(newest.id);
  keeping.close();
  const parts = [];
  for (const block of blocks) {
    const bytes = new Uint8Array(Int16Array.from(block, (sample) => Math.round(sample * 32768)).buffer);
    let letters = "";
    for (let at = 0; at < bytes.length; at += 8192) letters += String.fromCharCode(...bytes.subarray(at, at + 8192));
    parts.push(btoa(letters));
  }
  return parts;
}
"""


@dataclass
class Connection:
    """One WebSocket of the page: audio sent on it, and what the server said of it."""

    sent: bytearray = field(default_factory=bytearray, repr=False)
    confirmed_s: float = 0.0
    """Up to where the server has processed it, in seconds of the connection."""
    ended: bool = False
    """The server said END: all that was sent has its words."""

    def watch(self, socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: self._sent(frame))
        socket.on("framereceived", lambda frame: self._received(frame))

    def _sent(self, frame: bytes | str) -> None:
        if isinstance(frame, bytes) and frame != b"END_OF_AUDIO":
            self.sent += frame

    def _received(self, frame: bytes | str) -> None:
        said = json.loads(frame)
        done = [float(each["end"]) for each in said.get("segments", []) if each["completed"]]
        self.confirmed_s = max([self.confirmed_s, float(said.get("processed_until", 0.0)), *done])
        self.ended |= said.get("status") == "END"

    @property
    def samples(self) -> Samples:
        """As the page keeps them: 16 bits, rounded the same way."""
        exact = np.frombuffer(bytes(self.sent), dtype="<f4").astype(np.float64)
        return np.floor(np.clip(exact, -1, 1) * 32767 + 0.5).astype(np.int16)


class Network:
    """A relay to the edge in a thread of its own."""

    def __init__(self, stack: Stack) -> None:
        address = urlsplit(stack.edge_url)
        assert address.port is not None
        self.edge_port = address.port
        self._relay = Relay("127.0.0.1", address.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")

    @property
    def flags(self) -> list[str]:
        """What makes Chromium take this way to the edge, for the page, the API and the stream."""
        return [f"--host-resolver-rules=MAP localhost:{self.edge_port} 127.0.0.1:{self._relay.port}"]

    def __enter__(self) -> Network:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._relay.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._relay.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def down(self) -> None:
        self._do(self._relay.down)

    def up(self) -> float:
        """Let everything through again; the moment when, in seconds since 1970."""
        self._do(self._relay.up)
        return time.time()

    def _do(self, work: Callable[[], None]) -> None:
        async def call() -> None:
            work()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)


@dataclass
class Run:
    """One conversation on the page, from the click to the last word."""

    page: Page
    network: Network
    stack: Stack
    connections: list[Connection] = field(default_factory=list)
    returned_at: list[float] = field(default_factory=list)
    """When the network, or the server, was back after each fault; seconds since 1970."""

    def start(self) -> None:
        self.page.on("websocket", self._opened)
        self.page.add_init_script(PHASES)
        self.page.goto(f"{self.stack.edge_url}/#token={self.stack.tokens['speaker']}")
        expect(self.page.get_by_test_id("start")).to_be_enabled()
        self.page.get_by_test_id("start").click()

    def stop(self, timeout_s: float = 60) -> None:
        self.page.get_by_test_id("stop").click()
        expect(self.page.get_by_test_id("phase")).to_have_text("Finished", timeout=timeout_s * 1000)

    def hold(self, seconds: float) -> None:
        """Let so much time pass; a fault's own length."""
        self.page.wait_for_timeout(seconds * 1000)

    def until(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """As wait_until, while the browser's events go on coming."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
            self.page.wait_for_timeout(50)

    def until_recorded(self, seconds: float) -> None:
        phase = self.page.get_by_test_id("phase")
        expect(phase).to_have_text(re.compile("Listening|Ended early"), timeout=90_000)
        assert phase.text_content() == "Listening", self.page.locator("#error").text_content()
        self.until(lambda: self.recorded_s >= seconds, seconds + 60, f"{seconds:g} s of recording")

    @property
    def recorded_s(self) -> float:
        parts = (self.page.locator("#elapsed").text_content() or "0:00").split(":")
        return float(parts[-2]) * 60 + float(parts[-1])

    def _opened(self, socket: WebSocket) -> None:
        connection = Connection()
        connection.watch(socket)
        self.connections.append(connection)

    @property
    def heard(self) -> str:
        return " ".join((self.page.get_by_test_id("transcript").text_content() or "").split())

    def late(self) -> dict[str, list[str]]:
        """Where the time went, as the page says: half and 95 % of the words within, by part."""
        rows = self.page.locator("#delays [data-part]").all()
        return {row.get_attribute("data-part") or "": row.locator("td").all_text_contents() for row in rows}

    def live_again_s(self) -> list[float]:
        """Seconds from each return until the page listened again; 0 where it never ceased to."""
        phases: list[tuple[float, str]] = [(at, text) for at, text in self.page.evaluate("window.phases")]
        waits = []
        for returned in self.returned_at:
            before = [text for at, text in phases if at <= returned]
            after = [at for at, text in phases if at > returned and text == "Listening"]
            gone = not before or before[-1] != "Listening"
            waits.append(after[0] - returned if gone and after else float("inf") if gone else 0.0)
        return waits

    def check(self, reference: str) -> float:
        """Every sample once, nothing lost, no word twice, live again in time; returns the word error rate."""
        expect(self.page.locator("#detail")).to_have_text("Every word is final, 0.0 s lost.")
        self.check_samples()
        heard = self.heard
        twice = said_twice(reference, heard)
        assert not twice, (twice, heard)
        waits = self.live_again_s()
        assert not waits or max(waits) < BACK_S, waits
        return word_error_rate(reference, heard)

    def check_samples(self) -> None:
        """Each connection's frames are what was recorded, in order, from where the one before was confirmed on."""
        recorded = np.concatenate(
            [np.frombuffer(base64.b64decode(part), dtype="<i2") for part in self.page.evaluate(RECORDED)]
        )
        confirmed = 0
        used = [connection for connection in self.connections if connection.sent]
        for number, connection in enumerate(used):
            samples = connection.samples
            first = _place(recorded, samples[: RATE // 4], max(0, confirmed - round(OVERLAP_S * RATE)))
            same = np.array_equal(recorded[first : first + len(samples)], samples)
            assert same, f"connection {number} sent something else than was recorded from {first / RATE} s on"
            assert first <= confirmed, f"nobody sent {confirmed / RATE} to {first / RATE} s"
            assert first >= confirmed - RATE * OVERLAP_S - RATE // 100, "more was sent again than the overlap"
            until = first + len(samples) if connection.ended else first + round(connection.confirmed_s * RATE)
            confirmed = max(confirmed, min(until, first + len(samples)))
        assert used[-1].ended, "the server must have said END"
        assert confirmed == len(recorded), f"{confirmed} of {len(recorded)} samples were confirmed"


def _place(recorded: Samples, beginning: Samples, near: int) -> int:
    """The number of the first sample of `beginning`, which begins a frame: the first place from `near` on."""
    data, wanted = recorded.astype("<i2").tobytes(), beginning.astype("<i2").tobytes()
    at = data.find(wanted, max(0, near - RATE // 100) * 2)
    while at % 2 and at >= 0:
        at = data.find(wanted, at + 1)
    assert at >= 0, "what was sent was never recorded"
    return at // 2


def said_twice(reference: str, heard: str) -> list[str]:
    """Up to eight words that follow themselves, and three in a row that come again within a sentence's length.

    What was said so is left out. Pairs may come twice by mishearing ("today the" as "to the"), and so may a sentence
    that is said twice; what a seam doubles stands near itself.
    """
    words, said = plain_words(heard).split(), plain_words(reference).split()
    doubled = [
        " ".join(words[at : at + 2 * count])
        for count in range(1, 9)
        for at in range(len(words) - 2 * count + 1)
        if words[at : at + count] == words[at + count : at + 2 * count]
    ]
    spoken = f" {' '.join(said)} "
    return [run for run in doubled if f" {run} " not in spoken] + sorted(_again(words) - _again(said))


def _again(words: list[str]) -> set[str]:
    """Three words in a row that come again before twelve others have."""
    threes = list(zip(words, words[1:], words[2:], strict=False))
    return {" ".join(three) for at, three in enumerate(threes) if three in threes[at + 1 : at + 13]}


def microphone(target: Path, clips: Sequence[Path], before_s: float, after_s: float, pause_s: float = 0.5) -> str:
    """Write the clips one after the other with pauses between them; returns what they say.

    A noise of a few units lies under all of it, far below what Whisper hears: no two places are alike, not even in
    silence, so that each frame tells where it belongs.
    """
    parts: list[NDArray[np.int64]] = [np.zeros(round(before_s * RATE), dtype=np.int64)]
    for clip in clips:
        with wave.open(str(clip)) as source:
            parts.append(np.frombuffer(source.readframes(source.getnframes()), dtype="<i2").astype(np.int64))
        parts.append(np.zeros(round(pause_s * RATE), dtype=np.int64))
    parts.append(np.zeros(round(after_s * RATE), dtype=np.int64))
    speech = np.concatenate(parts)
    noise = np.random.default_rng(7).integers(-6, 7, len(speech))
    with wave.open(str(target), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(np.clip(speech + noise, -32768, 32767).astype("<i2").tobytes())
    return " ".join(clip.with_suffix(".txt").read_text().strip() for clip in clips)


@contextlib.contextmanager
def conversation(playwright: Playwright, stack: Stack, sound: Path) -> Iterator[Run]:
    """A page at work in a Chromium of its own; what it complains of fails the test."""
    complaints: list[str] = []
    with Network(stack) as network:
        chromium = browser(playwright, sound, *network.flags)
        try:
            context = chromium.new_context(ignore_https_errors=True, permissions=["microphone"], locale="en-GB")
            page = context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            run = Run(page, network, stack)
            run.start()
            yield run
        finally:
            chromium.close()
    assert not complaints, complaints


def report(name: str, **figures: Any) -> None:
    """One line for whoever runs it with -s."""
    print(json.dumps({"case": name, **figures}))  # noqa: T201
