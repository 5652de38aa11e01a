"""Where the edge's certificate comes from: files, its own authority, or ACME with a second Caddy as the authority."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.bootstrap.edge import Edge, end, reload, start
from tests.waiting import wait_until
from whisperctl.local.hosts import free_address
from whisperctl.local.preflight import find_caddy, free_port

LIFETIME_S = 300
"""The shortest that Caddy's authority gives."""


@dataclass(frozen=True)
class Authority:
    directory_url: str
    root: Path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A Caddy that is an ACME authority for loopback addresses; its certificates live LIFETIME_S."""
    directory = tmp_path_factory.mktemp("authority")
    port = free_port()
    config = directory / "Caddyfile"
    config.write_text(
        f"""{{
    admin off
    default_bind 127.0.0.1
    auto_https disable_redirects
    http_port {free_port()}
    storage file_system {directory}/storage
    skip_install_trust
}}
https://localhost:{port} {{
    tls internal
    acme_server {{
        lifetime {LIFETIME_S}s
        allow {{
            ip_ranges 127.0.0.0/8
        }}
    }}
}}
"""
    )
    command = [find_caddy(), "run", "--config", str(config), "--adapter", "caddyfile"]
    env = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    root = directory / "storage/pki/authorities/local/root.crt"

    def up() -> bool:
        assert process.poll() is None, (directory / "log").read_text()
        try:
            return root.exists() and shown("127.0.0.1", port, "localhost") is not None
        except OSError:
            return False

    try:
        wait_until(up, 20, "the authority")
        yield Authority(f"https://localhost:{port}/acme/local/directory", root)
    finally:
        process.terminate()
        process.wait(15)


def shown(address: str, port: int, name: str) -> x509.Certificate:
    """The certificate shown to whoever asks for `name`, trusted or not; raises OSError when none is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as wrapped,
    ):
        certificate = wrapped.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate)


def privileged() -> bool:
    try:
        with socket.socket() as probe:
            probe.bind((free_address(), 80))
    except PermissionError:
        return False
    return True


@pytest.fixture(scope="module")
def acme_edge(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[tuple[str, Edge]]:
    """An edge known by its bare address, on the ports that an authority asks."""
    if not privileged():
        pytest.skip("ports 80 and 443 are root's on this machine, and an ACME authority asks no others")
    address = free_address()
    directory = tmp_path_factory.mktemp("edge")
    edge = start(
        directory,
        healthy=lambda _edge: bool(shown(address, 443, address)),
        EDGE_BIND=address,
        EDGE_SITE=address,
        EDGE_HTTP_PORT="80",
        EDGE_HTTPS_PORT="443",
        EDGE_TLS="tls_acme",
        EDGE_ACME_CA=authority.directory_url,
        EDGE_ACME_OPTIONS=f"trusted_roots {authority.root}",
        EDGE_RENEW_INTERVAL="1s",
        # Due from the third second of its life on; by default it would be after 200 s.
        EDGE_RENEWAL_WINDOW="0.99",
    )
    yield address, edge
    end(edge)


def test_acme_gives_a_bare_address_its_certificate_and_renews_it(
    acme_edge: tuple[str, Edge], authority: Authority
) -> None:
    address, edge = acme_edge
    first = shown(address, 443, address)
    alternatives = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in alternatives.get_values_for_type(x509.IPAddress)] == [address]
    # Trusted by whoever trusts the authority, by name and chain.
    trusting = ssl.create_default_context(cafile=str(authority.root))
    with socket.create_connection((address, 443), timeout=5) as plain:
        trusting.wrap_socket(plain, server_hostname=address).close()

    def renewed() -> x509.Certificate | None:
        now = shown(address, 443, address)
        return now if now.serial_number != first.serial_number else None

    second = wait_until(renewed, 60, "the renewal")
    assert second.not_valid_after_utc > first.not_valid_after_utc
    assert '"msg":"certificate obtained successfully"' in edge.log.read_text()


def pair(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key, as an operator would bring them."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_files_are_shown_and_new_files_follow_a_reload(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, "talks.example.org")
    edge = start(
        tmp_path,
        healthy=lambda edge: bool(shown("127.0.0.1", edge.port, "talks.example.org")),
        EDGE_SITE="talks.example.org",
        EDGE_TLS="tls_files",
        EDGE_CERT_FILE=str(certificate),
        EDGE_KEY_FILE=str(key),
    )
    try:
        first = shown("127.0.0.1", edge.port, "talks.example.org")
        assert first == x509.load_pem_x509_certificate(certificate.read_bytes())
        pair(tmp_path, "talks.example.org")
        reload(edge)
        assert shown("127.0.0.1", edge.port, "talks.example.org") == x509.load_pem_x509_certificate(
            certificate.read_bytes()
        )
        assert first.serial_number != shown("127.0.0.1", edge.port, "talks.example.org").serial_number
    finally:
        end(edge)
