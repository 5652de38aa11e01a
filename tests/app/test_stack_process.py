"""`whisperctl local` as a program: what it needs, what it leaves behind, how fast it comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

from tests.stack import free_port, start_stack, whisperctl
from tests.waiting import wait_until


def alive(state_dir: Path) -> list[int]:
    """Process ids that work under this state directory, the stack itself and its hosts."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            seen = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:  # it ended while we looked
            continue
        if str(state_dir).encode() in seen:
            found.append(int(entry.name))
    return found


def test_an_interrupt_ends_every_process_it_started(tmp_path: Path) -> None:
    with start_stack(tmp_path) as stack:
        stack.call("POST", "/v1/gpu/start").raise_for_status()
        stack.wait_phase("ready")
        assert len(alive(tmp_path)) >= 4
    wait_until(lambda: not alive(tmp_path), 10, "every process to end")


def test_a_killed_stack_is_cleaned_up_by_the_next_which_starts_within_ten_seconds(tmp_path: Path) -> None:
    with start_stack(tmp_path) as first:
        first.call("POST", "/v1/gpu/start").raise_for_status()
        first.wait_phase("ready")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    began = time.monotonic()
    with start_stack(tmp_path) as second:
        assert time.monotonic() - began < 10
        assert second.phase() == "asleep"
        ours = json.loads((tmp_path / "processes.json").read_text())
        assert ours
        strangers = set(alive(tmp_path)) - {second.process.pid} - _descendants(second.process.pid)
        assert not strangers
    wait_until(lambda: not alive(tmp_path), 10, "every process to end")


def _descendants(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:  # it ended while we looked
                continue
            if parent == pid:
                found |= {int(entry.name)} | _descendants(int(entry.name))
    return found


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = whisperctl("local", "--state-dir", str(tmp_path), "--port", str(port))
    assert run.returncode == 1
    assert str(port) in run.stderr
    assert "--port" in run.stderr
    assert "Traceback" not in run.stderr
    assert not alive(tmp_path)


def test_a_second_stack_in_the_same_place_is_refused(tmp_path: Path) -> None:
    with start_stack(tmp_path) as running:
        run = whisperctl("local", "--state-dir", str(tmp_path), "--port", str(free_port()))
        assert run.returncode == 1
        assert str(running.process.pid) in run.stderr
        assert "Traceback" not in run.stderr
        assert running.phase() == "asleep"


def test_the_check_wakes_streams_and_stops(tmp_path: Path) -> None:
    began = time.monotonic()
    run = whisperctl(
        "local", "--check", "--json", "--state-dir", str(tmp_path), "--port", str(free_port()), "--boot-seconds", "2"
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert time.monotonic() - began < 60
    result = json.loads(run.stdout)
    assert result["wer"] <= 0.15, result
    assert "bridge" in result["transcript"].lower()
    assert result["seconds"]
    assert not alive(tmp_path)
