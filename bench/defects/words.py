"""Probes of what becomes of the words, and of what silence costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.defects.probe import Finding
from bench.peer import Peer, clip, found, silence
from bench.servers import Server

TOO_MUCH_CPU_S = 1.5
"""The VAD looks through 5 s of silence in less than a tenth of this."""
MANY_REPEATS = 6
"""A sentence of 3.6 s is shown less often than this before it is final, unless it becomes final by repetition."""


def tail_at_the_end(server: Server) -> Finding:
    """Row 2: a burst, and END_OF_AUDIO right behind it."""
    samples, said = clip("train")
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        peer.burst(samples)
        began = time.monotonic()
        peer.end()
        closed = peer.wait_closed(60)
        took = time.monotonic() - began
        got = found(said, peer.final_words())
        ended = "END" in peer.statuses()
    return Finding(
        got < 0.8 * len(said) or not ended,
        f"11.5 s in a burst, then END_OF_AUDIO: {got} of {len(said)} words were final when it closed {took:.1f} s "
        f"later ({closed}), {'with' if ended else 'no'} END",
    )


def backlog(server: Server) -> Finding:
    """Row 5: a sentence in the 20th second of 95 s that come at once."""
    samples, said = clip("short")
    opening, _ = clip("train")
    whole = np.concatenate([opening, silence(8.5), samples, silence(71.5)])
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        peer.burst(whole)
        peer.end()
        # A stock server closes at once; ours when all is decoded.
        peer.wait_closed(90)
        at_end = found(said, peer.all_words())
    if at_end >= len(said) - 1:
        return Finding(False, f"95 s at once: {at_end} of the {len(said)} words said in second 20 came")
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()
        peer.burst(whole)
        peer.wait(lambda: found(said, peer.all_words()) >= len(said) - 1, 15)
        got = found(said, peer.all_words())
    return Finding(
        got < len(said) - 1, f"95 s at once: {got} of the {len(said)} words said in second 20 came, and no error"
    )


def unacknowledged_silence(server: Server) -> Finding:
    """Row 5b."""
    with Peer(server) as peer:
        peer.hello(use_vad=True)
        peer.wait_ready()
        before = len(peer.messages)
        peer.burst(silence(40))
        peer.wait(lambda: any(float(one.get("processed_until", 0)) > 39 for one in peer.messages), 6)
        said = peer.messages[before:]
    until = max((float(one.get("processed_until", 0)) for one in said), default=0.0)
    return Finding(until <= 39, f"40 s of silence with VAD: {len(said)} messages, processed_until {until:.1f} s")


def silence_costs(server: Server) -> Finding:
    """Row 6: a client that says nothing of VAD, and nothing at all."""
    server.wait_idle()
    with Peer(server) as peer:
        peer.hello(use_vad=...)
        peer.wait_ready()
        server.wait_idle()
        peer.burst(silence(5))
        spent = server.spends(TOO_MUCH_CPU_S)
        invented = " ".join(peer.all_words()[:4])
    rest = "before it rested" if spent < TOO_MUCH_CPU_S else "and no end of it"
    seen = f"5 s of silence, use_vad not named, cost {spent:.1f} CPU-s {rest}"
    return Finding(spent >= TOO_MUCH_CPU_S, seen + (f", and the words “{invented}”" if invented else ""))


def said_twice(server: Server) -> Finding:
    """Row 8: one sentence twice, another behind it."""
    samples, said = clip("short")
    other, other_said = clip("train")
    with Peer(server) as peer:
        # The quickest a stock server can be, so that the look is short.
        peer.hello(same_output_threshold=1)
        peer.wait_ready()
        for _ in range(2):
            begun, final = len(peer.messages), peer.final_words().count("bridge")
            peer.burst(np.concatenate([samples, silence(2)]))
            _until(peer, lambda: peer.final_words().count("bridge") > final or _gone(peer, said, begun))  # noqa: B023
        peer.burst(np.concatenate([other[: 16_000 * 4], silence(2)]))
        _until(peer, lambda: found(other_said[:8], peer.final_words()) >= 6)
        peer.end()
        peer.wait_closed(20)
        times = peer.final_words().count("bridge")
    return Finding(times < 2, f"a sentence said twice became final {_times(times)}")


def _until(peer: Peer, condition: Callable[[], object]) -> None:
    if not peer.wait(condition, 120):
        raise TimeoutError("the server took more than 120 s over a sentence: too busy a machine for this look")


def _gone(peer: Peer, said: list[str], begun: int) -> bool:
    """Whether the sentence was shown as a partial since message `begun`, and is no more."""
    shown = False
    for message in peer.messages[begun:]:
        segments = message.get("segments", [])
        partial = any(found(said, _words(one)) > len(said) // 2 for one in segments if not one["completed"])
        if shown and not partial:
            return True
        shown = shown or partial
    return False


def _words(segment: dict[str, str]) -> list[str]:
    return segment["text"].lower().replace(".", "").split()


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def slow_to_final(server: Server) -> Finding:
    """Row 9: a sentence and silence as they are spoken."""
    samples, said = clip("short")
    with Peer(server) as peer:
        peer.hello()
        peer.wait_ready()

        def final() -> bool:
            return found(said, peer.final_words()) >= len(said) - 1

        peer.speak(samples)
        spoken = time.monotonic()
        peer.speak(silence(90), final)
        if not final():
            return Finding(True, "a sentence was not final 90 s after it was said")
        first = next(at for at, message in enumerate(peer.messages) if _shows(message, completed=True))
        repeats = sum(_shows(message, completed=False) for message in peer.messages[:first])
        took = max(0.0, peer.arrived[first] - spoken)
    # Seconds are the machine's affair as well; how often it was read again is the server's alone.
    return Finding(
        repeats >= MANY_REPEATS,
        f"a sentence was final {took:.1f} s after it was said, shown as a partial {repeats} times before",
    )


def _shows(message: dict[str, Any], *, completed: bool) -> bool:
    return any(one["completed"] is completed for one in message.get("segments", []))
