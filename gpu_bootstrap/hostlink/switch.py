"""The dead man's switch at work: its memory, and the power-off."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from .answers import stay_s
from .deadman import LOOK_S, NOTICE_S, OURS, Act, Decision, Limits, Vitals, closing, deadman, remembered
from .errors import LinkError
from .files import log, write_private
from .settings import Settings

SCRIPT_TIMEOUT_S = 30.0


def monotonic() -> float:
    """Seconds of a clock that every process of this boot shares and that nobody can set."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def power_off(*options: str) -> None:
    """Raises LinkError when the host would not."""
    try:
        done = subprocess.run(
            ["systemctl", "poweroff", *options], capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LinkError(f"power-off did not run: {error}") from error
    if done.returncode != 0:
        raise LinkError(f"power-off failed ({done.returncode}): {done.stderr.strip()[-300:]}")


class Switch:
    """The dead man's switch at work: remembers in its file, decides by `deadman`, acts."""

    def __init__(self, settings: Settings, boot: str, kernel_boot: bool) -> None:
        """`kernel_boot`: the boot is the kernel's, so that the clock began with it."""
        assert settings.deadman_file is not None
        assert settings.control_file is not None
        self._file, self._control_file = settings.deadman_file, settings.control_file
        self._limits = Limits(settings.deadman_s, settings.hard_max_s)
        self._vitals = Vitals(boot, 0.0 if kernel_boot else monotonic())
        self._written_at = -math.inf
        self._recall()
        if self._vitals.armed_at is None and self._vitals.answered_at is None:
            self._vitals = replace(self._vitals, armed_at=monotonic())

    def answered(self, answer: Mapping[str, Any]) -> None:
        """A report was answered."""
        now, stay = monotonic(), stay_s(answer)
        self._vitals = replace(self._vitals, answered_at=now, stay_until=None if stay is None else now + stay)
        self._remember()

    def look(self, streaming: bool | None) -> Decision:
        """Decide and act. `streaming`: None when nobody can say; what was true last stands then.

        Raises LinkError when the act failed.
        """
        now, before = monotonic(), self._vitals
        active = before.streaming if streaming is None else streaming
        seen = replace(
            before, streaming=active, streamed_at=now if active or before.streaming else before.streamed_at
        )
        decision = deadman(seen, self._limits, now)
        if decision.action is Act.ANNOUNCE:
            seen = replace(seen, announced_at=now)
        elif decision.action in (Act.POWER_OFF, Act.INSIST):
            seen = replace(seen, off_at=now)
        self._vitals = seen
        # The moment of a stream that goes on is written now and then, not twice a second.
        if replace(seen, streamed_at=None) != replace(before, streamed_at=None) or now - self._written_at >= LOOK_S:
            self._remember()
        if decision.action is not Act.HOLD:
            log(f"deadman.{decision.action}", reason=decision.reason)
        if seen.announced_at is not None:
            self._keep_draining(decision.reason, max(0.0, seen.announced_at + NOTICE_S - now))
        if decision.action in (Act.POWER_OFF, Act.INSIST):
            power_off(*(["--force"] if decision.action is Act.INSIST else []))
        return decision

    def _keep_draining(self, reason: str, closes_in_s: float) -> None:
        """The launcher's drain is ours now, whatever an answer says."""
        left: object = None
        with contextlib.suppress(OSError, ValueError):
            left = json.loads(self._control_file.read_text())
        told = left if isinstance(left, dict) else {}
        drain = told.get("drain")
        if not isinstance(drain, dict) or not str(drain.get("reason")).startswith(OURS):
            write_private(self._control_file, json.dumps(closing(told, reason, closes_in_s, time.time())))

    def _recall(self) -> None:
        """What an earlier process of this boot knew; anything odd in it is as if there were none."""
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            self._vitals = remembered(json.loads(self._file.read_text()), self._vitals.boot_id, monotonic())

    def _remember(self) -> None:
        self._written_at = monotonic()
        try:
            write_private(self._file, json.dumps(asdict(self._vitals)))
        except LinkError as error:
            log("deadman.trouble", cause=str(error))  # it goes on from its own memory
