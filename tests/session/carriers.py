"""Plays a vector's steps to a carrier and writes down what it does, in the vectors' short words.

A step is `[time, event, argument…, {expected}]`; tests/browser/js/session.mjs reads the same files.
"""

from __future__ import annotations

import json
from typing import Any

from whisperctl.session.carrier import (
    Audio,
    Carrier,
    Close,
    Connect,
    Effect,
    End,
    Hello,
    Notice,
    Over,
    Renew,
    Words,
)
from whisperctl.session.connection import FRAME_SAMPLES, RATE


class Player:
    """One carrier with a socket buffer that a test sets. Samples are written in seconds."""

    def __init__(self, jitter: float = 0.5) -> None:
        self.buffered_s = 0.0
        self.carrier = Carrier(buffered=lambda _: round(self.buffered_s * RATE * 4), jitter=lambda: jitter)

    def step(self, now: float, event: str, arguments: list[Any]) -> list[str]:
        carrier = self.carrier
        match event, arguments:
            case "captured", [seconds]:
                return _short(carrier.captured(round(seconds * RATE), now))
            case "message", [conn, said]:
                text = said if isinstance(said, str) else json.dumps(said)
                return _short(carrier.message(conn, text, now))
            case "closed", [conn, code, *reason]:
                return _short(carrier.closed(conn, code, reason[0] if reason else "", now))
            case "opened", [conn]:
                return _short(carrier.opened(conn, now))
            case "buffered", [seconds]:
                self.buffered_s = seconds
                return _short(carrier.tick(now))
            case "contact", []:
                carrier.contact(now)
                return []
            case "session_over", [sentence]:
                return _short(carrier.session_over(sentence, now))
            case "give_up", [sentence]:
                return _short(carrier.give_up(sentence, now))
            case (("place" | "finish" | "online" | "tick"), []):
                method = getattr(carrier, event)
                return _short(method(now))
        raise ValueError(f"no such step: {event} {arguments}")

    def looks(self) -> dict[str, Any]:
        """All that a step may expect besides `then`."""
        carrier = self.carrier
        partial = carrier.transcript.partial
        return {
            "state": carrier.state,
            "keep_from": carrier.keep_from / RATE,
            "behind": round(carrier.behind_s, 3),
            "lost": round(carrier.lost_s, 3),
            "reconnects": carrier.reconnects,
            "slow": carrier.slow_network,
            "wants_place": carrier.wants_place,
            "text": carrier.transcript.text,
            "partial": partial.text if partial else "",
        }


def _short(effects: list[Effect]) -> list[str]:
    """`connect 1`, `audio 1 0..2.5` (frames that follow each other as one), `over 4401`; words and notices too."""
    told: list[str] = []
    audio: tuple[int, int, int] | None = None
    for effect in [*effects, None]:
        if isinstance(effect, Audio) and audio and (effect.conn, effect.first) == (audio[0], audio[2]):
            audio = (audio[0], audio[1], audio[2] + effect.count)
        else:
            if audio:
                told.append(f"audio {audio[0]} {audio[1] / RATE:g}..{audio[2] / RATE:g}")
            audio = (effect.conn, effect.first, effect.first + effect.count) if isinstance(effect, Audio) else None
        match effect:
            case Audio(count=count):
                assert 0 < count <= FRAME_SAMPLES
            case Connect(conn) | Hello(conn) | End(conn) | Close(conn):
                told.append(f"{type(effect).__name__.lower()} {conn}")
            case Renew():
                told.append("renew")
            case Words(finals):
                told += [f"final {segment.start:g}..{segment.end:g} {segment.text}" for segment in finals]
            case Notice(sentence):
                told.append(f"notice {sentence}")
            case Over(complete, code, sentence):
                told.append("over complete" if complete else f"over {code or '-'} {sentence}")
    return told
