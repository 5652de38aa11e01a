"""The state of this host that its health report shows and its streams obey."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from gpu_bootstrap import closing
from gpu_bootstrap.control import Control, Drain, rfc3339
from gpu_bootstrap.decoder import Decoder
from gpu_bootstrap.models import Device
from gpu_bootstrap.registry import Registry
from gpu_bootstrap.serving import Serving
from gpu_bootstrap.settings import Settings
from gpu_bootstrap.tickets import LEEWAY_S
from gpu_bootstrap.timings import Lately

HOPELESS_FAILURES = 3
"""Failed decodes in a row, whatever the stream, after which the host calls itself failed."""


class Host:
    """`loading → ready → draining`, or `failed` with a cause; thread-safe by single assignments."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        control: Callable[[], Control],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self.registry = registry
        self._control = control
        self._clock = clock
        self._ready = False
        self._cause: str | None = None
        self._shutdown: Drain | None = None
        self.device: Device | None = None
        self.serving: Serving | None = None
        self.final_s = Lately()
        """How long after its last sample came a segment's final text was sent."""

    # What the wiring says

    def is_ready(self) -> None:
        self._ready = True

    def has_failed(self, cause: str) -> None:
        self._cause = cause

    def shut_down(self, reason: str) -> None:
        now = self._clock()
        self._shutdown = Drain(now, rfc3339(now + self._control().ahead_s), reason)

    # What the streams ask

    def notice(self) -> Drain | None:
        return self._shutdown or self._control().drain

    def refusal(self) -> closing.Ending | None:
        """Why no new stream is taken; None while they are."""
        if self._shutdown is not None:
            return closing.RESTARTING
        drain = self._control().drain
        return closing.drained(drain.reason) if drain is not None else None

    def ending(self, sid: str, until: float | None) -> closing.Ending | None:
        """Why the live stream `sid` must end now; None while it may go on.

        `until` is the end of its session by the control plane's clock, so that a session ends on time even
        when nobody can tell this host.
        """
        if self._shutdown is not None:
            return closing.RESTARTING
        control = self._control()
        over = until is not None and self._clock() + control.ahead_s >= until + LEEWAY_S
        if over or sid in control.revoked:
            return closing.SESSION_ENDED
        if control.drain is not None and self._clock() >= control.drain.closing_at:
            return closing.drained(control.drain.reason, returns=control.drain.restarts)
        return None

    # What /health and the host link report

    @property
    def decoder(self) -> Decoder | None:
        return self.serving.current.decoder if self.serving is not None else None

    @property
    def status(self) -> str:
        if self.cause is not None:
            return "failed"
        if self._shutdown is not None:
            return "draining"
        if not self._ready:
            return "loading"
        if self._control().drain is not None:
            return "draining"
        return "ready" if self.serving is None or self.serving.loading is None else "loading"

    @property
    def cause(self) -> str | None:
        if self._cause is None and self.decoder is not None and self.decoder.failures >= HOPELESS_FAILURES:
            return f"the last {self.decoder.failures} decodes failed; the service needs a restart"
        return self._cause

    def report(self) -> dict[str, object]:
        """The GPU's report of the host link, less boot_id: what `GET /health` answers."""
        settings, serving = self._settings, self.serving
        report: dict[str, object] = {
            "status": self.status,
            "release": settings.release,
            "model": (serving.loading or serving.current.name) if serving else settings.model,
            "models": serving.offered() if serving else [settings.model],
            "device": self.device.name if self.device else None,
            "streams": self.registry.report(),
            "max_streams": settings.max_streams,
            "decode_s_p50": self.decoder.seconds.percentile(50) if self.decoder else None,
            "decode_s_p95": self.decoder.seconds.percentile(95) if self.decoder else None,
            # Whether anything is still decoded: a server that hangs shows no failure.
            "decoded_s_ago": self.decoder.seconds.ago() if self.decoder else None,
            "final_s_p50": self.final_s.percentile(50),
            "final_s_p95": self.final_s.percentile(95),
            "disk_free": shutil.disk_usage("/").free,
        }
        return report if self.cause is None else {**report, "cause": self.cause}
