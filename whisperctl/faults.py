"""Faults on purpose for `whisperctl stream`: when, and how long until the stream was live again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from whisperctl.relay import Relay


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind`: drop breaks connections, freeze holds their bytes. Seconds since the stream was first live."""

    kind: str
    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to go wrong. `kbps`: kilobytes per second towards the stack, None for all that passes."""

    faults: tuple[Fault, ...] = ()
    kbps: float | None = None

    def __bool__(self) -> bool:
        return bool(self.faults) or self.kbps is not None


async def play(plan: Plan, relay: Relay, answered_since: Callable[[float], bool], told: list[dict[str, Any]]) -> None:
    """Run the faults, one after the other, on a stream that is live; `told` gets what came of each.

    `answered_since`: whether the stream is live and has heard the server since a moment of the monotonic clock.
    """
    began = time.monotonic()
    for fault in sorted(plan.faults, key=lambda fault: fault.at_s):
        await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
        if fault.kind == "freeze":
            relay.freeze()
        else:
            relay.down()
        await asyncio.sleep(fault.for_s)
        relay.up()
        back = time.monotonic()
        outcome: dict[str, Any] = {"kind": fault.kind, "at_s": fault.at_s, "for_s": fault.for_s, "live_again_s": None}
        told.append(outcome)
        while not answered_since(back):
            await asyncio.sleep(0.02)
        outcome["live_again_s"] = round(time.monotonic() - back, 3)
