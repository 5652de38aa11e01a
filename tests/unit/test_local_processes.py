"""Process bookkeeping with real processes: restarts, stops by group, and the cleaning up after a kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until
from whisperctl.local.processes import ProcessBook, Service, Spawner, Unit, end_leftovers, start_time

ENV = {"PATH": "/usr/bin:/bin"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[Spawner]:
    made = Spawner(ProcessBook(tmp_path / "processes.json"))
    yield made
    made.close()


def unit(tmp_path: Path, script: str) -> Unit:
    return Unit("dummy", ("sh", "-c", script), ENV, tmp_path, tmp_path / "log" / "dummy.log")


def alive(pid: int) -> bool:
    return start_time(pid) is not None


def book(tmp_path: Path) -> list[int]:
    path = tmp_path / "processes.json"
    return [entry["pid"] for entry in json.loads(path.read_text())] if path.exists() else []


def test_a_started_process_stands_in_the_book_until_it_has_ended(spawner: Spawner, tmp_path: Path) -> None:
    service = Service(spawner, unit(tmp_path, "exec sleep 100"))
    pid = wait_until(lambda: service.pid, 5, "the process")
    wait_until(lambda: book(tmp_path) == [pid], 5, "its entry")
    (entry,) = json.loads((tmp_path / "processes.json").read_text())
    assert entry["start_time"] == start_time(pid)
    service.stop(5)
    assert not alive(pid)
    assert book(tmp_path) == []


def test_a_crashed_service_is_started_again_until_it_is_stopped(spawner: Spawner, tmp_path: Path) -> None:
    service = Service(spawner, unit(tmp_path, "echo up; exec sleep 100"))
    first = wait_until(lambda: service.pid, 5, "the first")
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: service.pid if service.pid != first else None, 5, "the second")
    log = tmp_path / "log" / "dummy.log"
    wait_until(lambda: log.read_text() == "up\nup\n", 5, "both in one log")
    service.stop(5)
    assert not alive(second)
    assert service.pid is None


def test_stopping_one_that_is_between_two_starts_does_not_wait(spawner: Spawner, tmp_path: Path) -> None:
    service = Service(spawner, unit(tmp_path, "exit 1"))
    log_of_starts = tmp_path / "log" / "dummy.log"
    wait_until(log_of_starts.exists, 5, "the first start")
    began = time.monotonic()
    service.stop(5)
    assert time.monotonic() - began < 2


def test_one_that_ignores_sigterm_is_killed_with_its_children(spawner: Spawner, tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 100 & echo $! > child; wait; sleep 100"
    service = Service(spawner, unit(tmp_path, script))
    child_file = tmp_path / "child"
    wait_until(lambda: child_file.exists() and child_file.read_text().strip(), 5, "the child")
    child, parent = int(child_file.read_text()), service.pid
    assert parent is not None
    # The child inherits the ignored SIGTERM; only the kill of the whole group ends both.
    service.stop(0.3)
    assert not alive(parent)
    wait_until(lambda: not alive(child), 5, "the child to end")


def test_leftovers_are_ended_only_if_they_are_still_the_same_process(tmp_path: Path) -> None:
    ours = subprocess.Popen(["sleep", "100"], start_new_session=True)
    reused = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        path = tmp_path / "processes.json"
        entries = [
            {"pid": ours.pid, "start_time": start_time(ours.pid), "what": "ours"},
            {"pid": reused.pid, "start_time": 1, "what": "a pid that was given to somebody else"},
            {"pid": 2**22 - 1, "start_time": 5, "what": "gone"},
        ]
        path.write_text(json.dumps(entries))
        assert end_leftovers(path) == [ours.pid]
        assert ours.wait(5) == -signal.SIGTERM
        assert reused.poll() is None
        assert not path.exists()
    finally:
        for process in (ours, reused):
            process.kill()
            process.wait()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"pid": "x", "start_time": 1}]'])
def test_an_unreadable_book_harms_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "processes.json"
    path.write_text(text)
    assert end_leftovers(path) == []


PARENT = """
import sys, time
from pathlib import Path
from whisperctl.local.processes import ProcessBook, Service, Spawner, Unit
where = Path(sys.argv[1])
spawner = Spawner(ProcessBook(where / "processes.json"))
def unit(name, script):
    return Unit(name, ("sh", "-c", script), {"PATH": "/usr/bin:/bin"}, where, where / (name + ".log"))
services = [
    Service(spawner, unit("plain", "exec sleep 100")),
    Service(spawner, unit("deaf", "trap '' TERM; sleep 100")),
]
time.sleep(100)
"""


def test_after_a_kill_of_the_parent_nothing_is_left_once_the_next_run_has_begun(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT)
    try:
        wait_until(lambda: len(book(tmp_path)) == 2, 10, "both services in the book")
        pids = book(tmp_path)
    finally:
        parent.kill()
        parent.wait()
    # The kernel ends them with their parent; the book is for what it missed.
    wait_until(lambda: not any(alive(pid) for pid in pids), 5, "the services to end")
    assert end_leftovers(tmp_path / "processes.json") == []


def test_the_start_time_of_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    wait_until(lambda: start_time(process.pid) is None, 5, "a zombie to count as gone")
    process.wait()
    assert start_time(process.pid) is None
