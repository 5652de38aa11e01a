#!/usr/bin/env python3
"""The host link: this host reports to the control plane every few seconds and obeys its answer.

One file with nothing but the standard library, the same on the GPU host and on the edge (`LINK_ROLE`). It never
ends by itself: a control plane that cannot be reached, or answers nonsense, changes nothing on the host, and is
asked again with growing pauses.

Report and answer are those of `POST /v1/hosts/{instance_id}/report`. On the GPU host the answer is left in the
control file for the launcher, with `received_at` (this host's epoch seconds) added; on the edge its upstreams are
put in force by set-upstream.sh.

The GPU host has a dead man's switch, so that a broken control plane cannot burn money. It powers the host off
(1) after LINK_DEADMAN_MINUTES in which no report was answered and nothing streamed, counted from boot on, and
(2) past the hard maximum, `stay_until` of the answers or LINK_HARD_MAX_MINUTES since boot, whichever is first,
whatever streams: it leaves the launcher a drain, and powers off when that is over. Only an answer that can be
obeyed counts; 401, 500 or nonsense is none. The loop looks all the time. That a hung or crashed loop be covered too,
a systemd timer runs a second look every minute, with the same environment as the loop, as a user that may power off:

    ExecStart=/usr/bin/python3 /opt/whisperlive/current/gpu_bootstrap/link.py --deadman

It looks once, acts if it must, and exits 0; both share their memory in LINK_DEADMAN_FILE, which must lie in a
directory that outlives the loop's unit (RuntimeDirectoryPreserve=yes) and that both may write.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn, Protocol

if __package__:
    from gpu_bootstrap import sigv4
else:  # run as a program, with its module beside it
    import sigv4  # type: ignore[import-not-found,no-redef]

POLL_S = 0.5
"""How soon a change of this host is noticed."""
HEALTH_TIMEOUT_S = 2.0
POST_TIMEOUT_S = 15.0
SCRIPT_TIMEOUT_S = 30.0
MOST_BYTES = 1 << 20
FIRST_REPORT_S = 5.0
"""Seconds between reports until an answer says otherwise."""
EDGE_LOOK_S = 5.0
"""Seconds between looks at the edge: each runs a script and asks Caddy."""
KNOCK_TIMEOUT_S = 1.0
CERTIFICATE_S = 60.0
"""Seconds between looks at the edge's certificate."""


class LinkError(Exception):
    """Something did not work this time; `str(error)` is a sentence."""


class SettingsError(LinkError):
    """A setting is missing or wrong."""


