"""The whole chain on real parts: a call wakes the GPU, speech goes in, words come out, the GPU sleeps again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.stack import Stack, whisperctl
from tests.waiting import wait_until
from tests.wss import (
    CHECK,
    TRAIN,
    Heard,
    dial,
    frames_of,
    handshake,
    listen,
    pcm,
    said,
    speak,
    word_error_rate,
)

IDLE_MINUTES = 10


WAKING = ("waking.capacity", "waking.boot", "waking.service")


def open_session(stack: Stack, **wish: Any) -> dict[str, Any]:
    response = stack.call("POST", "/v1/sessions", role="speaker", body=wish, via_edge=True)
    assert response.status_code == 201, response.text
    return dict(response.json())


def ready_session(stack: Stack, **wish: Any) -> dict[str, Any]:
    """A session with a ticket; wakes the GPU if it must."""
    session = open_session(stack, **wish)

    def with_ticket() -> dict[str, Any] | None:
        now = stack.call("GET", f"/v1/sessions/{session['id']}", role="speaker", via_edge=True).json()
        return now if now["ticket"] else None

    return wait_until(with_ticket, 60, "a ticket", every=0.3)


def close_session(stack: Stack, session: dict[str, Any]) -> None:
    assert stack.call("DELETE", f"/v1/sessions/{session['id']}", role="speaker").status_code == 204


def test_a_burst_of_speech_then_end_loses_no_word(stack: Stack) -> None:
    session = ready_session(stack)
    heard = speak(session["ws_url"], session["ticket"], stack.ca_cert, pcm(TRAIN))
    close_session(stack, session)
    assert heard.close_code == 1000, (heard.close_code, heard.close_reason)
    assert heard.statuses()[-1] == "END"
    assert word_error_rate(said(TRAIN), heard.text()) <= 0.1, heard.text()
    progress = [m["processed_until"] for m in heard.messages if m.get("status") == "PROGRESS"]
    assert progress == sorted(progress)
    assert abs(progress[-1] - len(pcm(TRAIN)) / 16000) < 0.05


def test_four_speakers_at_once_each_get_their_own_words(stack: Stack) -> None:
    sessions = [ready_session(stack) for _ in range(4)]
    clips = [TRAIN, CHECK, TRAIN, CHECK]

    def one(number: int) -> float:
        session = sessions[number]
        heard = speak(session["ws_url"], session["ticket"], stack.ca_cert, pcm(clips[number]))
        return word_error_rate(said(clips[number]), heard.text())

    with ThreadPoolExecutor(4) as pool:
        rates = list(pool.map(one, range(4)))
    for session in sessions:
        close_session(stack, session)
    assert max(rates) <= 0.15, rates


def test_the_command_streams_a_clip_through_the_edge(stack: Stack) -> None:
    options = ["--pace", "max", "--ref", said(CHECK), "--json", "--state-dir", str(stack.state_dir)]
    run = whisperctl("stream", str(CHECK), *options)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["wer"] <= 0.15, report["transcript"]
    assert report["lost_seconds"] == 0
    assert report["close_code"] == 1000
    assert "Traceback" not in run.stderr


def test_the_gpu_sleeps_after_its_idle_minutes_and_not_before(stack: Stack) -> None:
    close_session(stack, ready_session(stack))
    stack.advance(60 * (IDLE_MINUTES - 2))
    # Right after the jump the host's report is old, and nobody may say ready; the next report makes it so.
    stack.wait_phase("ready", 15)
    assert "lingers" in stack.status()["reason"]
    assert stack.status()["next"]["action"] == "stop"
    before = len(stack.calls("StopInstances"))
    stack.advance(60 * 3)
    stack.wait_phase("asleep", 40)
    assert len(stack.calls("StopInstances")) - before == 1
    why = [event for event in stack.call("GET", "/v1/events").json()["events"] if event["action"] == "gpu.stop"]
    assert why
    assert why[-1]["reason"]


def test_a_live_stream_keeps_the_gpu_awake_past_its_idle_minutes(stack: Stack) -> None:
    """Heartbeats may fail (a closed lid, a lost network): words still flowing are evidence enough."""
    session = ready_session(stack)
    with dial(session["ws_url"], session["ticket"], stack.ca_cert) as connection:
        connection.send(handshake())
        heard = listen(connection, Heard(), until="SERVER_READY")
        for frame in frames_of(pcm(TRAIN)):
            connection.send(frame)
        wait_until(lambda: stack.status()["gpu"]["active_streams"] == 1, 15, "the stream to be reported")
        stack.advance(60 * (IDLE_MINUTES + 3))
        # The next report makes the evidence fresh again; only then would a wrong decision stop the machine.
        stack.wait_phase("ready", 15)
        stack.advance(60)
        stack.wait_phase("ready", 15)
        connection.send(b"END_OF_AUDIO")
        listen(connection, heard)
    assert heard.statuses()[-1] == "END"
    close_session(stack, session)
