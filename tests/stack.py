"""The embedded cloud as a test sees it: started as a user starts it, driven over HTTP."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 180.0
STANDIN = "_standin"


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ONCE = httpx.Limits(max_keepalive_connections=0)
"""A connection for each call: none is found dead after a restart. What is slow is reading the authorities."""


@functools.cache
def plain() -> httpx.Client:
    """For calls without TLS."""
    return httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), timeout=35, limits=ONCE)


@functools.cache
def trusting(ca_cert: str) -> httpx.Client:
    """For calls to whoever this authority vouches for, and to nobody else."""
    return httpx.Client(verify=ssl.create_default_context(cafile=ca_cert), timeout=35, limits=ONCE)


@dataclass(frozen=True)
class Stack:
    """A running `whisperctl local`; the fields are those of its stack.json."""

    edge_url: str
    api_url: str
    aws_endpoint: str
    ca_cert: str
    tokens: dict[str, str]
    gpu_instance_id: str
    gpu_instance_ids: list[str]
    edge_instance_id: str
    pid: int
    state_dir: Path
    process: subprocess.Popen[str]

    def http(self) -> httpx.Client:
        """A client that trusts the edge's own certificate authority and nothing less."""
        return httpx.Client(verify=ssl.create_default_context(cafile=self.ca_cert), timeout=35)

    def call(
        self,
        method: str,
        path: str,
        *,
        role: str | None = "operator",
        body: Any = None,
        via_edge: bool = False,
    ) -> httpx.Response:
        """One API call; `path` begins with /v1. Goes to the API itself, or through the edge."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        base = f"{self.edge_url}/api" if via_edge else self.api_url
        client = trusting(self.ca_cert) if via_edge else plain()
        return client.request(method, base + path, headers=headers, json=body)

    def status(self) -> dict[str, Any]:
        response = self.call("GET", "/v1/status", role="viewer")
        response.raise_for_status()
        return dict(response.json())

    def phase(self) -> str:
        return str(self.status()["phase"])

    def calls(self, operation: str | None = None) -> list[dict[str, Any]]:
        """What the product asked of AWS so far, oldest first."""
        found = plain().get(f"{self.aws_endpoint}/{STANDIN}/calls").raise_for_status().json()
        return [call for call in found if operation is None or call["operation"] == operation]

    def faults(self, **faults: Any) -> None:
        """Replace the stand-in's faults by these; none clears them."""
        plain().post(f"{self.aws_endpoint}/{STANDIN}/faults", json=faults).raise_for_status()

    def advance(self, seconds: float) -> None:
        """Move the stand-in's clock forward."""
        plain().post(f"{self.aws_endpoint}/{STANDIN}/clock", json={"advance_s": seconds}).raise_for_status()

    def invoke(self, function: str) -> None:
        """Let a scheduled function (tick, probe) run now, without moving the clock; returns at once."""
        body = {"function": function}
        httpx.post(f"{self.aws_endpoint}/{STANDIN}/invoke", json=body, timeout=10).raise_for_status()

    def asleep(self) -> None:
        """Stop the GPU by force and wait until it sleeps."""
        if self.phase() != "asleep":
            self.call("POST", "/v1/gpu/stop", body={"force": True}).raise_for_status()
        wait_until(lambda: self.phase() == "asleep", 40, "the GPU to sleep", every=0.2)

    def wait_phase(self, phase: str, timeout: float = 60) -> None:
        wait_until(lambda: self.phase() == phase, timeout, f"phase {phase}", every=0.2)

    def log(self) -> str:
        return (self.state_dir / "test-stderr.log").read_text(errors="replace")


@contextlib.contextmanager
def start_stack(state_dir: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Run `whisperctl local` until the block ends; every process it started ends with it.

    `env`: settings of the control plane that no option has, by their variables.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    errors = state_dir / "test-stderr.log"
    arguments = ["--state-dir", str(state_dir), "--port", str(free_port()), "--boot-seconds", "2", *options]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "whisperctl", "local", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # Many short sessions would teach a linger that no test counts on.
            env={**os.environ, "PYTHONUNBUFFERED": "1", "IDLE_LEARNED": "false", **(env or {})},
            start_new_session=True,
        )
    try:
        yield _when_ready(process, state_dir, errors)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the stack did not end in 30 s:\n{errors.read_text()[-3000:]}") from None


def _when_ready(process: subprocess.Popen[str], state_dir: Path, errors: Path) -> Stack:
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    printed = ""

    def ready() -> bool:
        nonlocal printed
        assert process.stdout is not None
        with contextlib.suppress(BlockingIOError):
            printed += os.read(process.stdout.fileno(), 65536).decode()
        if process.poll() is not None:
            raise AssertionError(f"the stack ended with {process.returncode}:\n{errors.read_text()[-3000:]}")
        return "READY " in printed

    try:
        wait_until(ready, START_TIMEOUT_S, "READY")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{errors.read_text()[-3000:]}") from None
    about = json.loads((state_dir / "stack.json").read_text())
    names = Stack.__dataclass_fields__.keys() & about.keys()
    return Stack(**{name: about[name] for name in names}, state_dir=state_dir, process=process)


def whisperctl(*arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """The operator's command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "whisperctl", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def issue_token(stack: Stack, role: str, minutes: int) -> str:
    """A token made as an operator makes one, on the command line."""
    run = whisperctl("token", "add", role, "--minutes", str(minutes), "--json", "--state-dir", str(stack.state_dir))
    assert run.returncode == 0, run.stderr
    return str(json.loads(run.stdout)["token"])
