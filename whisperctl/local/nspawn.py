"""Hosts with systemd: one systemd-nspawn each, over a root tree, on a bridge; up exactly while EC2 says so.

A host is blank: what a cloud image has, and nothing of ours. It keeps its disk (an overlay's upper layer) from boot
to boot. The overlay is mounted in a mount namespace of its own, so that nothing stays mounted whatever ends us.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from whisperctl.local.bridge import Bridge
from whisperctl.local.ec2 import Machine
from whisperctl.local.processes import Spawner, signal_group, start_time
from whisperctl.local.ssm import Outcome

log = logging.getLogger(__name__)

STOP_PATIENCE_S = 60.0
"""As EC2: a host that does not shut down is cut off."""
WATCH_EVERY_S = 0.1
POWER_OFF = signal.SIGRTMIN + 4
"""systemd(1), SIGNALS: starts poweroff.target."""
KEY = "etc/whisperlive-edge/host.key"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

REBOOTED = 133
"""How nspawn ends (with --keep-unit) when the host reboots: whoever started it shall start it again."""
CGROUPS = Path("/sys/fs/cgroup")
LEGACY = CGROUPS / "systemd"
HYBRID = CGROUPS / "unified"
CGROUP = re.compile(r"whisperlive-edge-(\d+)-(\d+)-.+")

# A process namespace around nspawn: when its first process dies, the kernel ends all of it, the host included.
OWN_NAMESPACES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")

START = """\
set -eu
for group in $1; do
    mkdir -p "$group"
    echo 0 >"$group/cgroup.procs"
