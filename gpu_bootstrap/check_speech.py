"""Real words from real speech: stream speech.wav to this host's own port and compare what comes back.

Where streams need a ticket, one is made from the keys that the control plane gave this host; so this runs as root, in
the release: `venv/bin/python -m gpu_bootstrap.check_speech`. Prints one line, the words or why none came.
Exit codes: 0 the words are right, 1 they are not.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import time
import uuid
import wave
from pathlib import Path

import jwt
import numpy as np
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from gpu_bootstrap.control import parse

HERE = Path(__file__).resolve().parent
ANSWER_S = 60.0
KEYS_S = 20.0
"""Seconds a link that has just started has for its first answer."""
ALIKE = 0.8
"""How much of the words must be right: the smallest model reads this clip without a mistake."""


class CheckError(Exception):
    """No right words; the message says why."""


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def alike(said: str, heard: str) -> float:
    """Share of words in common, in order: 0 to 1."""
    return difflib.SequenceMatcher(None, words(said), words(heard), autojunk=False).ratio()


def ticket(control_file: Path, now: float) -> str:
    """A ticket of a minute, signed with the newest key this host has; waits for the first."""
    deadline = time.monotonic() + KEYS_S
    while True:
        try:
            control = parse(control_file.read_text(), drain_since=now)
            kid, secret = list(control.ticket_keys.items())[-1]
            break
        except (OSError, ValueError, IndexError):
            if time.monotonic() > deadline:
                raise CheckError("no ticket key: the control plane does not answer this host") from None
            time.sleep(0.1)
    # By the control plane's clock, as the launcher will read it.
    claims = {"sid": f"check-{uuid.uuid4()}", "exp": int(now + control.ahead_s) + 60}
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": kid})


def samples(path: Path) -> bytes:
    """The clip as the protocol wants it: mono 16 kHz float32."""
    with wave.open(str(path)) as clip:
        pcm = np.frombuffer(clip.readframes(clip.getnframes()), dtype="<i2")
    return (pcm.astype(np.float32) / 32768).astype("<f4").tobytes()


def hear(url: str, token: str | None, audio: bytes) -> str:
    """What the host makes of the clip."""
    offered = [Subprotocol("bearer"), Subprotocol(token)] if token else None
    hello = {"uid": str(uuid.uuid4()), "task": "transcribe", "language": "en", "model": "", "use_vad": True}
    hello["model"] = os.environ.get("WHISPER_MODEL", "tiny.en")
    found: dict[str, str] = {}
    try:
        with connect(url, subprotocols=offered, open_timeout=10, proxy=None) as stream:
            stream.send(json.dumps(hello))
            deadline = time.monotonic() + ANSWER_S
            while True:
                message = json.loads(stream.recv(timeout=max(0.1, deadline - time.monotonic())))
                if message.get("message") == "SERVER_READY":
                    stream.send(audio)
                    stream.send(b"END_OF_AUDIO")
                if message.get("status") == "ERROR":
                    raise CheckError(f"the host refuses: {message.get('message')}")
                found |= {one["start"]: one["text"] for one in message.get("segments", []) if one["completed"]}
                if message.get("status") == "END":
                    break
    except ConnectionClosed as closed:
        if closed.rcvd is not None and closed.rcvd.code != 1000:
            raise CheckError(f"the host closed the stream: {closed.rcvd.code} {closed.rcvd.reason}") from None
    except TimeoutError:
        raise CheckError(f"no end of the transcript in {ANSWER_S:g} s") from None
    except (OSError, WebSocketException) as error:
        raise CheckError(f"port 9090 takes no stream: {error}") from None
    return " ".join(found[start].strip() for start in sorted(found, key=float))


def main() -> int:
    said = (HERE / "speech.txt").read_text()
    control = Path(os.environ.get("WHISPER_CONTROL_FILE") or "/run/whisperlive/control.json")
    try:
        needs = os.environ.get("WHISPER_REQUIRE_TICKET", "true").lower() != "false"
        token = ticket(control, time.time()) if needs else None
        heard = hear("ws://127.0.0.1:9090/", token, samples(HERE / "speech.wav"))
        if alike(said, heard) < ALIKE:
            raise CheckError(f"heard {heard!r}, said was {said.strip()!r}")
    except CheckError as error:
        print(error)  # noqa: T201 - its output
        return 1
    print(heard)  # noqa: T201 - its output
    return 0


if __name__ == "__main__":
    sys.exit(main())
