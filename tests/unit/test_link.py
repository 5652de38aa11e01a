"""gpu_bootstrap/hostlink and its program link.py: what it decides, and its loop against a real HTTP server."""

from __future__ import annotations

import ast
import json
import math
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_bootstrap.hostlink import sigv4, wire
from gpu_bootstrap.hostlink.answers import check_answer, hosts_of
from gpu_bootstrap.hostlink.edge import Edge
from gpu_bootstrap.hostlink.errors import LinkError, SettingsError
from gpu_bootstrap.hostlink.gpu import Gpu
from gpu_bootstrap.hostlink.loop import Link
from gpu_bootstrap.hostlink.pace import Pace
from gpu_bootstrap.hostlink.reports import GpuMemory, Health, essence
from gpu_bootstrap.hostlink.settings import Settings
from gpu_bootstrap.hostlink.wire import authentication
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
GPU_ENV = {
    "LINK_ROLE": "gpu",
    "LINK_API_URL": "http://127.0.0.1:1/dev/",
    "LINK_INSTANCE_ID": "i-1",
    "LINK_CONTROL_FILE": "/nowhere/control.json",
}
READY: dict[str, Any] = {
    "status": "ready",
    "release": "r1",
    "streams": [{"sid": "s1", "since": 1.0, "last_audio_s": 0.1}],
}


# ---- pure --------------------------------------------------------------------------------------------------------


