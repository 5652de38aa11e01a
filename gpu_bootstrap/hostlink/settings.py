"""The link's settings, each an environment variable."""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError


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
    current: Path | None = None
    """LINK_CURRENT (edge): the link that names the release that serves, reported in place of LINK_RELEASE; the link
    program itself may be older than that. Default none."""
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
    """LINK_CA_FILE (edge): PEM of the authority that certifies this edge, reported to clients' benefit; default as
    Caddy's own settings say (EDGE_TLS, EDGE_STORAGE, EDGE_ACME_OPTIONS), None where the system knows it."""
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
            current=_path(env, "LINK_CURRENT"),
            key_file=_path(env, "LINK_KEY_FILE"),
            boot_id=env.get("LINK_BOOT_ID") or None,
            health_url=env.get("LINK_HEALTH_URL") or cls.health_url,
            control_file=control_file,
            deadman_s=_minutes(env, "LINK_DEADMAN_MINUTES", cls.deadman_s),
            hard_max_s=_minutes(env, "LINK_HARD_MAX_MINUTES", cls.hard_max_s),
            deadman_file=_path(env, "LINK_DEADMAN_FILE") or beside,
            upstream_script=_path(env, "LINK_UPSTREAM_SCRIPT"),
            ca_file=_path(env, "LINK_CA_FILE") or (_authority(env) if role == "edge" else None),
            edge_url=env.get("LINK_EDGE_URL") or None,
        )

    @property
    def report_url(self) -> str:
        return f"{self.api_url}/v1/hosts/{urllib.parse.quote(self.instance_id, safe='')}/report"


def _path(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]) if env.get(name) else None


def _authority(env: Mapping[str, str]) -> Path | None:
    """Whose root clients of the edge need: Caddy's own, or that of a private ACME authority."""
    match env.get("EDGE_TLS") or "tls_internal":
        case "tls_internal":
            return Path(env.get("EDGE_STORAGE") or "/var/lib/caddy") / "pki/authorities/local/root.crt"
        case "tls_acme":
            word, _, file = (env.get("EDGE_ACME_OPTIONS") or "").partition(" ")
            return Path(file.strip()) if word == "trusted_roots" and file else None
        case _:
            return None


def _minutes(env: Mapping[str, str], name: str, default_s: float) -> float:
    """A setting in minutes as seconds."""
    try:
        minutes = float(env.get(name) or default_s / 60)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < 1e6:
        raise SettingsError(f"{name} must be a number of minutes above 0, not {env[name]!r}")
    return minutes * 60
