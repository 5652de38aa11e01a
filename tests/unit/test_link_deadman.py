"""The dead man's switch of gpu_bootstrap/hostlink: what it decides, what it remembers, what it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpu_bootstrap import control
from gpu_bootstrap.hostlink import switch as switching
from gpu_bootstrap.hostlink.answers import stay_s
from gpu_bootstrap.hostlink.deadman import (
    FLUSH_S,
    INSIST_S,
    NOTICE_S,
    STAY_MARGIN_S,
    Act,
    Limits,
    Vitals,
    closing,
    deadman,
    remembered,
)
from gpu_bootstrap.hostlink.errors import LinkError, SettingsError
from gpu_bootstrap.hostlink.gpu import Gpu
from gpu_bootstrap.hostlink.loop import Link
from gpu_bootstrap.hostlink.settings import Settings
from gpu_bootstrap.hostlink.switch import Switch

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(silent_s=900, hard_max_s=43200)
BOOTED = Vitals("b", booted_at=100.0)


@pytest.mark.parametrize(
    ("vitals", "now", "act"),
    [
        # Before the first answer the time counts from boot.
        (BOOTED, 999, Act.HOLD),
        (BOOTED, 1000, Act.POWER_OFF),
        # From the last answer, and from the last stream.
        (replace(BOOTED, answered_at=5000), 5899, Act.HOLD),
        (replace(BOOTED, answered_at=5000), 5900, Act.POWER_OFF),
        (replace(BOOTED, answered_at=200, streamed_at=5000), 5899, Act.HOLD),
        (replace(BOOTED, answered_at=200, streamed_at=5000), 5900, Act.POWER_OFF),
        # Never under a stream, however long nobody answers, until the hard maximum.
        (replace(BOOTED, streaming=True), 43299, Act.HOLD),
        (replace(BOOTED, streaming=True, answered_at=43290), 43300, Act.ANNOUNCE),
        (replace(BOOTED, answered_at=43299), 43300, Act.POWER_OFF),
        # The control plane's own end comes before, with a margin in which it may act itself, and never after.
        (replace(BOOTED, answered_at=7000, stay_until=7000), 7000 + STAY_MARGIN_S - 1, Act.HOLD),
        (replace(BOOTED, answered_at=7000, stay_until=7000), 7000 + STAY_MARGIN_S, Act.POWER_OFF),
        (replace(BOOTED, answered_at=43299, stay_until=90000), 43300, Act.POWER_OFF),
        # Announced: streams have the notice and their last words, no more; and it is never taken back.
        (replace(BOOTED, streaming=True, announced_at=50000), 50000 + NOTICE_S + FLUSH_S - 1, Act.HOLD),
        (replace(BOOTED, streaming=True, announced_at=50000), 50000 + NOTICE_S + FLUSH_S, Act.POWER_OFF),
        (replace(BOOTED, answered_at=50009, announced_at=50000), 50010, Act.POWER_OFF),
        # Asked for once, then with force.
        (replace(BOOTED, off_at=60000), 60000 + INSIST_S - 1, Act.HOLD),
        (replace(BOOTED, off_at=60000), 60000 + INSIST_S, Act.INSIST),
    ],
)
def test_the_decision(vitals: Vitals, now: float, act: Act) -> None:
    decision = deadman(vitals, LIMITS, now)
    assert decision.action is act, decision.reason
    assert decision.reason


def test_the_time_to_stay_is_told_by_the_answer_alone() -> None:
    answer = {"now": "2026-01-31T22:00:00.000Z", "stay_until": "2026-02-01T08:00:00+00:00"}
    assert stay_s(answer) == 36000
    for bad in ({}, {**answer, "stay_until": None}, {**answer, "now": "noon"}, {**answer, "now": "2026-01-31T22:00"}):
        assert stay_s(bad) is None


def test_the_launcher_obeys_the_drain_it_is_left() -> None:
    """Whatever the calendars say, and though the launcher started after the last answer."""
    epoch = 1_800_000_000.0
    left = {"now": datetime.fromtimestamp(epoch - 4000, UTC).isoformat(), "received_at": epoch - 5000}
    for before, ahead in ((left, 1000.0), ({}, 0.0)):
        text = json.dumps(closing(before, "because", 60.0, epoch))
        read = control.parse(text, drain_since=epoch - 10)
        assert read.drain is not None
        assert read.drain.closing_at == pytest.approx(epoch + 60)
        assert read.ahead_s == pytest.approx(ahead)
        assert "because" in read.drain.reason


class Programs:
    """A systemctl of our own on PATH, and a clock that only a test moves."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = directory / "calls"
        self.now = 50_000.0
        directory.mkdir()
        script = directory / "systemctl"
        script.write_text(f'#!/bin/sh\necho "$*" >> {self.calls}\nexit "$(cat {directory}/code)"\n')
        (directory / "code").write_text("0")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        monkeypatch.setattr(switching, "monotonic", lambda: self.now)

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path / "bin", monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env(
        {
            "LINK_ROLE": "gpu",
            "LINK_API_URL": "http://127.0.0.1:1",
            "LINK_INSTANCE_ID": "i-1",
            "LINK_CONTROL_FILE": str(tmp_path / "run" / "control.json"),
            "LINK_DEADMAN_MINUTES": "10",
            "LINK_HARD_MAX_MINUTES": "60",
        }
    )