MODULES = [ROOT / "gpu_bootstrap/link.py", *sorted((ROOT / "gpu_bootstrap/hostlink").glob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_needs_nothing_but_the_standard_library(path: Path) -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    own = {"gpu_bootstrap", "hostlink"} if path.stem == "link" else set()
    assert imported <= {*sys.stdlib_module_names, *own}


def test_it_runs_as_a_program_with_its_package_beside_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "edge_bootstrap", tmp_path / "bootstrap", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "bootstrap/link.py")], env={}, capture_output=True, text=True, check=False
    )
    assert "LINK_ROLE" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_on_ec2_a_report_is_signed_by_the_role_and_else_by_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = sigv4.Credentials("AKID", "secret", "token", 1e12)
    monkeypatch.setattr(wire, "ROLE", SimpleNamespace(get=lambda: held))
    aws = {**GPU_ENV, "LINK_API_URL": "https://abc.execute-api.eu-central-1.amazonaws.com/api"}
    signed = authentication(Settings.from_env(aws), b"{}")
    assert signed["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert "/eu-central-1/execute-api/aws4_request" in signed["Authorization"]
    (tmp_path / "key").write_text("its key\n")
    keyed = Settings.from_env({**aws, "LINK_KEY_FILE": str(tmp_path / "key")})
    assert authentication(keyed, b"{}") == {"X-Host-Key": "its key"}
    assert authentication(Settings.from_env(GPU_ENV), b"{}") == {}

    def away() -> sigv4.Credentials:
        raise sigv4.CredentialsError("the metadata service answers 503")

    monkeypatch.setattr(wire, "ROLE", SimpleNamespace(get=away))
    with pytest.raises(LinkError, match="cannot be signed: the metadata service answers 503"):
        authentication(Settings.from_env(aws), b"{}")


@pytest.mark.parametrize("name", ["link.py", "hostlink", "release.py", "releasing", "host.sh"])
def test_the_edge_has_the_same_file(name: str) -> None:
    assert (ROOT / "edge_bootstrap" / name).resolve() == ROOT / "gpu_bootstrap" / name


def test_settings_from_the_environment() -> None:
    settings = Settings.from_env(GPU_ENV)
    assert settings.report_url == "http://127.0.0.1:1/dev/v1/hosts/i-1/report"
    assert settings.health_url == "http://127.0.0.1:9091/health"
    assert settings.release == "unknown"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"LINK_ROLE": "toaster"}, "LINK_ROLE must be gpu or edge"),
        ({"LINK_API_URL": ""}, "LINK_API_URL is not set"),
        ({"LINK_INSTANCE_ID": ""}, "LINK_INSTANCE_ID is not set"),
        ({"LINK_CONTROL_FILE": ""}, "LINK_CONTROL_FILE is not set"),
        ({"LINK_ROLE": "edge"}, "LINK_UPSTREAM_SCRIPT is not set"),
        ({"LINK_API_URL": "file:///etc/passwd"}, "LINK_API_URL must be an http or https address"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Settings.from_env({**GPU_ENV, **change})


@pytest.mark.parametrize(
    ("settings", "authority"),
    [
        ({}, "/var/lib/caddy/pki/authorities/local/root.crt"),
        ({"EDGE_TLS": "tls_internal", "EDGE_STORAGE": "/s"}, "/s/pki/authorities/local/root.crt"),
        ({"EDGE_TLS": "tls_acme"}, None),
        ({"EDGE_TLS": "tls_acme", "EDGE_ACME_OPTIONS": "profile shortlived"}, None),
        ({"EDGE_TLS": "tls_acme", "EDGE_ACME_OPTIONS": "trusted_roots /etc/a.pem"}, "/etc/a.pem"),
        ({"EDGE_TLS": "tls_files"}, None),
        ({"EDGE_TLS": "tls_files", "LINK_CA_FILE": "/etc/own.pem"}, "/etc/own.pem"),
    ],
)
def test_the_authority_is_the_one_that_certifies_the_edge(settings: dict[str, str], authority: str | None) -> None:
    edge = {"LINK_ROLE": "edge", "LINK_API_URL": "http://127.0.0.1:1", "LINK_INSTANCE_ID": "i-2"}
    found = Settings.from_env(edge | {"LINK_UPSTREAM_SCRIPT": "/s"} | settings).ca_file
    assert found == (Path(authority) if authority else None)


def test_an_answer_in_full_passes() -> None:
    answer = {
        "next_report_s": 5,
        "now": "2026-01-31T22:00:00Z",
        "drain": {"closing_at": "2026-01-31T22:05:00Z", "reason": "night"},
        "ticket_keys": [{"kid": "a", "secret": "b"}],
        "revoked": ["s1"],
        "upstreams": [{"host": "10.0.0.2", "port": 9090, "max_streams": 4}],
        "something_new": {"later": True},
    }
    assert check_answer(json.dumps(answer).encode()) == answer


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"next_report_s": 0}',
        b'{"next_report_s": true}',
        b'{"next_report_s": NaN}',
        b'{"next_report_s": 1e9}',
        b'{"next_report_s": 5, "revoked": [1]}',
        b'{"next_report_s": 5, "revoked": null}',
        b'{"next_report_s": 5, "ticket_keys": [{"kid": "a"}]}',
        b'{"next_report_s": 5, "ticket_keys": {}}',
        b'{"next_report_s": 5, "drain": "now"}',
        b'{"next_report_s": 5, "upstreams": [{"host": "--none"}]}',
        b'{"next_report_s": 5, "upstreams": [{"host": "10.0.0.256"}]}',
        b'{"next_report_s": 5, "upstreams": ["10.0.0.2"]}',
        b"[" * 100_000,
    ],
)
def test_an_answer_of_another_form_is_refused_whole(payload: bytes) -> None:
    with pytest.raises(LinkError):
        check_answer(payload)


def test_upstreams_are_a_set() -> None:
    hosts = [{"host": "10.0.0.3"}, {"host": "10.0.0.2"}, {"host": "10.0.0.3"}]
    assert hosts_of({"upstreams": hosts}) == ["10.0.0.2", "10.0.0.3"]


