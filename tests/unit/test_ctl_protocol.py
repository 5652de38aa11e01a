"""The client's protocol machine: every sample once and in order, never too much unconfirmed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from whisperctl.protocol import (
    FRAME_SAMPLES,
    RATE,
    Backlog,
    Connection,
    Ended,
    Notice,
    Progress,
    Ready,
    Segments,
    State,
)

READY = json.dumps({"uid": "u", "message": "SERVER_READY", "backend": "x"})


def filled(seconds: float) -> Backlog:
    """A ramp: each sample is its own absolute number."""
    backlog = Backlog()
    for first in range(0, round(seconds * RATE), 1600):
        backlog.append(np.arange(first, first + 1600, dtype=np.float32))
    return backlog


def drained(connection: Connection, backlog: Backlog, now: float) -> bytes:
    sent = b""
    while (frame := connection.frame(backlog, now)) is not None:
        assert len(frame) <= FRAME_SAMPLES * 4
        sent += frame
    return sent


def ready(offset: int = 0, now: float = 0.0) -> Connection:
    connection = Connection("u", offset=offset)
    assert connection.receive(READY, now) == Ready("x")
    return connection


def progress(seconds: float) -> str:
    return json.dumps({"uid": "u", "status": "PROGRESS", "processed_until": seconds})


def test_backlog_reads_across_blocks_and_refuses_what_is_gone() -> None:
    backlog = filled(1)
    assert backlog.read(1598, 4).tolist() == [1598, 1599, 1600, 1601]
    backlog.release(3300)
    assert backlog.start == 3200
    assert backlog.read(3200, 2).tolist() == [3200, 3201]
    assert len(backlog.read(15990, 100)) == 10
    with pytest.raises(ValueError, match="released"):
        backlog.read(3199, 1)


def test_nothing_goes_out_before_server_ready() -> None:
    connection = Connection("u")
    assert connection.frame(filled(1), 0.0) is None
    assert json.loads(connection.hello()) == {
        "uid": "u", "task": "transcribe", "language": None, "use_vad": True
    }  # fmt: skip


def test_every_sample_goes_out_once_and_in_order() -> None:
    backlog = filled(3)
    assert drained(ready(), backlog, 0.0) == np.arange(3 * RATE, dtype="<f4").tobytes()


def test_at_most_45_seconds_are_unconfirmed() -> None:
    connection, backlog = ready(), filled(100)
    connection.receive(progress(0), 0.0)
    drained(connection, backlog, 0.0)
    assert connection.next_sample == 45 * RATE
    assert connection.receive(progress(10), 1.0) == Progress(10 * RATE)
    drained(connection, backlog, 1.0)
    assert connection.next_sample == 55 * RATE


def test_a_server_that_confirms_nothing_gets_twice_real_time() -> None:
    connection, backlog = ready(now=100.0), filled(60)
    drained(connection, backlog, 100.0)
    assert connection.next_sample == 15 * RATE
    drained(connection, backlog, 105.0)
    assert connection.next_sample == 25 * RATE


@pytest.mark.parametrize("said", ["{", "null", "[]", '"x"', '{"status": "LATER"}', '{"message": 5}'])
def test_messages_that_mean_nothing_are_ignored(said: str) -> None:
    assert ready().receive(said, 0.0) is None


def test_confirmation_never_goes_back_nor_beyond_what_was_sent() -> None:
    connection = ready(offset=5 * RATE)
    drained(connection, filled(10), 0.0)
    for seconds, confirmed in ((2.0, 7), (1.0, 7), (99.0, 10)):
        connection.receive(progress(seconds), 0.0)
        assert connection.confirmed == confirmed * RATE
    connection.receive(json.dumps({"status": "PROGRESS", "processed_until": "soon"}), 0.0)
    assert connection.confirmed == 10 * RATE


def test_a_backlog_is_cut_in_the_middle_of_a_block_and_goes_on_from_there() -> None:
    backlog = filled(1)
    backlog.release(3200)
    backlog.cut(4000)
    assert (backlog.start, backlog.end) == (3200, 4000)
    assert list(backlog.read(3998, 9)) == [3998, 3999]
    backlog.append(np.array([7], dtype=np.float32))
    assert list(backlog.read(3999, 9)) == [3999, 7]


def test_segments_carry_the_offset_and_confirm() -> None:
    connection = ready(offset=3 * RATE)
    drained(connection, filled(8), 0.0)
    said = {"segments": [{"start": "0.000", "end": "2.000", "text": " a", "completed": True}]}
    event = connection.receive(json.dumps(said), 0.0)
    assert isinstance(event, Segments)
    assert event.offset_s == 3.0
    assert connection.confirmed == 5 * RATE


def test_end_confirms_everything_sent() -> None:
    connection = ready()
    drained(connection, filled(2), 0.0)
    assert connection.end() == b"END_OF_AUDIO"
    assert connection.receive('{"status": "END"}', 0.0) == Ended()
    assert connection.confirmed == 2 * RATE
    assert connection.closed(1000, "").sentence == "done"


def test_a_notice_is_a_sentence() -> None:
    said = {"status": "NOTICE", "closing_at": "2027-01-04T22:05:00Z", "reason": "the night begins"}
    assert ready().receive(json.dumps(said), 0.0) == Notice("the night begins, closing at 2027-01-04T22:05:00Z")


@pytest.mark.parametrize(
    ("code", "final"),
    [(4400, True), (4401, True), (4410, True), (4412, True), (1006, False), (1012, False), (1013, False),
     (4408, False), (4409, False), (None, False), (3999, False)],
)  # fmt: skip
def test_close_codes(code: int | None, final: bool) -> None:
    connection = ready()
    closing = connection.closed(code, "because")
    assert closing.final is final
    assert closing.sentence.endswith(": because")
    assert connection.state is State.CLOSED


def test_a_close_without_end_is_not_done() -> None:
    connection = ready()
    connection.end()
    assert "without confirming" in connection.closed(1000, "").sentence
