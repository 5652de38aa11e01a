"""Hosts on this machine: process groups that are alive exactly while EC2 says the instance runs."""

from __future__ import annotations

import logging
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from whisperctl.local.ec2 import Machine
from whisperctl.local.processes import Service, Spawner, signal_group
from whisperctl.local.roles import HostFiles, Plan, shell_environment, units
from whisperctl.local.ssm import Outcome

log = logging.getLogger(__name__)

# What a unit's TimeoutStopSec would be: the launcher flushes last words in less.
STOP_PATIENCE_S = 15.0
REQUESTS_EVERY_S = 0.1
PORTS = (9090, 9091)

SYSTEMCTL = """\
#!/bin/sh
# Stands in for systemctl on a host of the embedded cloud: hands the request to the host's supervisor.
set -eu
request=$(mktemp "$PREFIX/run/systemctl/XXXXXXXX")
printf '%s\\n' "$*" >"$request"
mv "$request" "$request.ask"
tries=0
while [ ! -e "$request.done" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || { echo "systemctl: the host did not answer in 30 s" >&2; exit 1; }
    sleep 0.1
done
code=$(cat "$request.done")
rm -f "$request.done"
exit "$code"
"""


def free_address(taken: Callable[[str], bool] = lambda _address: False) -> str:
    """A loopback address of 127.0.0.0/8 with a host's ports free. Random, so that two stacks do not meet."""
    for _ in range(1000):
        octets = (random.randint(1, 254), random.randint(0, 254), random.randint(1, 254))  # noqa: S311  no secret
        address = "127.{}.{}.{}".format(*octets)
        if not taken(address) and all(_free(address, port) for port in PORTS):
            return address
    raise OSError("no loopback address with ports 9090 and 9091 free was found in 1000 tries")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


class Host:
    """One boot of one host: its units run from the moment it is made until `shutdown()`."""

    def __init__(
        self, machine: Machine, plan: Plan, root: Path, spawner: Spawner, power_off: Callable[[str], None]
    ) -> None:
        self.machine = machine
        self.files = HostFiles(root)
        self._spawner = spawner
        self._power_off = power_off
        self._environment = shell_environment(plan, self.files)
        self._off = threading.Event()
        self._scripts: set[int] = set()
        self._lock = threading.Lock()
        self._prepare(plan)
        boot_id = str(uuid.uuid4())
        self._services = {
            unit.name: Service(spawner, unit)
            for unit in units(plan, machine.role, machine.instance_id, machine.private_ip, boot_id, root)
        }
        self._requests = threading.Thread(target=self._answer_requests, name="systemctl", daemon=True)
        self._requests.start()

    def pids(self) -> dict[str, int | None]:
        """The main process of each unit."""
        return {name: service.pid for name, service in self._services.items()}

    def shutdown(self) -> None:
        """End every unit and script of this host; returns when none is alive."""
        self._off.set()
        with self._lock:
            scripts = list(self._scripts)
        for pid in scripts:
            signal_group(pid, signal.SIGKILL)
        enders = [
            threading.Thread(target=service.stop, args=(STOP_PATIENCE_S,), name=f"stop {name}")
            for name, service in self._services.items()
        ]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        self._requests.join()

    def kill(self) -> None:
        """As a loss of power: SIGKILL for everything at once, and nobody waits for a last word."""
        self._off.set()
        for service in self._services.values():
            service.kill()
        self.shutdown()

    def run_script(self, script: str, env: Mapping[str, str], expired: Callable[[], bool]) -> Outcome:
        """Run a script as the SSM agent does: from a file, by `sh`, or by what its `#!` line names."""
        with tempfile.TemporaryDirectory(prefix="ssm-", dir=self.files.root / "run") as directory:
            path = Path(directory) / "_script.sh"
            path.write_text(script)
            path.chmod(0o700)
            argv = [str(path)] if script.startswith("#!") else ["sh", str(path)]
            out, err = Path(directory) / "stdout", Path(directory) / "stderr"
            with out.open("wb") as stdout, err.open("wb") as stderr:
                process = self._spawner.start(
                    argv,
                    env={**self._environment, **env},
                    cwd=Path(directory),
                    what=f"ssm on {self.machine.instance_id}",
                    stdout=stdout,
                    stderr=stderr,
                )
            with self._lock:
                self._scripts.add(process.pid)
            try:
                timed_out = self._wait(process, expired)
            finally:
                with self._lock:
                    self._scripts.discard(process.pid)
                self._spawner.forget(process)
            code = None if timed_out or self._off.is_set() else process.returncode
            return Outcome(code, _text(out), _text(err), timed_out)

    def _wait(self, process: subprocess.Popen[bytes], expired: Callable[[], bool]) -> bool:
        """Wait for a script; True when it was ended because its time was over."""
        while True:
            try:
                process.wait(0.05)
                return False
            except subprocess.TimeoutExpired:
                late = expired()
                if late or self._off.is_set():
                    signal_group(process.pid, signal.SIGKILL)
                    process.wait()
                    return late

    def _prepare(self, plan: Plan) -> None:
        files = self.files
        for directory in (files.key, files.hosts, files.control, files.requests / "x", files.programs / "x"):
            directory.parent.mkdir(parents=True, exist_ok=True)
        (files.root / "root").mkdir(exist_ok=True)
        for stale in files.requests.iterdir():
            stale.unlink()
        if not files.key.exists():
            files.key.touch(mode=0o600)
            files.key.write_text(secrets.token_urlsafe(32))
        if not files.hosts.exists():
            files.hosts.write_text("127.0.0.1 localhost\n")
        files.make_first_release(self.machine.role, plan.repository)
        shim = files.programs / "systemctl"
        shim.write_text(SYSTEMCTL)
        shim.chmod(0o755)

    def _answer_requests(self) -> None:
        while not self._off.wait(REQUESTS_EVERY_S):
            for ask in self.files.requests.glob("*.ask"):
                words = ask.read_text().split()
                ask.unlink()
                new = ask.with_suffix(".new")
                new.write_text(str(self._systemctl(words)))
                new.rename(ask.with_suffix(".done"))

    def _systemctl(self, words: list[str]) -> int:
        """Exit code of `systemctl WORDS` for the few verbs our scripts use."""
        verb = next((word for word in words if not word.startswith("-")), "")
        named = [word.removesuffix(".service") for word in words if word != verb and not word.startswith("-")]
        services = [self._services.get(name) for name in named]
        if verb == "poweroff":
            threading.Thread(target=self._power_off, args=(self.machine.instance_id,), daemon=True).start()
            return 0
        if verb in ("daemon-reload", "enable"):
            return 0  # its units are the supervisor's own, and always as they must be
        if not services or None in services:
            return 5
        for service in services:
            assert service is not None
            if verb == "restart":
                service.restart()
            elif verb == "reload":
                if service.reload() != 0:
                    return 1
            elif verb == "is-enabled":
                continue  # a unit that is there starts with its host
            elif verb != "is-active":
                return 1
            elif service.pid is None:
                return 3
        return 0


