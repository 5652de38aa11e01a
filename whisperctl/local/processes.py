"""Processes of the embedded cloud: started so that they die with it, written down so that the next run can end them.

Three layers, since no single one holds under `kill -9` of the parent: every process leads a group of its own
(ended by group on a normal stop), asks the kernel for SIGKILL when the parent dies (PR_SET_PDEATHSIG), and stands
in `processes.json` with its start time, by which the next run ends exactly those that are still the same process.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

RESTART_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 5.0)
SETTLED_AFTER_S = 10.0


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot (/proc/PID/stat, field 22); None if gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


class ProcessBook:
    """`processes.json`: `[{pid, start_time, what}]`, always as it is now; safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[int, dict[str, int | str]] = {}

    def add(self, pid: int, what: str) -> None:
        began = start_time(pid)
        if began is None:
            return
        with self._lock:
            self._entries[pid] = {"pid": pid, "start_time": began, "what": what}
            self._write()

    def remove(self, pid: int) -> None:
        with self._lock:
            if self._entries.pop(pid, None) is not None:
                self._write()

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(list(self._entries.values()), indent=1))
        new.replace(self._path)


def end_leftovers(path: Path, patience_s: float = 3.0) -> list[int]:
    """End the processes a killed run left behind, by id and start time; returns the ids ended."""
    try:
        entries = json.loads(path.read_text())
        listed = [(int(entry["pid"]), int(entry["start_time"])) for entry in entries]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        log.warning("%s is unreadable; processes of an earlier run, if any, are left alone", path)
        return []
    alive = [(pid, began) for pid, began in listed if start_time(pid) == began]
    for stop_with in (signal.SIGTERM, signal.SIGKILL):
        for pid, began in alive:
            if start_time(pid) == began:
                signal_group(pid, stop_with)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and any(start_time(pid) == began for pid, began in alive):
            time.sleep(0.02)
    path.unlink(missing_ok=True)
    return [pid for pid, _began in alive]


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the group `pid` leads, or `pid` alone where it leads none."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return


RELOAD_PATIENCE_S = 20.0


class Spawner:
    """Starts processes from one thread that lives as long as the cloud does.

    The kernel sends PR_SET_PDEATHSIG when the *thread* that forked ends, so a short-lived thread must not fork.
    """

    def __init__(self, book: ProcessBook) -> None:
        self._book = book
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
        setpriv = shutil.which("setpriv")
        self._prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        what: str,
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int = subprocess.STDOUT,
    ) -> subprocess.Popen[bytes]:
        """Start a process as the leader of its own group and note it in the book."""

        def fork() -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [*self._prefix, *argv],
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            # Here, where no signal to the main thread can come between the fork and its entry.
            self._book.add(process.pid, what)
            return process

        return self._thread.submit(fork).result()

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """The process has ended and been waited for."""
        self._book.remove(process.pid)

    def close(self) -> None:
        """After the last process: the kernel kills what is left when this thread ends."""
        self._thread.shutdown(wait=True)


@dataclass(frozen=True, slots=True)
class Unit:
    """A service as a systemd unit would describe it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    current: Path | None = None
    """The symlink to the release it runs from: the name of what it points at at the start is told to it."""
    reload: tuple[str, ...] = ()
    """What `systemctl reload` runs."""
    settings: Path | None = None
    """An EnvironmentFile=- of its own, read at each start and reload."""


class Service:
    """A unit kept running (Restart=always with a growing, bounded delay) until `stop()`."""

    def __init__(self, spawner: Spawner, unit: Unit) -> None:
        self.unit = unit
        self._spawner = spawner
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name=f"unit {unit.name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The main process, None between two starts."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def restart(self) -> None:
        """As `systemctl restart`: SIGTERM, and the loop starts it again."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                signal_group(self._process.pid, signal.SIGTERM)

    def reload(self) -> int:
        """As `systemctl reload`: run what the unit names for it; its exit code."""
        unit = self.unit
        if not unit.reload:
            return 1
        with unit.log.open("ab") as out:
            process = self._spawner.start(
                unit.reload, env=_told(unit), cwd=unit.cwd, what=f"reload {unit.name}", stdout=out
            )
        try:
            return process.wait(RELOAD_PATIENCE_S)
        except subprocess.TimeoutExpired:
            signal_group(process.pid, signal.SIGKILL)
            return process.wait()
        finally:
            self._spawner.forget(process)

    def kill(self) -> None:
        """SIGKILL to the group, and no restart; `stop` then waits for its end."""
        with self._lock:
            self._stopping.set()
            if self._process is not None and self._process.poll() is None:
                signal_group(self._process.pid, signal.SIGKILL)

    def stop(self, patience_s: float) -> None:
        """SIGTERM to the group, SIGKILL after `patience_s`; returns when the process is gone."""
        with self._lock:
            self._stopping.set()
            process = self._process
            if process is not None and process.poll() is None:
                signal_group(process.pid, signal.SIGTERM)
        self._thread.join(patience_s)
        if self._thread.is_alive() and process is not None:
            log.warning("%s did not end %g s after SIGTERM and is killed", self.unit.name, patience_s)
            signal_group(process.pid, signal.SIGKILL)
            self._thread.join()

    def _keep_running(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._process = self._start()
            code = process.wait()
            # Children it left in its group would hold its port and its log.
            signal_group_of_dead(process.pid)
            self._spawner.forget(process)
            if self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began > SETTLED_AFTER_S else failures + 1
            delay = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S)) - 1] if failures else RESTART_DELAYS_S[0]
            log.warning("%s ended with %d and is started again in %g s", self.unit.name, code, delay)
            if self._stopping.wait(delay):
                return

    def _start(self) -> subprocess.Popen[bytes]:
        unit = self.unit
        unit.log.parent.mkdir(parents=True, exist_ok=True)
        with unit.log.open("ab") as out:
            return self._spawner.start(unit.argv, env=_told(unit), cwd=unit.cwd, what=unit.name, stdout=out)


def _told(unit: Unit) -> dict[str, str]:
    """The unit's environment, with the name of the release it runs from."""
    release = unit.current.readlink().name if unit.current is not None else ""
    told = {**unit.env} | ({"WHISPER_RELEASE": release, "LINK_RELEASE": release} if release else {})
    if unit.settings is not None and unit.settings.exists():
        lines = (line.partition("=") for line in unit.settings.read_text().splitlines() if not line.startswith("#"))
        told |= {name: value.strip('"') for name, _, value in lines if name}
    return told


def signal_group_of_dead(pid: int) -> None:
    """Kill what a process that has ended left in its group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
