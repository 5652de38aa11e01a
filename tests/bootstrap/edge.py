"""The real Caddy with the real Caddyfile, in front of WebSocket servers of the tests' own."""

from __future__ import annotations

import contextlib
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Origin, Subprotocol

from bench.tls import threaded_tls
from tests.waiting import wait_until
from whisperctl.local.hosts import free_address
from whisperctl.local.http import HttpCall
from whisperctl.local.preflight import find_caddy, free_port

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "edge_bootstrap"
TICKET = "eyJhbGciOiJIUzI1NiJ9.very-secret-ticket"
TOKEN = "wle_very-secret-token"  # noqa: S105  a made-up one


class Gpu:
    """A GPU host's WebSocket port: says its address first, then echoes."""

    def __init__(self) -> None:
        self.address = free_address()
        self.headers: list[dict[str, str]] = []
        self._server: Server = serve(
            self._serve,
            self.address,
            9090,
            select_subprotocol=lambda _connection, offered: offered[0] if offered else None,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append(dict(connection.request.headers.raw_items()))
        connection.send(self.address)
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                connection.send(message)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)


@dataclass
class Edge:
    port: int
    prefix: Path
    log: Path
    ca: Path
    process: subprocess.Popen[bytes]
    env: dict[str, str]
    api_calls: list[HttpCall] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def http(self) -> httpx.Client:
        return httpx.Client(verify=self.trust(), base_url=self.url, timeout=10)

    def dial(
        self,
        path: str = "/ws",
        origin: str | None = None,
        offered: tuple[str, ...] = ("bearer", TICKET),
        source: str | None = None,
    ) -> ClientConnection:
        return connect(
            f"wss://localhost:{self.port}{path}",
            ssl=threaded_tls(str(self.ca)),
            source_address=(source, 0) if source else None,
            origin=Origin(origin) if origin else None,
            subprotocols=[Subprotocol(one) for one in offered] or None,
            additional_headers={"Authorization": f"Bearer {TOKEN}", "Cookie": f"a={TOKEN}"},
            open_timeout=10,
        )

    def follow(self, *gpus: Gpu) -> None:
        """As the host link does: run set-upstream.sh."""
        addresses = [gpu.address for gpu in gpus] or ["--none"]
        env = {"PATH": "/usr/bin:/bin", "PREFIX": str(self.prefix)}
        subprocess.run([str(BOOTSTRAP / "set-upstream.sh"), *addresses], env=env, check=True, capture_output=True)

    def served_by(self, gpu: Gpu) -> bool:
        try:
            with self.dial() as connection:
                return connection.recv(timeout=5) == gpu.address
        except InvalidStatus:
            return False


def answers(edge: Edge) -> bool:
    if not edge.ca.exists():
        return False
    with edge.http() as client:
        return client.get("/healthz").status_code == 200


def start(directory: Path, healthy: Callable[[Edge], bool] = answers, **changes: str) -> Edge:
    """Caddy with the Caddyfile, `healthy`; `changes` are environment variables."""
    port = int(changes.get("EDGE_HTTPS_PORT") or free_port())
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "EDGE_BIND": "127.0.0.1",
        "EDGE_HTTPS_PORT": str(port),
        "EDGE_HTTP_PORT": str(free_port()),
        "EDGE_ADMIN": f"127.0.0.1:{free_port()}",
        "EDGE_STORAGE": str(directory / "caddy"),
        "EDGE_SITE_ROOT": str(ROOT / "site"),
        "EDGE_API_STAGE": "/stage",
        "EDGE_ORIGINS": f"https://localhost:{port} https://talks.example.org",
        **changes,
    }
    log = directory / "caddy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [find_caddy(), "run", "--config", str(BOOTSTRAP / "Caddyfile"), "--adapter", "caddyfile"],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    edge = Edge(port, directory, log, directory / "caddy/pki/authorities/local/root.crt", process, env)

    def up() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            return healthy(edge)
        except (OSError, httpx.TransportError):
            return False

    try:
        wait_until(up, 20, "Caddy")
    except BaseException:
        process.kill()
        raise
    return edge


def end(edge: Edge) -> None:
    edge.process.send_signal(signal.SIGTERM)
    try:
        edge.process.wait(15)
    except subprocess.TimeoutExpired:
        edge.process.kill()
        raise


def reload(edge: Edge, **changes: str) -> None:
    """As the unit's reload does: the configuration anew, with the environment as it is now."""
    config = ["--config", str(BOOTSTRAP / "Caddyfile"), "--adapter", "caddyfile"]
    command = [find_caddy(), "reload", "--force", *config, "--address", edge.env["EDGE_ADMIN"]]
    subprocess.run(command, env={**edge.env, **changes}, check=True, capture_output=True)
