"""What the control plane last told this host, as link.py left it in the control file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpu_bootstrap import log

POLL_S = 0.25


@dataclass(frozen=True)
class Drain:
    """The host is to take no new streams and to end the live ones at `closing_at` (host epoch seconds).

    `restarts`: it serves again in a moment, so whoever streams will be back.
    """

    closing_at: float
    closing_at_text: str
    reason: str
    restarts: bool = False


@dataclass(frozen=True)
class Control:
    """One state of the control file. `ahead_s`: seconds the control plane's clock is ahead of this host's."""

    ticket_keys: Mapping[str, str] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    drain: Drain | None = None
    model: str | None = None
    ahead_s: float = 0.0


def parse(text: str, *, drain_since: float) -> Control:
    """Read the control file's JSON: the answer of the host link plus `received_at` (host epoch seconds).

    A drain received before `drain_since` is left out: it stopped the previous run of this host, and obeying it
    again would keep the host closed for ever. Raises ValueError when the text is not of that form; a field of
    the wrong form is an error too, never half a state.
    """
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("the control file must hold a JSON object")
    received_at = _number(answer.get("received_at", 0.0), "received_at")
    now = answer.get("now")
    ahead_s = _instant(now, "now") - received_at if now is not None and received_at else 0.0
    keys = answer.get("ticket_keys") or []
    revoked = answer.get("revoked") or []
    model = answer.get("model")
    if not isinstance(keys, list) or not all(
        isinstance(key, dict) and isinstance(key.get("kid"), str) and isinstance(key.get("secret"), str)
        for key in keys
    ):
        raise ValueError("ticket_keys must be a list of {kid, secret}")
    if not isinstance(revoked, list) or not all(isinstance(sid, str) for sid in revoked):
        raise ValueError("revoked must be a list of session ids")
    if model is not None and not isinstance(model, str):
        raise ValueError("model must be a name")
    drain = _drain(answer.get("drain"), ahead_s, received_at) if received_at >= drain_since else None
    return Control({key["kid"]: key["secret"] for key in keys}, frozenset(revoked), drain, model, ahead_s)


def _drain(value: Any, ahead_s: float, received_at: float) -> Drain | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("reason", ""), str):
        raise ValueError("drain must be null or {closing_at, reason, restarts}")
    restarts = value.get("restarts", False)
    if not isinstance(restarts, bool):
        raise ValueError("drain.restarts must be true or false")
    text = value.get("closing_at")
    closing_at = _instant(text, "drain.closing_at") - ahead_s if text is not None else received_at
    return Drain(closing_at, text or rfc3339(closing_at + ahead_s), value.get("reason", ""), restarts)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number")
    return float(value)


def _instant(value: Any, name: str) -> float:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be an RFC 3339 time")
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(f"{name} must carry its time zone")
    return instant.timestamp()


def rfc3339(epoch_s: float) -> str:
    """Epoch seconds → e.g. `2026-01-31T22:00:00.250Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ControlFile:
    """Polls the control file, in its own thread; `current` is the last good state.

    A file that is missing, unreadable or malformed leaves the last good state standing.
    """

    def __init__(self, path: Path | None, started_at: float) -> None:
        self._path = path
        self._started_at = started_at
        self._changed = threading.Condition()
        self._seen: str | None = None
        self._control = Control()

    @property
    def current(self) -> Control:
        return self._control

    def start(self) -> None:
        if self._path is not None:
            self.read()
            threading.Thread(target=self._poll, name="control", daemon=True).start()

    def wait_for(self, condition: Callable[[Control], bool], timeout_s: float) -> bool:
        """Whether a state fulfilled `condition` within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._control), timeout_s)

    def read(self) -> None:
        """Read the file once."""
        if self._path is None:
            return
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            text = f"unreadable: {error}"
        if text == self._seen:
            return
        self._seen = text
        try:
            control = parse(text, drain_since=self._started_at)
        except (ValueError, RecursionError) as error:
            log.warning("control.refused", cause=f"{type(error).__name__}: {error}")
            return
        before = self._control
        with self._changed:
            self._control = control
            self._changed.notify_all()
        if replace(control, ahead_s=before.ahead_s) != before:
            log.info(
                "control.changed",
                kids=sorted(control.ticket_keys),
                revoked=sorted(control.revoked - before.revoked),
                drain=control.drain.closing_at_text if control.drain else None,
            )

    def _poll(self) -> None:
        while True:
            time.sleep(POLL_S)
            self.read()