done
shift
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
shift 4
exec systemd-nspawn "$@"
"""


class SystemdHost:
    """One boot of one host, from the moment it is made until its nspawn has ended."""

    def __init__(
        self,
        machine: Machine,
        tree: Path,
        directory: Path,
        bridge: Bridge,
        spawner: Spawner,
        ended: Callable[[SystemdHost], None],
    ) -> None:
        self.machine = machine
        self.directory = directory
        self._bridge = bridge
        self._spawner = spawner
        self._ended = ended
        self._gone = threading.Event()
        self._reachable = threading.Event()
        self._scripts: set[int] = set()
        self._lock = threading.Lock()
        disk = directory / "disk"
        if not disk.exists():
            install_blank(disk, machine)
        for part in ("work", "merged"):
            (directory / part).mkdir(exist_ok=True)
        self._tree = tree
        self._cgroups = cgroups_of(machine.instance_id)
        self._process = self._start()
        self._watcher = threading.Thread(target=self._watch, name=f"host {machine.instance_id}", daemon=True)
        self._watcher.start()

    def _start(self) -> subprocess.Popen[bytes]:
        there = self.directory
        mount = (self._tree, there / "disk", there / "work", there / "merged")
        options = (
            "--quiet", "--boot", "--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off",
            "--timezone=off", "--console=pipe", f"--directory={there / 'merged'}",
            f"--machine={self.machine.instance_id}", f"--network-bridge={self._bridge.name}",
        )  # fmt: skip
        start = ("sh", "-c", START, "host", " ".join(map(str, self._cgroups)), *map(str, mount), *options)
        with (there / "console.log").open("ab") as console:
            return self._spawner.start(
                [*OWN_NAMESPACES, *start],
                env={**ENVIRONMENT, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0" if LEGACY.is_dir() else "1"},
                cwd=there,
                what=f"host {self.machine.instance_id}",
                stdout=console,
            )

    @property
    def leader(self) -> int | None:
        """The host's process 1, by its id here; it changes with a reboot."""
        for nspawn in _children(self._process.pid):
            for child in _children(nspawn):
                if _name(child) == "systemd":
                    return child
        return None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the host's end; False when it is still there."""
        return self._gone.wait(timeout_s)

    def shutdown(self, patience_s: float = STOP_PATIENCE_S) -> None:
        """Power off as a person would, cut the power after `patience_s`; returns when it is off."""
        deadline = time.monotonic() + patience_s
        asked = None
        while not self._gone.is_set() and time.monotonic() < deadline:
            leader = self.leader
            if leader is not None and leader != asked and self._boots(leader):
                os.kill(leader, POWER_OFF)
                asked = leader
            self._gone.wait(WATCH_EVERY_S)
        if not self._gone.is_set():
            log.warning("%s does not power off in %g s and is cut off", self.machine.instance_id, patience_s)
            signal_group(self._process.pid, signal.SIGKILL)
        self._watcher.join()

    def run_script(self, script: str, env: Mapping[str, str], expired: Callable[[], bool]) -> Outcome:
        """Run a script as root inside, as the SSM agent does: from a file, once the host has come that far."""
        while not self._reachable.wait(WATCH_EVERY_S):
            if self._gone.is_set():
                return Outcome(None, "", "")
            if expired():
                return Outcome(None, "", "", timed_out=True)
        leader = self.leader
        if leader is None:
            return Outcome(None, "", "")
        inside = Path("var/lib/amazon/ssm") / str(uuid.uuid4())
        here = Path(f"/proc/{leader}/root") / inside
        out, err = self.directory / f"{inside.name}.out", self.directory / f"{inside.name}.err"
        try:
            here.mkdir(parents=True)
            (here / "_script.sh").write_text(script)
            (here / "_script.sh").chmod(0o700)
            path = f"/{inside}/_script.sh"
            argv = [path] if script.startswith("#!") else ["sh", path]
            with out.open("wb") as stdout, err.open("wb") as stderr:
                process = self._spawner.start(
                    [*entering(leader), f"--wd=/proc/{leader}/root/{inside}", *argv],
                    env={**ENVIRONMENT, **env},
                    cwd=self.directory,
                    what=f"ssm on {self.machine.instance_id}",
                    stdout=stdout,
                    stderr=stderr,
                )
            timed_out = self._wait(process, expired)
            code = None if timed_out or self._gone.is_set() else process.returncode
            # A script that the host's own end killed has not failed: nobody heard of it any more.
            if code and not self._boots(leader) and self.wait(STOP_PATIENCE_S):
                code = None
            return Outcome(code, _text(out), _text(err), timed_out)
        except OSError:
            log.warning("a script could not be run on %s", self.machine.instance_id, exc_info=True)
            return Outcome(None, "", "")
        finally:
            shutil.rmtree(here, ignore_errors=True)
            out.unlink(missing_ok=True)
            err.unlink(missing_ok=True)

    def _wait(self, process: subprocess.Popen[bytes], expired: Callable[[], bool]) -> bool:
        """Wait for a script; True when it was ended because its time was over."""
        late = False
        while True:
            try:
                process.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                late = expired()
                if late or self._gone.is_set():
                    signal_group(process.pid, signal.SIGKILL)
                    process.wait()
                    break
                # nsenter stops itself when its child is stopped, which a shutdown does, and would reap it no more.
                process.send_signal(signal.SIGCONT)
        self._spawner.forget(process)
        return late

    def _watch(self) -> None:
        """Give each boot its address, and say when the host has ended."""
        while self._until_it_ends() == REBOOTED:
            self._spawner.forget(self._process)
            self._process = self._start()
        self._gone.set()
        self._spawner.forget(self._process)
        for group in self._cgroups:
            remove_cgroup(group)
        self._ended(self)

    def _until_it_ends(self) -> int:
        known = None
        while self._process.poll() is None:
            leader = self.leader
            if leader is not None and leader != known and self._connect(leader):
                known = leader
                (self.directory / "leader").write_text(str(leader))
            if known is not None and leader == known and not self._reachable.is_set() and self._boots(leader):
                self._reachable.set()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(WATCH_EVERY_S)
        self._reachable.clear()
        (self.directory / "leader").unlink(missing_ok=True)
        return int(self._process.returncode)

    def _connect(self, leader: int) -> bool:
        """Set host0's address; False while the interface is not there yet."""
        address = f"{self.machine.private_ip}/{self._bridge.network.prefixlen}"
        inside = ["nsenter", "-t", str(leader), "-n", "--", "ip"]
        for words in (("address", "replace", address, "dev", "host0"), ("link", "set", "host0", "up")):
            if subprocess.run([*inside, *words], capture_output=True, check=False).returncode != 0:
                return False
        return True

    def _boots(self, leader: int) -> bool:
        """Whether systemd has come to where services start: an agent would be started now."""
        asked = [*entering(leader), "--", "systemctl", "is-active", "--quiet", "basic.target"]
        return subprocess.run(asked, capture_output=True, check=False, env=ENVIRONMENT).returncode == 0


