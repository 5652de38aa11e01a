"""The edge's certificate on a real host by ACME, a second Caddy being the authority: obtained, and renewed."""

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

from tests.bootstrap.test_edge_certificates import LIFETIME_S, shown
from tests.hosts.conftest import Installed
from tests.hosts.deploying import deploy, settings_of
from tests.waiting import wait_until
from whisperctl.local.preflight import find_caddy, free_port

pytestmark = pytest.mark.timeout(600)
ROOT_THERE = "/etc/whisperlive-edge/authority.pem"


@dataclass(frozen=True)
class Authority:
    directory_url: str
    root: Path


@pytest.fixture
def authority(installed: Installed, tmp_path: Path) -> Iterator[Authority]:
    """A Caddy on the bridge that certifies the bridge's addresses, for LIFETIME_S each time."""
    address, port = installed.world.bridge_address, free_port()
    config = tmp_path / "Caddyfile"
    config.write_text(
        f"""{{
    admin off
    default_bind {address}
    auto_https disable_redirects
    storage file_system {tmp_path}/storage
    skip_install_trust
}}
https://{address}:{port} {{
    tls internal
    acme_server {{
        lifetime {LIFETIME_S}s
        allow {{
            ip_ranges 10.0.0.0/8
        }}
    }}
}}
"""
    )
    command = [find_caddy(), "run", "--config", str(config), "--adapter", "caddyfile"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    root = tmp_path / "storage/pki/authorities/local/root.crt"

    def up() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            return root.exists() and bool(shown(address, port, address))
        except OSError:
            return False

    try:
        wait_until(up, 20, "the authority")
        yield Authority(f"https://{address}:{port}/acme/local/directory", root)
    finally:
        process.terminate()
        process.wait(15)


def deploy_with(installed: Installed, directory: Path, **settings: str) -> None:
    """The release that serves, with other settings."""
    file = directory / "edge.env"
    lines = settings_of(installed.world, "edge") | settings
    file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    rollout = deploy(installed.world, "edge", "--release", installed.edge_name, "--settings", str(file))["rollout"]
    assert rollout["state"] == "succeeded", rollout


def test_acme_gives_the_edge_its_certificate_and_renews_it(
    installed: Installed, authority: Authority, tmp_path: Path
) -> None:
    """Switched to by a rollout of settings, checked by the host's own check, and switched back."""
    world = installed.world
    address = world.address(world.edge)
    world.must(world.edge, f"cat >{ROOT_THERE} <<'END'\n{authority.root.read_text()}END\nchmod 644 {ROOT_THERE}")
    deploy_with(
        installed,
        tmp_path,
        EDGE_TLS="tls_acme",
        EDGE_ACME_CA=authority.directory_url,
        EDGE_ACME_OPTIONS=f"trusted_roots {ROOT_THERE}",
        EDGE_RENEW_INTERVAL="1s",
        # Due from the third second of its life on; by default it would be after 200 s.
        EDGE_RENEWAL_WINDOW="0.99",
    )
    try:
        caddy = world.must(world.edge, "systemctl show -P MainPID caddy")
        first = shown(address, 443, address)
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == [address]
        lived = first.not_valid_after_utc - first.not_valid_before_utc
        assert LIFETIME_S <= lived.total_seconds() <= LIFETIME_S + 120
        assert_trusted(address, authority.root)

        def renewed() -> bool:
            return shown(address, 443, address).serial_number != first.serial_number

        wait_until(renewed, 60, "the renewal", every=0.3)
        assert_trusted(address, authority.root)
        wait_until(lambda: reported(installed), 90, "the edge's report", every=0.3)
        assert world.must(world.edge, "systemctl show -P MainPID caddy") == caddy, "it renews by itself"
        for said in ("obtained", "renewed"):
            world.must(world.edge, f"journalctl -o cat -u caddy | grep -q 'certificate {said} successfully.*acme'")
    finally:
        deploy_with(installed, tmp_path)
    assert_trusted(address, Path(world.stack.ca_cert))


def assert_trusted(address: str, root: Path) -> None:
    """By whoever trusts this authority, by name and chain."""
    trusting = ssl.create_default_context(cafile=str(root))
    with socket.create_connection((address, 443), timeout=5) as plain:
        trusting.wrap_socket(plain, server_hostname=address).close()


def reported(installed: Installed) -> bool:
    """Whether the edge says that it is well, and that its certificate is the authority's short one."""
    edge = installed.world.stack.status()["edge"]
    days = edge["cert_days"]  # two decimals: of five minutes nothing is left
    return bool(edge["status"] == "ready" and days is not None and 0 <= days < LIFETIME_S / 86400 + 0.01)
