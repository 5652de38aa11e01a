"""The loop: one look at this host after the other, a report when it is time, and the switch."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, NoReturn, Protocol

from .errors import LinkError
from .files import log
from .pace import Pace
from .reports import essence
from .settings import Settings
from .switch import Switch
from .wire import post

POLL_S = 0.5
"""How soon a change of this host is noticed."""


class Role(Protocol):
    """One host's side: what it reports, and how it obeys."""

    def observe(self) -> dict[str, Any]: ...
    def obey(self, answer: dict[str, Any], received_at: float) -> None:
        """Raises LinkError when that did not work; it is tried again with the next answer."""


class Link:
    """The loop. `once` is one look and, when it is time, one report."""

    def __init__(self, settings: Settings, role: Role, boot: str, switch: Switch | None = None) -> None:
        self._settings = settings
        self._role = role
        self._boot = boot
        self._switch = switch
        self._pace = Pace()
        self._trouble: str | None = None
        self._switch_trouble = ""

    def once(self) -> None:
        """Never raises: whatever goes wrong is logged when it changes, and tried again later."""
        streaming = None
        try:
            streaming = self._report()
        except Exception as error:  # noqa: BLE001 - the link must outlive its own bugs, and say that it has one
            self._say(f"a bug of the link: {type(error).__name__}: {error}")
        # After the report, so that a loop that slept long asks once more before the switch falls.
        if self._switch is not None:
            try:
                self._switch.look(streaming)
            except LinkError as error:
                if str(error) != self._switch_trouble:
                    log("deadman.trouble", cause=str(error))
                    self._switch_trouble = str(error)

    def _report(self) -> bool:
        """Report if it is time; whether something streams here."""
        try:
            observed = self._role.observe()
        except LinkError as error:
            observed = {"status": "failed", "cause": str(error)}
        streaming = bool(observed.get("streams"))
        told = essence(observed)
        if not self._pace.is_due(time.monotonic(), told):
            return streaming
        report = {**observed, "boot_id": self._boot}
        report.setdefault("release", self._settings.release)
        try:
            answer = post(self._settings, report)
            if self._switch is not None:
                self._switch.answered(answer)
            self._role.obey(answer, time.time())
        except LinkError as error:
            self._say(str(error))
            self._pace.failed(time.monotonic(), random.random())  # noqa: S311 - jitter, no secret
            return streaming
        self._say(None)
        self._pace.answered(time.monotonic(), told, float(answer["next_report_s"]))
        return streaming

    def _say(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            log("link.trouble" if trouble else "link.well", cause=trouble)
            self._trouble = trouble

    def run(self) -> NoReturn:
        stopped = threading.Event()
        while True:
            self.once()
            stopped.wait(POLL_S)
