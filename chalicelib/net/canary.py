"""A canary: three seconds of real speech through the edge, as a person would speak, and the words that come back.

The speech is kept as 8-bit mu-law (ITU-T G.711), a quarter of what is sent, because the Lambda package stays small.
"""

from __future__ import annotations

import array
import json
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from wsproto.utilities import ProtocolError

from chalicelib.domain.probes import Heard
from chalicelib.net import trust, websocket

RATE = 16000
FRAME_SAMPLES = RATE // 2
CLIP = Path(__file__).with_name("canary.ulaw")
SAID = "The bridge over the river was closed for the winter."
TIMEOUT_S = 15.0
END_OF_AUDIO = b"END_OF_AUDIO"


def speak(ws_url: str, ticket: str, ca_pem: str | None = None, timeout_s: float = TIMEOUT_S) -> Heard:
    """Dial, speak, listen until END; never raises for what a server may do."""
    began = time.monotonic()
    listener = _Listener(began)
    problem, code = "", None
    tls = trust.context(ca_pem) if ws_url.startswith("wss:") else None
    try:
        with websocket.connect(ws_url, ["bearer", ticket], tls, began + timeout_s) as stream:
            listener.upgraded()
            stream.send(json.dumps({"uid": "canary", "task": "transcribe", "language": "en", "use_vad": True}))
            while listener.ready_s is None:
                listener.take(stream.recv())
            samples = speech()
            for first in range(0, len(samples), FRAME_SAMPLES):
                stream.send(samples[first : first + FRAME_SAMPLES].tobytes())
            stream.send(END_OF_AUDIO)
            listener.said_all()
            while listener.final_s is None:
                listener.take(stream.recv())
    except websocket.Rejected as rejected:
        problem = f"the upgrade was answered with {rejected.status}"
    except websocket.Closed as closed:
        code = closed.code
        problem = f"closed with {code}{f': {closed.reason}' if closed.reason else ''}"
    except TimeoutError:
        problem = f"no {listener.awaited} within {timeout_s:g} s"
    except (OSError, ProtocolError) as error:
        problem = f"the stream could not be opened: {str(error) or type(error).__name__}"
        if listener.opened:
            problem = f"the stream broke: {str(error) or type(error).__name__}"
    return listener.heard(problem, code)


class _Listener:
    """Reads the server's messages; what is not understood is passed over, as old clients do."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._sent = began
        self._finals: dict[str, str] = {}
        self._upgrade_s: float | None = None
        self._first_word_s: float | None = None
        self.ready_s: float | None = None
        self.final_s: float | None = None

    @property
    def awaited(self) -> str:
        """What has not come yet."""
        if self._upgrade_s is None:
            return "answer to the upgrade"
        return "SERVER_READY" if self.ready_s is None else "END"

    @property
    def opened(self) -> bool:
        return self._upgrade_s is not None

    def upgraded(self) -> None:
        self._upgrade_s = time.monotonic() - self._began

    def said_all(self) -> None:
        self._sent = time.monotonic()

    def take(self, message: str | bytes) -> None:
        try:
            said: Any = json.loads(message)
        except ValueError:
            return
        if not isinstance(said, dict):
            return
        now = time.monotonic()
        if said.get("message") == "SERVER_READY":
            self.ready_s = now - self._began
        if said.get("status") == "END":
            self.final_s = now - self._sent
        segments = said.get("segments")
        for segment in segments if isinstance(segments, list) else []:
            if not isinstance(segment, dict) or not str(segment.get("text") or "").strip():
                continue
            if self._first_word_s is None:
                self._first_word_s = now - self._began
            if segment.get("completed"):
                # Messages repeat the last segments; each begins somewhere else.
                self._finals[str(segment.get("start"))] = str(segment["text"]).strip()

    def heard(self, problem: str, close_code: int | None) -> Heard:
        words = " ".join(self._finals.values())
        times = (self._upgrade_s, self.ready_s, self._first_word_s, self.final_s)
        return Heard(words, problem, *times, close_code)


@lru_cache(maxsize=1)
def speech() -> array.array[float]:
    """The clip as Float32 samples from -1 to 1, little-endian, mono, 16 kHz."""
    table = [_expand(code) for code in range(256)]
    samples = array.array("f", [table[code] for code in CLIP.read_bytes()])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _expand(code: int) -> float:
    """One mu-law code as a sample from -1 to 1 (G.711, table 2a)."""
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return (-magnitude if code & 0x80 else magnitude) / 32768
