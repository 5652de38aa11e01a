"""The edge's side of the link: reports Caddy, its certificate and who is in force, and follows the GPU hosts."""

from __future__ import annotations

import http.client
import math
import socket
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from .answers import hosts_of, watched
from .errors import LinkError
from .files import log
from .settings import Settings
from .wire import HEALTH_TIMEOUT_S, ask

SCRIPT_TIMEOUT_S = 30.0
EDGE_LOOK_S = 5.0
"""Seconds between looks at the edge: each runs a script and asks Caddy."""
KNOCK_TIMEOUT_S = 1.0
CERTIFICATE_S = 60.0


class Edge:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        assert settings.upstream_script is not None
        self._script = settings.upstream_script
        self._in_force: list[str] | None = None
        self._watched: list[tuple[str, int]] = []
        """GPU hosts that are awake: whether they take connections is reported."""
        self._seen: dict[str, Any] = {}
        self._looked_at = -math.inf
        self._cert_days: float | None = None
        self._cert_life_days: float | None = None
        self._cert_looked_at = -math.inf

    def observe(self) -> dict[str, Any]:
        if time.monotonic() - self._looked_at >= EDGE_LOOK_S:
            self._seen = self._look()
            self._looked_at = time.monotonic()
        return self._seen

    def _look(self) -> dict[str, Any]:
        self._in_force = sorted(set(self._run("--show").split()))
        cause = self._trouble()
        report: dict[str, Any] = {
            "status": "ready" if cause is None else "failed",
            "release": self._release(),
            "upstreams": self._in_force,
            "gpus_down": sorted(host for host, port in self._watched if not takes_connections(host, port)),
            "ca_pem": self._ca_pem(),
            "cert_days": self._days_of_certificate(),
            "cert_life_days": self._cert_life_days,
        }
        return report if cause is None else {**report, "cause": cause}

    def _release(self) -> str:
        try:
            return (self._settings.current or Path()).readlink().name
        except OSError:
            return self._settings.release

    def obey(self, answer: dict[str, Any], received_at: float) -> None:
        del received_at
        wanted = hosts_of(answer)
        self._watched = watched(answer)
        if wanted != self._in_force:
            self._looked_at = -math.inf  # what is in force now is seen, and reported, at once
            self._run(*(wanted or ["--none"]))
            log("edge.upstreams", before=self._in_force, now=wanted)

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [str(self._script), *arguments], capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LinkError(f"{self._script.name} did not run: {error}") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LinkError(f"{self._script.name} failed ({done.returncode}): {last}")
        return done.stdout

    def _trouble(self) -> str | None:
        """Why Caddy is not well; None when it is, or when there is no address to ask."""
        if self._settings.edge_url is None:
            return None
        try:
            with ask(urllib.request.Request(self._settings.edge_url), HEALTH_TIMEOUT_S, self._tls()) as answer:  # noqa: S310
                status: int = answer.status
            return None if status == 200 else f"Caddy answers {status}"
        except (OSError, http.client.HTTPException) as error:
            return f"Caddy does not answer: {error}"

    def _tls(self) -> ssl.SSLContext | None:
        """Trusts the internal authority where there is one, else those of the system; None for plain http."""
        if not (self._settings.edge_url or "").startswith("https:"):
            return None
        has_ca = self._settings.ca_file is not None and self._settings.ca_file.exists()
        return ssl.create_default_context(cafile=str(self._settings.ca_file) if has_ca else None)

    def _ca_pem(self) -> str | None:
        if self._settings.ca_file is None:
            return None
        try:
            return self._settings.ca_file.read_text()
        except (OSError, UnicodeDecodeError):
            return None  # Caddy makes it at its first start

    def _days_of_certificate(self) -> float | None:
        """Days until the certificate that Caddy shows ends; None when there is none to see."""
        url = urllib.parse.urlsplit(self._settings.edge_url or "")
        if url.scheme == "https" and url.hostname and time.monotonic() - self._cert_looked_at >= CERTIFICATE_S:
            self._cert_looked_at = time.monotonic()
            try:
                tls = self._tls() or ssl.create_default_context()
                address = (url.hostname, url.port or 443)
                with (
                    socket.create_connection(address, timeout=HEALTH_TIMEOUT_S) as plain,
                    tls.wrap_socket(plain, server_hostname=url.hostname) as secure,
                ):
                    shown = secure.getpeercert() or {}
                    begins, ends = (ssl.cert_time_to_seconds(str(shown[one])) for one in ("notBefore", "notAfter"))
                self._cert_life_days = round((ends - begins) / 86400, 2)
                self._cert_days = round((ends - time.time()) / 86400, 2)
            except (OSError, KeyError, ValueError):
                self._cert_days = None
                self._cert_looked_at = -math.inf
        return self._cert_days


def takes_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=KNOCK_TIMEOUT_S).close()
    except OSError:
        return False
    return True
