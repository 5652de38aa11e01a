"""How the host ends its streams: drained, restarted, rolled over. No word is lost, and each is told."""

from __future__ import annotations

import itertools
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpu_bootstrap.frames import RATE
from tests.bootstrap.launcher import Launcher, heard_whole, reference, running, speech, words
from tests.waiting import wait_until

DRAIN_GRACE_S = 2.0


def rfc3339(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("ahead_s", [0.0, 86_400.0], ids=["clocks agree", "control plane a day ahead"])
def test_a_drain_announces_waits_flushes_and_refuses(launcher: Launcher, ahead_s: float) -> None:
    with launcher.connect() as client:
        client.until("SERVER_READY")
        client.send(speech("short"))
        now = time.time()
        closing_at = rfc3339(now + ahead_s + DRAIN_GRACE_S)
        drain = {"closing_at": closing_at, "reason": "stopping for the night"}
        launcher.control(now=rfc3339(now + ahead_s), received_at=now, drain=drain)
        notice = client.until("NOTICE")
        assert (notice["closing_at"], notice["reason"]) == (closing_at, "stopping for the night")
        wait_until(lambda: (launcher.health() or {})["status"] == "draining", 5, "the health to say so")
        with launcher.connect("late") as late:
            assert late.until_closed() == (1012, "stopping for the night")
        assert client.until_closed() == (1012, "stopping for the night")
        assert time.time() >= now + DRAIN_GRACE_S, "live streams have until closing_at"
    assert words(client.text) == reference("short")
    assert client.statuses().count("NOTICE") == 1
    launcher.control()
    wait_until(lambda: (launcher.health() or {})["status"] == "ready", 5, "the host to take streams again")
    with launcher.connect() as client:
        client.until("SERVER_READY")


def test_a_drain_of_the_previous_run_is_history(launcher: Launcher) -> None:
    """The file outlives the boot that stopped the host; obeyed again it would keep the host closed for ever."""
    launcher.control(
        received_at=time.time() - 3600, drain={"closing_at": rfc3339(time.time() - 3600), "reason": "old"}
    )
    with launcher.connect() as client:
        client.until("SERVER_READY")


def test_sigterm_flushes_says_so_and_ends_with_0(tmp_path: Path) -> None:
    with running(tmp_path) as launcher, launcher.connect() as client:
        client.until("SERVER_READY")
        client.send(speech("train"))
        wait_until(lambda: client.next().get("status") == "PROGRESS", 20, "the audio to have arrived")
        launcher.process.send_signal(signal.SIGTERM)
        notice = client.until("NOTICE")
        assert "restarts" in notice["reason"]
        code, reason = client.until_closed()
        assert code == 1012
        assert "restarts" in reason
        assert launcher.process.wait(timeout=10) == 0
        assert launcher.logged("launcher.stopped")[0]["flushed"] is True
    assert heard_whole(client.text, "train"), client.text


def test_sigterm_without_streams_is_prompt(tmp_path: Path) -> None:
    with running(tmp_path) as launcher:
        began = time.monotonic()
        assert launcher.stop() == 0
        assert time.monotonic() - began < 1


def test_a_connection_at_its_limit_rolls_over(tmp_path: Path) -> None:
    with running(tmp_path, {"WHISPER_MAX_CONNECTION_S": "2"}) as launcher, launcher.connect() as client:
        client.until("SERVER_READY")
        client.send(speech("short"))
        code, reason = client.until_closed()
    assert code == 4409
    assert "open a new one" in reason
    assert words(client.text) == reference("short")


def test_a_sentence_cut_by_a_roll_over_is_left_to_a_client_that_comes_back_with_it(tmp_path: Path) -> None:
    """Half a sentence that is final cannot be mended any more: its last word is cut, and so is the next one."""
    said, cut_s = speech("train"), 6.0  # in the middle of the second of three sentences
    with running(tmp_path, {"WHISPER_MAX_CONNECTION_S": "4"}) as launcher:
        with launcher.connect("first", resumes=True) as client:
            client.until("SERVER_READY")
            client.send(said[: round(cut_s * RATE)])
            assert client.until_closed(90)[0] == 4409
        with launcher.connect("second", resumes=True) as again:
            again.until("SERVER_READY")
            progress = [message for message in client.messages if message.get("status") == "PROGRESS"]
            done = progress[-1]["processed_until"]
            again.send(said[round(done * RATE) :])
            again.end()
            assert again.until_closed(90)[0] == 1000
    shown = [message["segments"] for message in client.messages if message.get("segments")][-1]
    assert words(shown[-1]["text"])[:3] == ["my", "brother", "walked"]
    assert not shown[-1]["completed"]
    assert words(client.text)[-1] == "morning"
    assert words(again.text)[:1] == ["my"]
    assert heard_whole(client.text + again.text, "train"), (client.text, again.text)


def test_a_connection_is_told_of_its_limit_in_time_to_open_another(tmp_path: Path) -> None:
    with running(tmp_path, {"WHISPER_MAX_CONNECTION_S": "8"}) as launcher, launcher.connect("s") as client:
        client.until("SERVER_READY")
        began = time.time()
        notice = client.until("NOTICE")
        closing_at = datetime.fromisoformat(notice["closing_at"]).timestamp()
        assert closing_at - began == pytest.approx(8, abs=1.5)
        assert time.time() < closing_at - 2
        assert notice["reason"] == "this connection reaches its time limit"
        assert client.until_closed()[0] == 4409
    assert client.statuses().count("NOTICE") == 1


def test_a_stream_says_something_every_two_seconds(launcher: Launcher) -> None:
    """With nothing to say and nothing to hear: what a client tells a dead network by."""
    with launcher.connect() as client:
        client.until("SERVER_READY")
        for _ in range(3):
            progress = client.until("PROGRESS", timeout=10)
            assert progress["processed_until"] == progress["received_until"] == 0.0
    heard = [at for at, said in zip(client.arrived, client.messages, strict=True) if said.get("status") == "PROGRESS"]
    assert max(after - before for before, after in itertools.pairwise(heard)) < 4