class TestGpuMemory:
    def test_passes_on_what_the_launcher_says(self) -> None:
        assert GpuMemory().report(Health(READY)) == READY

    def test_a_launcher_that_never_answered_is_loading(self) -> None:
        assert GpuMemory().report(Health(refused=True)) == {"status": "loading", "streams": []}

    def test_a_launcher_that_is_late_may_still_have_its_streams(self) -> None:
        memory = GpuMemory()
        memory.report(Health(READY))
        late = memory.report(Health(refused=False))
        assert (late["status"], late["streams"]) == ("loading", READY["streams"])

    def test_a_launcher_that_is_gone_has_none(self) -> None:
        memory = GpuMemory()
        memory.report(Health(READY))
        gone = memory.report(Health(refused=True))
        assert (gone["status"], gone["streams"]) == ("loading", [])
        assert "starting again" in gone["cause"]

    def test_the_cause_of_a_failure_outlives_the_launcher(self) -> None:
        memory = GpuMemory()
        memory.report(Health({"status": "failed", "cause": "no model", "streams": []}))
        assert memory.report(Health(refused=True))["cause"] == "no model"
        again = memory.report(Health({"status": "loading", "streams": []}))
        assert (again["status"], again["cause"]) == ("failed", "no model"), "it is started again and again"
        assert memory.report(Health(READY)) == READY


class TestPace:
    def test_reports_first_at_once_then_when_the_pause_is_over(self) -> None:
        pace = Pace()
        assert pace.is_due(0, ("ready",))
        pace.answered(0, ("ready",), 5)
        assert not pace.is_due(4.9, ("ready",))
        assert pace.is_due(5, ("ready",))

    def test_reports_a_change_at_once(self) -> None:
        pace = Pace()
        pace.answered(0, ("ready",), 60)
        assert pace.is_due(0.5, ("draining",))

    def test_waits_longer_after_each_failure_but_never_beyond_the_limit(self) -> None:
        pace = Pace()
        pauses = [pace.failed(0, chance=0.999) for _ in range(30)]
        assert pauses == sorted(pauses)
        assert pauses[0] < 0.6
        assert 29 < pauses[-1] <= 30
        assert not pace.is_due(pauses[-1] - 1, ("changed",))
        assert pace.is_due(pauses[-1], ("changed",))

    def test_no_two_hosts_try_again_together(self) -> None:
        assert Pace().failed(0, chance=0.0) == Pace().failed(0, chance=0.999) / 0.9995 / 2

    def test_is_quick_again_after_a_success(self) -> None:
        pace = Pace()
        for _ in range(10):
            pace.failed(0, 0.5)
        pace.answered(0, (), 5)
        assert pace.failed(0, 0.5) < 1


def test_streams_with_new_audio_are_no_change() -> None:
    later = {**READY, "streams": [{"sid": "s1", "since": 9.0, "last_audio_s": 0.0}]}
    assert essence(READY) == essence(later)
    assert essence(READY) != essence({**READY, "streams": []})
    assert essence(READY) != essence({**READY, "status": "draining"})


# ---- the loop, with real HTTP ------------------------------------------------------------------------------------