# ---- pure: settings, answers, reports, pace ----------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Every field is one environment variable, named in capitals with the prefix `LINK_`."""

    role: str
    """LINK_ROLE: gpu or edge."""
    api_url: str
    """LINK_API_URL: base address of the API, without /v1."""
    instance_id: str
    """LINK_INSTANCE_ID: EC2's id of this host."""
    release: str
    """LINK_RELEASE: the installed release, reported as it is; default "unknown"."""
    key_file: Path | None = None
    """LINK_KEY_FILE: file with this host's key, sent as X-Host-Key; default none."""
    boot_id: str | None = None
    """LINK_BOOT_ID: name of this boot; default /proc/sys/kernel/random/boot_id."""
    health_url: str = "http://127.0.0.1:9091/health"
    """LINK_HEALTH_URL (gpu): the launcher's health."""
    control_file: Path | None = None
    """LINK_CONTROL_FILE (gpu, required): where the answer is left for the launcher."""
    deadman_s: float = 900.0
    """LINK_DEADMAN_MINUTES (gpu): minutes without an answer and without a stream until power-off; default 15."""
    hard_max_s: float = 43200.0
    """LINK_HARD_MAX_MINUTES (gpu): minutes after boot until power-off whatever streams; default 720. The control
    plane's own HARD_MAX_MINUTES, counted from the start call, comes first when both are equal."""
    deadman_file: Path | None = None
    """LINK_DEADMAN_FILE (gpu): the switch's memory; default deadman.json beside the control file."""
    upstream_script: Path | None = None
    """LINK_UPSTREAM_SCRIPT (edge, required): set-upstream.sh."""
    ca_file: Path | None = None
    """LINK_CA_FILE (edge): PEM of the internal authority, reported to clients' benefit; default none."""
    edge_url: str | None = None
    """LINK_EDGE_URL (edge): address that answers 200 while Caddy is well, e.g. https://edge/healthz; default none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Raises SettingsError with a sentence that names the variable."""
        role = env.get("LINK_ROLE", "")
        if role not in {"gpu", "edge"}:
            raise SettingsError(f"LINK_ROLE must be gpu or edge, not {role!r}")
        needed = ["LINK_API_URL", "LINK_INSTANCE_ID"]
        needed.append("LINK_CONTROL_FILE" if role == "gpu" else "LINK_UPSTREAM_SCRIPT")
        for name in needed:
            if not env.get(name):
                raise SettingsError(f"{name} is not set")
        for name in ("LINK_API_URL", "LINK_HEALTH_URL", "LINK_EDGE_URL"):
            if env.get(name) and urllib.parse.urlsplit(env[name]).scheme not in {"http", "https"}:
                raise SettingsError(f"{name} must be an http or https address, not {env[name]!r}")
        control_file = _path(env, "LINK_CONTROL_FILE")
        beside = control_file.with_name("deadman.json") if control_file else None
        return cls(
            role=role,
            api_url=env["LINK_API_URL"].rstrip("/"),
            instance_id=env["LINK_INSTANCE_ID"],
            release=env.get("LINK_RELEASE") or "unknown",
            key_file=_path(env, "LINK_KEY_FILE"),
            boot_id=env.get("LINK_BOOT_ID") or None,
            health_url=env.get("LINK_HEALTH_URL") or cls.health_url,
            control_file=control_file,
            deadman_s=_minutes(env, "LINK_DEADMAN_MINUTES", cls.deadman_s),
            hard_max_s=_minutes(env, "LINK_HARD_MAX_MINUTES", cls.hard_max_s),
            deadman_file=_path(env, "LINK_DEADMAN_FILE") or beside,
            upstream_script=_path(env, "LINK_UPSTREAM_SCRIPT"),
            ca_file=_path(env, "LINK_CA_FILE"),
            edge_url=env.get("LINK_EDGE_URL") or None,
        )

    @property
    def report_url(self) -> str:
        return f"{self.api_url}/v1/hosts/{urllib.parse.quote(self.instance_id, safe='')}/report"


def _path(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]) if env.get(name) else None


def _minutes(env: Mapping[str, str], name: str, default_s: float) -> float:
    """A setting in minutes as seconds."""
    try:
        minutes = float(env.get(name) or default_s / 60)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < 1e6:
        raise SettingsError(f"{name} must be a number of minutes above 0, not {env[name]!r}")
    return minutes * 60


def check_answer(payload: bytes) -> dict[str, Any]:
    """The control plane's answer, if it has the form this host can obey; raises LinkError and obeys none of it."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        raise LinkError("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise LinkError("the answer is not a JSON object")
    pause = answer.get("next_report_s")
    if isinstance(pause, bool) or not isinstance(pause, (int, float)) or not 0.1 <= pause <= 3600:
        raise LinkError("the answer's next_report_s is not a number of seconds from 0.1 to 3600")
    for name in ("ticket_keys", "revoked", "upstreams"):
        if not isinstance(answer.get(name, []), list):
            raise LinkError(f"the answer's {name} is not a list")
    if not all(isinstance(sid, str) for sid in answer.get("revoked", [])):
        raise LinkError("the answer's revoked holds something that is no session id")
    for key in answer.get("ticket_keys", []):
        if not isinstance(key, dict) or not all(isinstance(key.get(name), str) for name in ("kid", "secret")):
            raise LinkError("the answer's ticket_keys are not all {kid, secret}")
    for upstream in answer.get("upstreams", []):
        if not isinstance(upstream, dict) or not _is_ipv4(upstream.get("host")):
            raise LinkError("the answer's upstreams do not all have an IPv4 address as host")
    drain = answer.get("drain")
    if drain is not None and not isinstance(drain, dict):
        raise LinkError("the answer's drain is neither null nor an object")
    return answer


def _is_ipv4(value: object) -> bool:
    parts = value.split(".") if isinstance(value, str) else []
    return len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)


def hosts_of(answer: Mapping[str, Any]) -> list[str]:
    """The upstreams' addresses, sorted and each once: order means nothing to the edge."""
    return sorted({upstream["host"] for upstream in answer.get("upstreams", [])})


