"""The record of what the product asked of AWS, for `GET /_standin/calls`."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from whisperctl.local.awsapi import AwsRequest

KEPT = 20_000


class CallRecord:
    """The last calls, oldest first; safe to use from any thread."""

    def __init__(self) -> None:
        self._calls: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, request: AwsRequest, time: float, error: str | None = None) -> None:
        """Note a call at `time` (epoch seconds of the stand-in clock), with the AWS error code it met, if any."""
        entry: dict[str, Any] = {
            "service": request.service,
            "operation": request.operation,
            "parameters": request.parameters,
            "time": time,
        }
        if error is not None:
            entry["error"] = error
        with self._lock:
            self._calls.append(entry)

    def all(self) -> list[dict[str, Any]]:
        """`[{service, operation, parameters, time, error?}]`; parameters under their wire names."""
        with self._lock:
            return list(self._calls)

    def clear(self) -> None:
        """Forget everything so far: the stack's own set-up is no call of the product."""
        with self._lock:
            self._calls.clear()
