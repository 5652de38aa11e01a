"""What a host reports: what its launcher says, or its silence; and when a report is worth sending at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Health:
    """One look at the launcher: its report, or why there is none. `refused`: nobody listens on the port."""

    report: dict[str, Any] | None = None
    refused: bool = False


class GpuMemory:
    """What the launcher last said, so that its silence can be told from its end."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def report(self, health: Health) -> dict[str, Any]:
        """The GPU's report, less boot_id.

        A launcher that does not answer is `loading`, unless it said before why it failed. When nobody listens its
        streams are gone; when it is only late they are unknown, so the last ones stand. One that starts again after a
        failure has failed until it is ready: whoever looks now and then would else see it load for ever.
        """
        failed_before = self._last.get("status") == "failed"
        if health.report is not None and not (failed_before and health.report.get("status") == "loading"):
            self._last = health.report
            return health.report
        if failed_before:
            return {**self._last, "streams": []}
        silent = {
            **self._last,
            "status": "loading",
            "streams": [] if health.refused else self._last.get("streams", []),
        }
        if self._last:
            silent["cause"] = "the launcher does not answer" + (", it is starting again" if health.refused else "")
        return silent


def essence(report: Mapping[str, Any]) -> tuple[object, ...]:
    """What makes a report worth sending at once when it changes."""
    streams = report.get("streams") or []
    sids = sorted(str(stream.get("sid")) for stream in streams if isinstance(stream, dict))
    upstreams, down = report.get("upstreams") or (), report.get("gpus_down") or ()
    return (report.get("status"), tuple(sids), tuple(upstreams), tuple(down))
