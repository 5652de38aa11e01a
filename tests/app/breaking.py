"""One layer of the embedded cloud broken at a time, on the real hosts, and mended again.

Hosts run from their release folder. `breakable` gives both hosts a copy of it with a few lines more: they do what a
file in the host's `run` folder asks for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.stack import ROOT, Stack
from tests.waiting import wait_until
from whisperctl.local.preflight import find_caddy
from whisperctl.local.roles import RELEASE, HostFiles

GPU_HOOKS = """
import gc, os, pathlib, sys, threading

_run = pathlib.Path(os.environ.get("PREFIX", "")) / "run"
if "gpu_bootstrap.serve" in sys.orig_argv:
    if (_run / "no-model").exists():
        os.environ["WHISPER_MODEL_PATH"] = str(_run / "no-model")

    def _obey():
        while not (_run / "hang").exists():
            threading.Event().wait(0.05)
            if (_run / "other-keys").exists():
                from gpu_bootstrap import tickets
                if tickets.verify.__name__ == "verify":
                    real = tickets.verify
                    def other(ticket, keys, now):
                        kept = (_run / "other-keys").exists()
                        return real(ticket, {kid: "0" * 48 if kept else one for kid, one in keys.items()}, now)
                    tickets.verify = other
                    (_run / "obeyed").touch()
        (_run / "hang").unlink()
        from gpu_bootstrap.serving import Serving
        held = next(one for one in gc.get_objects() if isinstance(one, Serving))
        held._changed.acquire()
        (_run / "obeyed").touch()
        threading.Event().wait()

    threading.Thread(target=_obey, daemon=True).start()
"""
EDGE_SCRIPT = """#!/bin/sh
# The link's own orders come to nothing while the file is there.
[ -z "${LINK_ROLE:-}" ] || [ "${1:-}" = --show ] || [ ! -e "$PREFIX/run/deaf" ] || exit 0
exec "$(dirname "$0")/set-upstream.real" "$@"
"""
WRONG = "127.1.2.3"


class Host:
    """A host's root on this machine."""

    def __init__(self, stack: Stack, instance_id: str) -> None:
        self.root = stack.state_dir / "hosts" / instance_id
        self._processes = stack.state_dir / "processes.json"

    def ask(self, name: str, *, wait: bool = True) -> Path:
        """Leave a request; returns when it is obeyed."""
        obeyed = self.root / "run" / "obeyed"
        obeyed.unlink(missing_ok=True)
        asked = self.root / "run" / name
        asked.touch()
        if wait:
            wait_until(obeyed.exists, 20, f"the host to obey {name}")
        return asked

    def pid(self, unit: str) -> int | None:
        """Of caddy or whisperlive: there is one of each at most."""
        found = [one["pid"] for one in json.loads(self._processes.read_text()) if one["what"] == unit]
        return int(found[0]) if found else None

    def environment(self, unit: str) -> dict[str, str]:
        text = Path(f"/proc/{self.pid(unit)}/environ").read_bytes().decode()
        return dict(one.partition("=")[::2] for one in text.split("\0") if one)


@contextmanager
def breakable(stack: Stack) -> Iterator[tuple[Host, Host]]:
    """The sleeping GPU's host and the edge's, each with a release that can be broken; the old ones at the end."""
    gpu, edge = Host(stack, stack.gpu_instance_id), Host(stack, stack.edge_instance_id)
    HostFiles(gpu.root).make_first_release("gpu", ROOT)  # where it never ran yet
    package = gpu.root / "opt" / "whisperlive" / "releases" / RELEASE / "gpu_bootstrap"
    bootstrap = edge.root / "opt" / "edge" / "releases" / RELEASE / "edge_bootstrap"
    with copied(package) as made, copied(bootstrap) as script_at:
        with (made / "__init__.py").open("a") as code:
            code.write(GPU_HOOKS)
        script = script_at / "set-upstream.sh"
        script.rename(script.with_suffix(".real"))
        script.write_text(EDGE_SCRIPT)
        script.chmod(0o755)
        yield gpu, edge


@contextmanager
def copied(link: Path) -> Iterator[Path]:
    """A folder in the place of a symlink to one, with the same content; the symlink again at the end."""
    target = link.readlink()
    fresh = link.with_name(f"{link.name}.copy")
    shutil.copytree(target, fresh, ignore=shutil.ignore_patterns("__pycache__"))
    link.unlink()
    fresh.rename(link)
    try:
        yield link
    finally:
        shutil.rmtree(link)
        link.symlink_to(target)


@contextmanager
def edge_down(edge: Host) -> Iterator[None]:
    """Caddy is there and answers nobody."""
    pid = edge.pid("caddy")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def wrong_upstream(edge: Host) -> Iterator[None]:
    """The edge forwards to an address where nobody is, and the link's orders come to nothing."""
    deaf = edge.ask("deaf", wait=False)
    script = edge.root / "opt" / "edge" / "current" / "edge_bootstrap" / "set-upstream.sh"
    environment = {"PATH": os.environ["PATH"], "PREFIX": str(edge.root)}
    subprocess.run([str(script), WRONG], env=environment, check=True, capture_output=True)
    try:
        yield
    finally:
        deaf.unlink()


@contextmanager
def other_keys(gpu: Host) -> Iterator[None]:
    """The host holds another secret than the control plane, under the same name."""
    asked = gpu.ask("other-keys")
    try:
        yield
    finally:
        asked.unlink()


@contextmanager
def no_model(stack: Stack, gpu: Host) -> Iterator[None]:
    """The model cannot be read when the service starts again."""
    broken = gpu.root / "run" / "no-model"
    (broken / "model.bin").mkdir(parents=True)
    restart(stack)
    try:
        yield
    finally:
        shutil.rmtree(broken)
        restart(stack)


def restart(stack: Stack) -> None:
    stack.call("POST", "/v1/gpu/restart", body={"force": True}).raise_for_status()


@contextmanager
def expired_certificate(edge: Host, directory: Path) -> Iterator[None]:
    """The edge's certificate, of its own authority, has run out an hour ago."""
    environment = edge.environment("caddy")
    storage = Path(environment["EDGE_STORAGE"])
    files = _expired(storage / "pki" / "authorities" / "local", directory)
    reload(environment | {"EDGE_TLS": "tls_files", "EDGE_CERT_FILE": str(files[0]), "EDGE_KEY_FILE": str(files[1])})
    try:
        yield
    finally:
        reload(environment)


def reload(environment: dict[str, str]) -> None:
    config = Path(environment["PREFIX"]) / "opt" / "edge" / "current" / "edge_bootstrap" / "Caddyfile"
    command = [find_caddy(), "reload", "--config", str(config), "--adapter", "caddyfile", "--force"]
    command += ["--address", environment["EDGE_ADMIN"]]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 0, run.stderr


def _expired(authority: Path, directory: Path) -> tuple[Path, Path]:
    root = x509.load_pem_x509_certificate((authority / "root.crt").read_bytes())
    root_key: Any = serialization.load_pem_private_key((authority / "root.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=2))
        .not_valid_after(now - timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem, secret = directory / "expired.pem", directory / "expired.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret


def forget_probes(stack: Stack) -> None:
    """As if no probe had been made yet."""
    table: Any = boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=stack.aws_endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106  the stand-in's
    )
    name = table.list_tables()["TableNames"][0]
    table.delete_item(TableName=name, Key={"pk": {"S": "control"}, "sk": {"S": "probe"}})
