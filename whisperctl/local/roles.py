"""What runs on a host of each role, as data: the units systemd would run on AWS, with this machine's addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from whisperctl.local.processes import Unit

RELEASE = "local"
"""The release a host begins with: the checkout itself."""
STREAM_CLOSE_DELAY = "12h"
# A speaker who comes back after a drop displaces his own old stream: the edge must let him through to a host that
# is full, where he (and not Caddy's 503, which a browser cannot read) hears the truth.
HEADROOM = 64
# The limit of a connection is a setting of the launcher; a test makes it short.
INHERITED = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "WHISPER_MAX_CONNECTION_S")


@dataclass(frozen=True, slots=True)
class Plan:
    """What hosts of one embedded cloud have in common."""

    python: str
    caddy: str
    repository: Path
    api_url: str
    """The gateway's base, stage included."""
    stage: str
    edge_port: int
    edge_bind: str
    """Addresses the edge listens on, blank separated."""
    edge_http_port: int
    edge_admin_port: int
    resolver: str
    """host:port of the DNS server that reads the edge's hosts file."""
    storage: Path
    """Caddy's certificates, kept from run to run so that a browser's trust lasts."""
    model_path: Path
    max_streams: int
    require_ticket: bool
    deadman_minutes: float
    inherited: Mapping[str, str]
    """The few variables children take over from ours."""

    @property
    def edge_url(self) -> str:
        return f"https://localhost:{self.edge_port}"

    @property
    def ca_cert(self) -> Path:
        return self.storage / "pki" / "authorities" / "local" / "root.crt"


@dataclass(frozen=True, slots=True)
class HostFiles:
    """Where things lie under a host's root."""

    root: Path

    @property
    def key(self) -> Path:
        return self.root / "etc" / "whisperlive-edge" / "host.key"

    @property
    def hosts(self) -> Path:
        return self.root / "etc" / "hosts"

    @property
    def control(self) -> Path:
        return self.root / "run" / "whisperlive" / "control.json"

    @property
    def requests(self) -> Path:
        return self.root / "run" / "systemctl"

    @property
    def programs(self) -> Path:
        return self.root / "usr" / "local" / "bin"

    def log(self, unit: str) -> Path:
        return self.root / "var" / "log" / f"{unit}.log"

    def current(self, role: str) -> Path:
        """The symlink to the release that serves."""
        return self.root / "opt" / ("edge" if role == "edge" else "whisperlive") / "current"

    def make_first_release(self, role: str, repository: Path) -> None:
        """Where nothing is installed yet: the checkout, laid out as a release."""
        current = self.current(role)
        if current.is_symlink():
            return
        release = current.parent / "releases" / RELEASE
        release.mkdir(parents=True)
        package = "edge_bootstrap" if role == "edge" else "gpu_bootstrap"
        links = {"bootstrap": package, package: package} | ({"site": "site"} if role == "edge" else {})
        for name, target in links.items():
            (release / name).symlink_to(repository / target)
        (release / "manifest.json").write_text(json.dumps({"target": role, "files": []}) + "\n")
        current.symlink_to(f"releases/{RELEASE}")


def shell_environment(plan: Plan, files: HostFiles) -> dict[str, str]:
    """What every process and every SSM script on a host finds: its own root, its own programs first."""
    environment = dict(plan.inherited)
    environment["PATH"] = f"{files.programs}:{plan.inherited.get('PATH', '/usr/bin:/bin')}"
    environment["PREFIX"] = str(files.root)
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def units(plan: Plan, role: str, instance_id: str, address: str, boot_id: str, root: Path) -> tuple[Unit, ...]:
    """The units of a host; a role nobody knows has none."""
    files = HostFiles(root)
    match role:
        case "gpu":
            return _gpu(plan, files, instance_id, address, boot_id)
        case "edge":
            return _edge(plan, files, instance_id, boot_id)
        case _:
            return ()