def switch(settings: Settings, boot: str = "b1") -> Switch:
    return Switch(settings, boot, kernel_boot=False)


def test_the_settings(settings: Settings) -> None:
    assert (settings.deadman_s, settings.hard_max_s) == (600, 3600)
    assert settings.control_file is not None
    assert settings.deadman_file == settings.control_file.with_name("deadman.json")
    base = {"LINK_ROLE": "gpu", "LINK_API_URL": "http://h", "LINK_INSTANCE_ID": "i", "LINK_CONTROL_FILE": "/c"}
    for wrong in ("0", "-1", "soon", "nan", "inf"):
        with pytest.raises(SettingsError, match="LINK_DEADMAN_MINUTES must be a number of minutes above 0"):
            Settings.from_env({**base, "LINK_DEADMAN_MINUTES": wrong})


def test_it_falls_once_and_insists(settings: Settings, programs: Programs) -> None:
    one = switch(settings)
    programs.now += 599
    one.look(False)
    assert programs.asked() == []
    programs.now += 1
    one.look(False)
    one.look(False)
    assert programs.asked() == ["poweroff"]
    programs.now += INSIST_S
    one.look(False)
    assert programs.asked() == ["poweroff", "poweroff --force"]


def test_a_new_process_of_the_same_boot_counts_on(settings: Settings, programs: Programs) -> None:
    switch(settings).look(False)
    programs.now += 300
    switch(settings).answered({"next_report_s": 5})
    programs.now += 599
    assert switch(settings).look(False).action is Act.HOLD
    programs.now += 1
    assert switch(settings).look(False).action is Act.POWER_OFF
    assert switch(settings).look(False).action is Act.HOLD, "the asking itself is remembered"
    assert switch(settings, "b2").look(False).action is Act.HOLD, "another boot begins anew"


def test_a_stream_holds_it_and_silence_of_the_launcher_changes_nothing(
    settings: Settings, programs: Programs
) -> None:
    one = switch(settings)
    one.look(True)
    programs.now += 2000
    assert one.look(None).action is Act.HOLD
    assert switch(settings).look(None).action is Act.HOLD
    programs.now += 1
    one.look(False)
    programs.now += 599
    assert one.look(False).action is Act.HOLD
    programs.now += 2
    assert one.look(False).action is Act.POWER_OFF


def test_at_the_hard_maximum_streams_hear_of_it_first(settings: Settings, programs: Programs) -> None:
    assert settings.control_file is not None
    one = switch(settings)
    one.look(True)
    programs.now += 3600
    assert one.look(True).action is Act.ANNOUNCE
    drain = json.loads(settings.control_file.read_text())["drain"]
    # An answer that came meanwhile knows nothing of it, and takes nothing back.
    Gpu(settings).obey({"next_report_s": 5, "drain": None, "ticket_keys": []}, time.time())
    one.answered({"next_report_s": 5})
    programs.now += 30
    assert one.look(True).action is Act.HOLD
    again = json.loads(settings.control_file.read_text())
    assert (
        again["drain"]["reason"]
        == drain["reason"]
        == ("this host powers off, the hard maximum: it is on for 60 minutes")
    )
    closes = control.parse(json.dumps(again), drain_since=0).drain
    assert closes is not None
    assert closes.closing_at - time.time() == pytest.approx(30, abs=5), "the closing is not put off"
    assert programs.asked() == []
    programs.now += 45
    assert one.look(True).action is Act.POWER_OFF
    assert programs.asked() == ["poweroff"]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"boot_id": "b1"}', '{"boot_id": "b1", "booted_at": "x"}', "\udcff"]
)
def test_a_memory_that_cannot_be_read_is_none(settings: Settings, programs: Programs, text: str) -> None:
    assert settings.deadman_file is not None
    settings.deadman_file.parent.mkdir()
    settings.deadman_file.write_bytes(text.encode(errors="surrogateescape"))
    one = switch(settings)
    assert one.look(False).action is Act.HOLD
    programs.now += 600
    assert one.look(False).action is Act.POWER_OFF