class SystemdHosts:
    """All hosts of the cloud: EC2 switches them, SSM runs scripts on them, the gateway knows them by their keys."""

    def __init__(
        self, tree: Path, directory: Path, bridge: Bridge, spawner: Spawner, power_off: Callable[[str], None]
    ) -> None:
        self._tree = tree
        self._directory = directory
        self._bridge = bridge
        self._spawner = spawner
        self._power_off = power_off
        self._hosts: dict[str, SystemdHost] = {}
        self._cut: set[SystemdHost] = set()
        self._lock = threading.Lock()
        # Instances live as long as the run: disks of an earlier one belong to nobody.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)

    def boot(self, machine: Machine) -> None:
        with self._lock:
            if machine.instance_id in self._hosts:
                raise RuntimeError(f"{machine.instance_id} is booted twice")
            directory = self._directory / machine.instance_id
            directory.mkdir(exist_ok=True)
            self._hosts[machine.instance_id] = SystemdHost(
                machine, self._tree, directory, self._bridge, self._spawner, self._off
            )

    def shutdown(self, instance_id: str) -> None:
        host = self.host(instance_id)
        if host is not None:
            host.shutdown()

    def kill(self, instance_id: str) -> None:
        """Cut the power of one host; EC2 hears nothing of it from here."""
        with self._lock:
            host = self._hosts.pop(instance_id, None)
            if host is not None:
                self._cut.add(host)
        if host is not None:
            host.shutdown(patience_s=0)

    def close(self) -> None:
        """Cut the power of all hosts at once: the run is over, and their disks with it."""
        with self._lock:
            running = list(self._hosts.values())
        _each(running, lambda host: host.shutdown(patience_s=0))

    def host(self, instance_id: str) -> SystemdHost | None:
        """The running host of an instance."""
        with self._lock:
            return self._hosts.get(instance_id)

    def instance_of(self, key: str) -> str | None:
        """The instance a host key belongs to, None for a stranger's."""
        found = None
        for directory in self._directory.iterdir():
            path = directory / "disk" / KEY
            if path.exists() and secrets.compare_digest(path.read_bytes().strip(), key.encode()):
                found = directory.name
        return found

    def run_script(
        self, instance_id: str, script: str, env: Mapping[str, str], expired: Callable[[], bool]
    ) -> Outcome:
        host = self.host(instance_id)
        return Outcome(None, "", "") if host is None else host.run_script(script, env, expired)

    def _off(self, host: SystemdHost) -> None:
        instance_id = host.machine.instance_id
        with self._lock:
            if self._hosts.get(instance_id) is host:
                del self._hosts[instance_id]
            if host in self._cut:
                self._cut.discard(host)
                return
        # Where EC2 asked for it, it is stopping already and this changes nothing.
        threading.Thread(target=self._power_off, args=(instance_id,), name="power off", daemon=True).start()


def install_blank(disk: Path, machine: Machine) -> None:
    """What an instance has of its own at its first boot: names, and the key that stands for its role on AWS."""
    # Directories of the upper layer decide over those below: modes do not come from our umask.
    for directory in ("", "etc", "etc/whisperlive-edge", "root"):
        (disk / directory).mkdir()
        (disk / directory).chmod(0o700 if directory == "root" else 0o755)
    for path, text in {
        "etc/machine-id": uuid.uuid4().hex,
        "etc/hostname": machine.instance_id,
        "etc/hosts": f"127.0.0.1 localhost\n{machine.private_ip} {machine.instance_id}",
        "etc/resolv.conf": "# no name server: hosts reach this machine only",
        "etc/fstab": "",
    }.items():
        (disk / path).write_text(f"{text}\n")
        (disk / path).chmod(0o644)
    key = disk / KEY
    key.touch(mode=0o600)
    key.write_text(secrets.token_urlsafe(32))


def hierarchies() -> list[Path]:
    """The control group hierarchies that systemd tells its units by."""
    return [base for base in (LEGACY, HYBRID) if base.is_dir()] or [CGROUPS]


def cgroups_of(instance_id: str) -> list[Path]:
    """Control groups of the host's own: two systemds in one would take each other's units for theirs."""
    name = f"whisperlive-edge-{os.getpid()}-{start_time(os.getpid())}-{instance_id}"
    return [base / name for base in hierarchies()]


def remove_cgroup(cgroup: Path, patience_s: float = 2.0) -> None:
    """Remove a group and those below it, once the kernel has ended its processes; else the next run does it."""
    deadline = time.monotonic() + patience_s
    while cgroup.exists():
        try:
            below = [path for path in cgroup.rglob("*") if path.is_dir()]
            for path in [*sorted(below, key=lambda path: -len(path.parts)), cgroup]:
                path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)


def remove_leftovers() -> None:
    """Remove the control groups of runs that are no more."""
    for base in hierarchies():
        for cgroup in base.glob("whisperlive-edge-*"):
            owner = CGROUP.fullmatch(cgroup.name)
            if owner is not None and start_time(int(owner[1])) != int(owner[2]):
                remove_cgroup(cgroup)


def entering(leader: int) -> list[str]:
    """The command that enters a host; its own command follows."""
    return ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p"]


def _each(hosts: Iterable[SystemdHost], action: Callable[[SystemdHost], None]) -> None:
    threads = [threading.Thread(target=action, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _children(pid: int) -> list[int]:
    """Children of a process's first thread, by their ids here."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")