class Hosts:
    """All hosts of the cloud: EC2 switches them, SSM runs scripts on them, the gateway knows them by their keys."""

    def __init__(self, plan: Plan, directory: Path, spawner: Spawner, power_off: Callable[[str], None]) -> None:
        self._plan = plan
        self._directory = directory
        self._spawner = spawner
        self._power_off = power_off
        self._hosts: dict[str, Host] = {}
        self._lock = threading.Lock()
        # Instances live as long as the run: roots of an earlier one belong to nobody.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)

    def boot(self, machine: Machine) -> None:
        with self._lock:
            if machine.instance_id in self._hosts:
                raise RuntimeError(f"{machine.instance_id} is booted twice")
            root = self._directory / machine.instance_id
            self._hosts[machine.instance_id] = Host(machine, self._plan, root, self._spawner, self._power_off)

    def shutdown(self, instance_id: str) -> None:
        with self._lock:
            host = self._hosts.get(instance_id)
        if host is not None:
            host.shutdown()
            with self._lock:
                self._hosts.pop(instance_id, None)

    def kill(self, instance_id: str) -> None:
        with self._lock:
            host = self._hosts.get(instance_id)
        if host is not None:
            host.kill()
            with self._lock:
                self._hosts.pop(instance_id, None)

    def close(self) -> None:
        """Switch all hosts off at once."""
        with self._lock:
            running = list(self._hosts)
        enders = [threading.Thread(target=self.shutdown, args=(instance_id,)) for instance_id in running]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def host(self, instance_id: str) -> Host | None:
        """The running host of an instance."""
        with self._lock:
            return self._hosts.get(instance_id)

    def instance_of(self, key: str) -> str | None:
        """The instance a host key belongs to, None for a stranger's."""
        found = None
        for root in self._directory.iterdir():
            path = HostFiles(root).key
            if path.exists() and secrets.compare_digest(path.read_bytes(), key.encode()):
                found = root.name
        return found

    def run_script(
        self, instance_id: str, script: str, env: Mapping[str, str], expired: Callable[[], bool]
    ) -> Outcome:
        host = self.host(instance_id)
        return Outcome(None, "", "") if host is None else host.run_script(script, env, expired)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")