@pytest.mark.parametrize("change", [{"answered_at": 1e9}, {"booted_at": None}, {"streamed_at": -5.0}])
def test_a_memory_of_an_impossible_time_is_none(change: dict[str, Any]) -> None:
    good = asdict(replace(BOOTED, answered_at=200.0))
    assert remembered(good, "b", 300.0) == replace(BOOTED, answered_at=200.0)
    with pytest.raises((ValueError, TypeError, LookupError)):
        remembered({**good, **change}, "b", 300.0)


def test_it_works_with_no_place_to_write(settings: Settings, programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    one = switch(settings)
    programs.now += 600
    assert one.look(False).action is Act.POWER_OFF
    assert programs.asked() == ["poweroff"]


def test_a_host_that_would_not_is_an_error_and_asked_again(
    settings: Settings, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "code").write_text("1")
    one = switch(settings)
    programs.now += 600
    with pytest.raises(LinkError, match="power-off failed"):
        one.look(False)
    programs.now += INSIST_S
    with pytest.raises(LinkError, match="power-off failed"):
        one.look(False)
    assert programs.asked() == ["poweroff", "poweroff --force"]


class Deaf:
    """A role whose observation is a bug."""

    def observe(self) -> dict[str, Any]:
        raise ZeroDivisionError

    def obey(self, answer: dict[str, Any], received_at: float) -> None:
        raise AssertionError((answer, received_at))


def test_a_host_that_was_on_for_long_when_it_is_installed_is_not_powered_off_at_once(
    settings: Settings, programs: Programs
) -> None:
    """A machine that was adopted, or a cloud's slow first day: the boot is old, and the first report may fail."""
    programs.now = 1800.0
    first = Switch(settings, "b1", kernel_boot=True)
    assert first.look(False).action is Act.HOLD
    programs.now += settings.deadman_s - 1
    again = Switch(settings, "b1", kernel_boot=True)
    assert again.look(False).action is Act.HOLD, "a restart counts on"
    programs.now += 2
    assert Switch(settings, "b1", kernel_boot=True).look(False).action is Act.POWER_OFF, "and begins nothing anew"


def test_a_bug_of_the_link_does_not_hold_the_switch(settings: Settings, programs: Programs) -> None:
    loop = Link(settings, Deaf(), "b1", switch(settings))
    loop.once()
    programs.now += 600
    loop.once()
    assert programs.asked() == ["poweroff"]


def test_the_second_look_of_a_timer(settings: Settings, programs: Programs) -> None:
    """A program of its own, on the real clock: the loop that wrote last hangs since long ago."""
    assert settings.deadman_file is not None
    real = time.clock_gettime(time.CLOCK_MONOTONIC)
    env = os.environ | {
        "LINK_ROLE": "gpu",
        "LINK_API_URL": "http://127.0.0.1:1",
        "LINK_INSTANCE_ID": "i-1",
        "LINK_BOOT_ID": "b1",
        "LINK_CONTROL_FILE": str(settings.control_file),
        "LINK_HEALTH_URL": "http://127.0.0.1:1/health",
        "LINK_DEADMAN_MINUTES": "0.01",
    }
    program = [sys.executable, str(ROOT / "gpu_bootstrap/link.py")]

    def look(*arguments: str, **change: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments], env=env | change, capture_output=True, text=True, timeout=30, check=False
        )

    settings.deadman_file.parent.mkdir()
    for ago, asked in ((0.0, []), (1.0, ["poweroff"])):
        vitals = Vitals("b1", max(0.0, real - 2), answered_at=max(0.0, real - ago))
        settings.deadman_file.write_text(json.dumps(asdict(vitals)))
        done = look("--deadman", LINK_DEADMAN_MINUTES="0.01" if ago else "10")
        assert done.returncode == 0, done.stderr
        assert programs.asked() == asked
    assert look("--deadmen").returncode == 2
    edge = look("--deadman", LINK_ROLE="edge", LINK_UPSTREAM_SCRIPT="/x")
    assert (edge.returncode, edge.stderr) == (2, "--deadman is for a GPU host\n")