class Server:
    """A control plane and a launcher in one: what it is asked, what it answers."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answer: bytes = b'{"next_report_s": 0.1, "revoked": ["s9"]}'
        self.status = 200
        self.location: str | None = None
        self.looks: list[str] = []
        self.health: dict[str, Any] | None = READY
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.looks.append(self.path)
                self._reply(200 if owner.health else 500, json.dumps(owner.health).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.reports.append((self.path, dict(self.headers), body))
                self._reply(owner.status, owner.answer)

            def _reply(self, status: int, payload: bytes) -> None:
                self.send_response(status)
                if owner.location is not None and status != 200:
                    self.send_header("Location", owner.location)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def gpu(server: Server, tmp_path: Path) -> Settings:
    (tmp_path / "key").write_text("host-key\n")
    return Settings.from_env(
        {
            **GPU_ENV,
            "LINK_API_URL": f"{server.url}/dev",
            "LINK_HEALTH_URL": f"{server.url}/health",
            "LINK_CONTROL_FILE": str(tmp_path / "run" / "control.json"),
            "LINK_KEY_FILE": str(tmp_path / "key"),
        }
    )


def control_of(settings: Settings) -> Path:
    assert settings.control_file is not None
    return settings.control_file


def test_gpu_reports_and_leaves_the_answer_for_the_launcher(server: Server, gpu: Settings) -> None:
    before = time.time()
    Link(gpu, Gpu(gpu), "boot-1").once()
    path, headers, report = server.reports[0]
    assert path == "/dev/v1/hosts/i-1/report"
    assert headers["X-Host-Key"] == "host-key"
    assert report == {**READY, "boot_id": "boot-1"}
    left = json.loads(control_of(gpu).read_text())
    assert before <= left.pop("received_at") <= time.time()
    assert left == {"next_report_s": 0.1, "revoked": ["s9"]}
    assert stat.S_IMODE(control_of(gpu).stat().st_mode) == 0o600
    assert [file.name for file in control_of(gpu).parent.iterdir()] == ["control.json"]


@pytest.mark.parametrize(
    ("status", "answer"), [(200, b"nonsense"), (500, b"{}"), (403, b"no"), (200, b"x" * 2_000_000)]
)
def test_a_bad_answer_changes_nothing_and_is_said_once(
    server: Server,
    gpu: Settings,
    status: int,
    answer: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pace, "FIRST_RETRY_S", 0.01)
    loop = Link(gpu, Gpu(gpu), "boot-1")
    loop.once()
    good = control_of(gpu).read_text()
    server.status, server.answer = status, answer

    def asked_again() -> bool:
        loop.once()
        return len(server.reports) >= 3

    wait_until(asked_again, 10, "two more reports")
    assert control_of(gpu).read_text() == good
    assert capsys.readouterr().err.count("link.trouble") == 1
    server.status, server.answer = 200, b'{"next_report_s": 7}'

    def well() -> bool:
        loop.once()
        return bool(json.loads(control_of(gpu).read_text())["next_report_s"] == 7)

    wait_until(well, 10, "the next good answer")
    assert "link.well" in capsys.readouterr().err


def test_a_redirect_is_not_followed(server: Server, gpu: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """The host key would go with it, and whoever answered there would be obeyed."""
    server.status, server.location = 302, f"{server.url}/elsewhere"
    Link(gpu, Gpu(gpu), "boot-1").once()
    assert "302" in capsys.readouterr().err
    assert server.looks == ["/health"], "nobody asked for the other address"
    assert not control_of(gpu).exists()


def test_nobody_there_is_no_end(gpu: Settings, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.http.shutdown()
    server.http.server_close()
    Link(gpu, Gpu(gpu), "boot-1").once()
    assert "cannot be reached" in capsys.readouterr().err


def test_a_change_is_reported_before_the_pause_is_over(server: Server, gpu: Settings) -> None:
    server.answer = b'{"next_report_s": 3600}'
    loop = Link(gpu, Gpu(gpu), "boot-1")
    loop.once()
    loop.once()
    assert len(server.reports) == 1
    server.health = {**READY, "streams": []}
    loop.once()
    assert [report["streams"] for _, _, report in server.reports] == [READY["streams"], []]


SCRIPT = """#!/bin/sh
case $1 in
  --show) cat "$PREFIX/upstreams" 2>/dev/null || true;;
  --none) : > "$PREFIX/upstreams";;
  *) for address in "$@"; do echo "$address"; done > "$PREFIX/upstreams"; echo set >> "$PREFIX/calls";;