def watched(answer: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The GPU hosts to knock at, as address and port; what is no such pair is passed over."""
    listed = answer.get("watch")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    pairs = [(one.get("host"), one.get("port")) for one in entries]
    return [(str(host), port) for host, port in pairs if _is_ipv4(host) and type(port) is int and 0 < port < 65536]


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
        streams are gone; when it is only late they are unknown, so the last ones stand.
        """
        if health.report is not None:
            self._last = health.report
            return health.report
        if self._last.get("status") == "failed":
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


class Pace:
    """When to report next; seconds of a monotonic clock handed in, chance in [0, 1) too."""

    FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0

    def __init__(self) -> None:
        self._due = -math.inf
        self._failures = 0
        self._told: tuple[object, ...] | None = None

    def is_due(self, now: float, changed_to: tuple[object, ...]) -> bool:
        """Whether to report now: the pause is over, or something changed and the last report went through."""
        return now >= self._due or (not self._failures and changed_to != self._told)

    def answered(self, now: float, told: tuple[object, ...], next_report_s: float) -> None:
        self._failures, self._told, self._due = 0, told, now + next_report_s

    def failed(self, now: float, chance: float) -> float:
        """Wait longer after each failure, no two hosts alike; returns the seconds until the next try."""
        pause = min(self.FIRST_RETRY_S * 2.0**self._failures, self.LONGEST_RETRY_S) * (0.5 + chance / 2)
        self._failures = min(self._failures + 1, 16)
        self._due = now + pause
        return pause


# ---- pure: the dead man's switch -----------------------------------------------------------------------------------

STAY_MARGIN_S = 120.0
"""Past `stay_until` the control plane has two ticks to stop this host itself."""
NOTICE_S = 60.0
"""From the announcement at the hard maximum to the closing of streams."""
FLUSH_S = 15.0
"""After the closing, for last words."""
INSIST_S = 120.0
"""A power-off that has not happened after this long is asked for again, without waiting for units."""
LOOK_S = 5.0
"""Seconds between writings of the switch's memory."""


@dataclass(frozen=True)
class Limits:
    """When the switch falls; seconds."""

    silent_s: float
    hard_max_s: float


@dataclass(frozen=True)
class Vitals:
    """What the switch knows of this boot; moments on a clock that never jumps (CLOCK_MONOTONIC), in seconds."""

    boot_id: str
    booted_at: float
    answered_at: float | None = None
    streamed_at: float | None = None
    """When something last streamed, or might have."""
    streaming: bool = False
    stay_until: float | None = None
    announced_at: float | None = None
    off_at: float | None = None
    """When power-off was asked for."""


class Act(StrEnum):
    """What the switch does."""

    HOLD = "hold"
    ANNOUNCE = "announce"
    POWER_OFF = "power_off"
    INSIST = "insist"


@dataclass(frozen=True)
class Decision:
    action: Act
    reason: str


def deadman(vitals: Vitals, limits: Limits, now: float) -> Decision:
    """What to do at `now`."""
    if vitals.off_at is not None:
        overdue = now - vitals.off_at >= INSIST_S
        return Decision(Act.INSIST if overdue else Act.HOLD, "power-off was asked for, and this host is still on")
    end, why = vitals.booted_at + limits.hard_max_s, f"it is on for {limits.hard_max_s / 60:g} minutes"
    if vitals.stay_until is not None and vitals.stay_until + STAY_MARGIN_S < end:
        end, why = vitals.stay_until + STAY_MARGIN_S, "the control plane's time for it is over"
    if now >= end or vitals.announced_at is not None:
        reason = f"the hard maximum: {why}"
        if not vitals.streaming:
            return Decision(Act.POWER_OFF, reason)
        if vitals.announced_at is None:
            return Decision(Act.ANNOUNCE, reason)
        over = now - vitals.announced_at >= NOTICE_S + FLUSH_S
        return Decision(Act.POWER_OFF if over else Act.HOLD, reason)
    if vitals.streaming:
        return Decision(Act.HOLD, "somebody streams")
    heard = (vitals.booted_at, vitals.answered_at, vitals.streamed_at)
    silent = now - max(moment for moment in heard if moment is not None)
    if silent >= limits.silent_s:
        words = f"for {limits.silent_s / 60:g} minutes no report was answered and nothing streamed"
        return Decision(Act.POWER_OFF, words)
    return Decision(Act.HOLD, "the control plane answers" if vitals.answered_at is not None else "just booted")


def remembered(left: Mapping[str, Any], boot: str, now: float) -> Vitals:
    """The vitals that a process of boot `boot` left; ValueError, TypeError or LookupError when they are not."""
    moments = ("booted_at", "answered_at", "streamed_at", "stay_until", "announced_at", "off_at")
    values = {name: None if left[name] is None else float(left[name]) for name in moments}
    past = [value for name, value in values.items() if value is not None and name != "stay_until"]
    if left["boot_id"] != boot or values["booted_at"] is None or not all(0 <= value <= now for value in past):
        raise ValueError("of another boot")
    return Vitals(boot, streaming=left["streaming"] is True, **values)  # type: ignore[arg-type]  # booted_at is a number


def stay_s(answer: Mapping[str, Any]) -> float | None:
    """Seconds from the answer's own `now` to its `stay_until`: this host's calendar has no say in it."""
    try:
        return (_instant(answer["stay_until"]) - _instant(answer["now"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment


OURS = "this host powers off"
"""So begins the reason of a drain that the switch made."""


def closing(left: Mapping[str, Any], reason: str, closes_in_s: float, epoch: float) -> dict[str, Any]:
    """The control file with a drain of our own; `left`: what it holds now, `epoch`: this host's calendar.

    `now` and `received_at` are moved on together, since a drain older than the launcher's start would not count.
    """
    try:
        ahead = _instant(left["now"]).timestamp() - float(left["received_at"])
    except (KeyError, TypeError, ValueError):
        ahead = 0.0
    there = datetime.fromtimestamp(epoch + ahead, UTC)
    at = datetime.fromtimestamp(epoch + ahead + closes_in_s, UTC)
    drain = {"closing_at": at.isoformat(), "reason": f"{OURS}, {reason}"}
    return {**left, "now": there.isoformat(), "received_at": epoch, "drain": drain}


# ---- shell: files, sockets, programs -----------------------------------------------------------------------------


class Role(Protocol):
    """One host's side: what it reports, and how it obeys."""

    def observe(self) -> dict[str, Any]: ...
    def obey(self, answer: dict[str, Any], received_at: float) -> None:
        """Raises LinkError when that did not work; it is tried again with the next answer."""


class Gpu:
    def __init__(self, settings: Settings) -> None:
        self._health_url = settings.health_url
        assert settings.control_file is not None
        self._control_file = settings.control_file
        self._memory = GpuMemory()

    def observe(self) -> dict[str, Any]:
        return self._memory.report(read_health(self._health_url))

    def obey(self, answer: dict[str, Any], received_at: float) -> None:
        write_private(self._control_file, json.dumps({**answer, "received_at": received_at}))


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
            "upstreams": self._in_force,
            "gpus_down": sorted(host for host, port in self._watched if not takes_connections(host, port)),
            "ca_pem": self._ca_pem(),
            "cert_days": self._days_of_certificate(),
        }
        return report if cause is None else {**report, "cause": cause}

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
            with _open(urllib.request.Request(self._settings.edge_url), HEALTH_TIMEOUT_S, self._tls()) as answer:  # noqa: S310
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
                    ends = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
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


def read_health(url: str) -> Health:
    """Ask the launcher how it is."""
    try:
        with _open(urllib.request.Request(url), HEALTH_TIMEOUT_S) as answer:  # noqa: S310 - checked in the settings
            report = json.loads(answer.read(MOST_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Health(refused=isinstance(reason, ConnectionRefusedError))
    return Health(report if isinstance(report, dict) else None)


def post(settings: Settings, report: Mapping[str, Any]) -> dict[str, Any]:
    """Send a report; returns the checked answer. Raises LinkError."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "whisperlive-link"}
    body = json.dumps(report).encode()
    headers |= authentication(settings, body)
    request = urllib.request.Request(settings.report_url, body, headers, method="POST")  # noqa: S310
    try:
        with _open(request, POST_TIMEOUT_S) as answer:
            payload = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            detail = error.read(300).decode(errors="replace")
        raise LinkError(f"the control plane answers {error.code}: {detail}") from None
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(f"the control plane cannot be reached: {getattr(error, 'reason', error)}") from None
    if len(payload) > MOST_BYTES:
        raise LinkError("the answer is too long")
    return check_answer(payload)


ROLE = sigv4.InstanceCredentials()
"""This instance's role, on EC2."""


def authentication(settings: Settings, body: bytes) -> dict[str, str]:
    """The headers that prove which host this is: its key where it has one, else API Gateway's signature.

    The key is read anew each time, so that a changed one needs no restart.
    """
    if settings.key_file is not None:
        try:
            return {"X-Host-Key": settings.key_file.read_text().strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise LinkError(f"the host key cannot be read: {error}") from None
    try:
        region = sigv4.region_of(settings.api_url)
    except ValueError:
        return {}
    try:
        credentials = ROLE.get()
    except sigv4.CredentialsError as error:
        raise LinkError(f"the report cannot be signed: {error}") from None
    return sigv4.sign("POST", settings.report_url, body, credentials, region, "execute-api", time.time())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: followed, it would carry the host key to whoever it names, and obey the answer."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _open(request: urllib.request.Request, timeout_s: float, tls: ssl.SSLContext | None = None) -> Any:
    """urlopen, without redirects; this machine's own addresses are never asked for through a proxy."""
    host = urllib.parse.urlsplit(request.full_url).hostname or ""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=tls), _NoRedirect()]
    if host == "localhost" or host.startswith("127.") or host == "::1":
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by this user only: a reader sees the old text or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        part.replace(path)
    except OSError as error:
        raise LinkError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def boot_id(settings: Settings) -> str:
    return settings.boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def log(event: str, **fields: object) -> None:
    """One JSON line on stderr; never a key."""
    line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
    print(json.dumps(line, default=str), file=sys.stderr, flush=True)  # noqa: T201 - this file's whole log


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


def look_once(settings: Settings) -> int:
    """The timer's look, for the case that the loop hangs."""
    if settings.role != "gpu":
        print("--deadman is for a GPU host", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    health = read_health(settings.health_url)
    streaming = bool(health.report.get("streams")) if health.report is not None else None
    try:
        Switch(settings, boot_id(settings), settings.boot_id is None).look(False if health.refused else streaming)
    except LinkError as error:
        log("deadman.trouble", cause=str(error))
        return 1
    return 0


def main(arguments: list[str]) -> int:
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    if arguments == ["--deadman"]:
        return look_once(settings)
    if arguments:
        print(f"unknown: {' '.join(arguments)}; there is only --deadman", file=sys.stderr)  # noqa: T201 - likewise
        return 2
    # A host that stops has no time for a report; EC2's state says the same.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(0))
    log("link.started", role=settings.role, instance=settings.instance_id, release=settings.release)
    boot = boot_id(settings)
    if settings.role == "gpu":
        Link(settings, Gpu(settings), boot, Switch(settings, boot, settings.boot_id is None)).run()
    Link(settings, Edge(settings), boot).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