def _gpu(plan: Plan, files: HostFiles, instance_id: str, address: str, boot_id: str) -> tuple[Unit, ...]:
    current = files.current("gpu")
    common = shell_environment(plan, files)
    serve = common | {
        "WHISPER_HOST": address,
        "WHISPER_MODEL": "tiny.en",
        "WHISPER_MODEL_PATH": str(plan.model_path),
        "WHISPER_DEVICE": "cpu",
        "WHISPER_MAX_STREAMS": str(plan.max_streams),
        "WHISPER_REQUIRE_TICKET": "true" if plan.require_ticket else "false",
        "WHISPER_CONTROL_FILE": str(files.control),
        # The model is on the disk; nothing on the wake path may ask the network for one.
        "HF_HUB_OFFLINE": "1",
    }
    link = (
        common
        | _link(plan, files, "gpu", instance_id, boot_id)
        | {
            "LINK_HEALTH_URL": f"http://{address}:9091/health",
            "LINK_CONTROL_FILE": str(files.control),
            "LINK_DEADMAN_MINUTES": f"{plan.deadman_minutes:g}",
        }
    )
    return (
        Unit(
            "whisperlive",
            (plan.python, "-m", "gpu_bootstrap.serve"),
            serve,
            current,
            files.log("whisperlive"),
            current,
        ),
        Unit("link", (plan.python, "-m", "gpu_bootstrap.link"), link, current, files.log("link"), current),
    )


def _edge(plan: Plan, files: HostFiles, instance_id: str, boot_id: str) -> tuple[Unit, ...]:
    current = files.current("edge")
    common = shell_environment(plan, files)
    bootstrap = current / "edge_bootstrap"
    api, _, stage_path = plan.api_url.partition(f"/{plan.stage}")
    caddy = common | {
        "EDGE_SITE": "localhost",
        "EDGE_BIND": plan.edge_bind,
        "EDGE_HTTPS_PORT": str(plan.edge_port),
        "EDGE_HTTP_PORT": str(plan.edge_http_port),
        "EDGE_ADMIN": f"127.0.0.1:{plan.edge_admin_port}",
        "EDGE_STORAGE": str(plan.storage),
        "EDGE_TLS": "tls_internal",
        "EDGE_ORIGINS": plan.edge_url,
        "EDGE_SITE_ROOT": str(current / "site"),
        "EDGE_API": api,
        "EDGE_API_STAGE": f"/{plan.stage}{stage_path}",
        "EDGE_UPSTREAM_OPTIONS": f"resolvers {plan.resolver}",
        "EDGE_STREAMS_PER_GPU": str(plan.max_streams + HEADROOM),
        "EDGE_STREAM_CLOSE_DELAY": STREAM_CLOSE_DELAY,
        "EDGE_OPEN_STREAMS": "off" if plan.require_ticket else "on",
        # A browser that trusts this certificate would else refuse http://localhost of every other project for a year.
        "EDGE_HSTS": "max-age=0",
        "HOME": str(files.root / "root"),
    }
    link = (
        common
        | _link(plan, files, "edge", instance_id, boot_id)
        | {
            "LINK_UPSTREAM_SCRIPT": str(bootstrap / "set-upstream.sh"),
            "LINK_UPSTREAM_FILE": str(files.hosts),
            "LINK_CA_FILE": str(plan.ca_cert),
            "LINK_EDGE_URL": f"{plan.edge_url}/healthz",
        }
    )
    config = ("--config", str(bootstrap / "Caddyfile"), "--adapter", "caddyfile")
    run_caddy = (plan.caddy, "run", *config)
    reload_caddy = (plan.caddy, "reload", *config, "--force", "--address", caddy["EDGE_ADMIN"])
    clients = files.root / "etc" / "whisperlive-edge" / "clients.env"
    return (
        Unit("caddy", run_caddy, caddy, current, files.log("caddy"), None, reload_caddy, clients),
        Unit("link", (plan.python, str(bootstrap / "link.py")), link, current, files.log("link"), current),
    )


def _link(plan: Plan, files: HostFiles, role: str, instance_id: str, boot_id: str) -> dict[str, str]:
    return {
        "LINK_ROLE": role,
        "LINK_API_URL": plan.api_url,
        "LINK_INSTANCE_ID": instance_id,
        "LINK_KEY_FILE": str(files.key),
        "LINK_BOOT_ID": boot_id,
    }