esac
"""


@pytest.fixture
def edge(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    script = tmp_path / "set-upstream.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setenv("PREFIX", str(tmp_path))
    (tmp_path / "ca.pem").write_text("PEM")
    return Settings.from_env(
        {
            "LINK_ROLE": "edge",
            "LINK_API_URL": server.url,
            "LINK_INSTANCE_ID": "i-2",
            "LINK_UPSTREAM_SCRIPT": str(script),
            "LINK_CA_FILE": str(tmp_path / "ca.pem"),
            "LINK_EDGE_URL": f"{server.url}/healthz",
        }
    )


def test_edge_follows_the_gpu_and_reports_what_is_in_force(server: Server, edge: Settings, tmp_path: Path) -> None:
    server.answer = b'{"next_report_s": 3600, "upstreams": [{"host": "10.0.0.2", "port": 9090}]}'
    loop = Link(edge, Edge(edge), "boot-2")
    loop.once()
    loop.once()
    loop.once()
    assert [report["upstreams"] for _, _, report in server.reports] == [[], ["10.0.0.2"]]
    assert (tmp_path / "calls").read_text() == "set\n"
    _, _, report = server.reports[-1]
    assert (report["status"], report["ca_pem"], report["cert_days"]) == ("ready", "PEM", None)


def test_edge_names_the_release_that_serves_now(edge: Settings, tmp_path: Path) -> None:
    role = Edge(replace(edge, release="r0", current=tmp_path / "current"))
    assert role.observe()["release"] == "r0", "nothing is installed by releases"
    (tmp_path / "current").symlink_to("releases/r1")
    role._looked_at = -math.inf
    assert role.observe()["release"] == "r1"


def test_edge_says_which_gpus_take_no_connection(server: Server, edge: Settings) -> None:
    with socket.socket() as gpu:
        gpu.bind(("127.0.0.1", 0))
        gpu.listen()
        port = gpu.getsockname()[1]
        watch = [{"host": host, "port": port} for host in ("127.0.0.1", "127.0.0.2")]
        server.answer = json.dumps({"next_report_s": 3600, "watch": [*watch, 7, {"host": "127.0.0.3"}]}).encode()
        role = Edge(edge)
        loop = Link(edge, role, "boot-2")
        loop.once()
        role._looked_at = -math.inf  # a look is every five seconds
        loop.once()
    assert [report["gpus_down"] for _, _, report in server.reports] == [[], ["127.0.0.2"]]


def test_edge_forwards_to_nobody_when_told_so(edge: Settings, tmp_path: Path) -> None:
    (tmp_path / "upstreams").write_text("10.0.0.9\n")
    Link(edge, Edge(edge), "boot-2").once()
    assert (tmp_path / "upstreams").read_text() == ""


def test_edge_says_when_caddy_or_the_script_is_broken(server: Server, edge: Settings, tmp_path: Path) -> None:
    server.health = None
    Link(edge, Edge(edge), "boot-2").once()
    (tmp_path / "set-upstream.sh").write_text("#!/bin/sh\necho the disk is full >&2\nexit 74\n")
    Link(edge, Edge(edge), "boot-2").once()
    causes = [(report["status"], report["cause"]) for _, _, report in server.reports]
    assert causes == [
        ("failed", "Caddy does not answer: HTTP Error 500: Internal Server Error"),
        ("failed", "set-upstream.sh failed (74): the disk is full"),
    ]


# ---- the program -------------------------------------------------------------------------------------------------


def start(env: dict[str, str]) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LINK_")}
    program = [sys.executable, str(ROOT / "gpu_bootstrap/link.py")]
    return subprocess.Popen(program, env=clean | env, stderr=subprocess.PIPE, text=True)


def environment(settings: Settings) -> dict[str, str]:
    return {
        **GPU_ENV,
        "LINK_API_URL": settings.api_url,
        "LINK_HEALTH_URL": settings.health_url,
        "LINK_CONTROL_FILE": str(settings.control_file),
    }


def test_the_program_reports_on_and_ends_at_once_when_asked(server: Server, gpu: Settings) -> None:
    process = start(environment(gpu))
    try:
        more: Callable[[], bool] = lambda: len(server.reports) >= 2  # noqa: E731 - read by wait_until
        wait_until(more, 20, "two reports")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_program_says_what_is_not_set() -> None:
    process = start({"LINK_ROLE": "gpu"})
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (2, "LINK_API_URL is not set\n")
