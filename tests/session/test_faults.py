"""The client under every fault, a ramp for speech: each sample arrives once, byte for byte, and each word once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from tests.browser.scripted import TOKEN, Break, Scripted, scripted_stack
from tests.session.ramp import RampSource, lines, whole
from whisperctl.faults import Fault, Plan
from whisperctl.session.transcript import Segment
from whisperctl.stack import StackInfo
from whisperctl.streaming import Report, Stream, Wish

CUT = Break(10.2, down_s=2.0)
BACK_S = 3.0
"""Live again within so many seconds of the network's return."""


@dataclass
class Watched:
    phases: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def phase(self, phase: str, elapsed_s: float, usual_s: float | None) -> None:
        del elapsed_s, usual_s
        self.phases.append(phase)

    def final(self, segment: Segment) -> None: ...
    def partial(self, text: str, stable: int) -> None: ...

    def notice(self, sentence: str) -> None:
        self.notices.append(sentence)


def streamed(
    server: Scripted, source: RampSource, plan: Plan | None = None, stop_at: float | None = None
) -> tuple[Report, Watched]:
    stack = StackInfo(edge_url=server.http_url, api_url=server.http_url, tokens={"speaker": TOKEN}, ca_cert=None)
    view = Watched()

    async def run() -> Report:
        stream = Stream(stack, source, Wish(), view, plan=plan)
        if stop_at is not None:
            asyncio.get_running_loop().call_later(stop_at, stream.stop)
        return await stream.run()

    return asyncio.run(run()), view


def check(server: Scripted, source: RampSource, report: Report, *, reconnects: int, found_out_s: float = 0.0) -> None:
    assert server.wrong == []
    complete = bytes(server.audio) == whole(source.handed)  # no assert on it: pytest would compare megabytes
    assert complete, f"every sample once, byte for byte: {len(server.audio) // 4} of {source.handed}"
    assert (report.problem, report.lost_seconds, report.close_code) == (None, 0.0, 1000)
    assert report.reconnects == reconnects
    assert len(server.offsets) == reconnects + 1
    assert all(0 <= said["known_s"] <= 1 for said in server.handshakes)
    assert server.handshakes[0]["known_s"] == 0
    spoken = [text for start, _, text in server.lines if start < server.seconds]
    assert report.transcript.split() == " ".join(spoken).split(), "every word once"
    waits = [back - over for over, back in zip(server.broken_at, server.back_at, strict=True)]
    assert not waits or max(waits) < found_out_s + BACK_S


FAULTS = {
    "cut": [CUT],
    "cut for two seconds in the middle of a sentence": [Break(9.1, down_s=2.0)],
    "two cuts in a row": [Break(8.0), Break(8.5)],
    "restart": [Break(9.0, "close", 1012, "the server restarts", down_s=1.5)],
    "notice, then restart": [Break(8.0, "notice"), Break(9.0, "close", 1012, "the night begins", down_s=1.0)],
    "notice": [Break(8.0, "notice", reason="time limit")],
    "time limit": [Break(9.3, "close", 4409, "open a new one")],
    "the API is away too": [Break(9.0, down_s=2.0, api=True)],
    "no answer any more": [Break(9.0, "freeze")],
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_sample_once(name: str) -> None:
    source = RampSource(20, pace=4)
    script = Scripted(waking=[], lines=lines(20), ramp=True, breaks=list(FAULTS[name]))
    with scripted_stack(script) as server:
        report, view = streamed(server, source)
    takeovers = sum(1 for each in FAULTS[name] if each.kind != "notice" or len(FAULTS[name]) == 1)
    # Silence is found out after 5 s, and a first try beside the deaf connection may take its 2 s.
    found_out_s = 7.0 if "no answer" in name else 0.0
    check(server, source, report, reconnects=server_reconnects(name, takeovers), found_out_s=found_out_s)
    assert view.phases.count("reconnecting") <= len(FAULTS[name])


def server_reconnects(name: str, breaks: int) -> int:
    """A notice is answered by a new connection before the end, and this server takes it."""
    return 2 if name == "notice, then restart" else breaks


def test_the_gpu_is_woken_while_somebody_speaks() -> None:
    source = RampSource(12, pace=4)
    script = Scripted(waking=["waking.boot"] * 20, lines=lines(12), ramp=True)
    with scripted_stack(script) as server:
        report, _ = streamed(server, source)
    check(server, source, report, reconnects=0)
    assert report.ready_s is not None
    assert report.ready_s > 0.5


def test_a_full_host_is_waited_for() -> None:
    source = RampSource(20, pace=4)
    script = Scripted(waking=[], lines=lines(20), ramp=True, breaks=[Break(9.0)], refuse=[])
    script.refuse_later = [(1013, "all places are taken"), (1013, "all places are taken")]
    with scripted_stack(script) as server:
        report, view = streamed(server, source)
    check(server, source, report, reconnects=1)
    assert "full" in view.phases
    assert any("every place on the GPU is taken" in notice for notice in view.notices)


@pytest.mark.endurance
def test_ten_minutes_offline() -> None:
    """Ten minutes are said while nobody can be reached; most of it lies on disk meanwhile."""
    source = RampSource(620, pace=8, burst_at=9.4, burst=600)
    script = Scripted(waking=[], lines=lines(620), ramp=True, breaks=[Break(9.0, down_s=2.0)])
    with scripted_stack(script) as server:
        report, view = streamed(server, source)
    check(server, source, report, reconnects=1)
    assert "behind" in view.phases, "the reader is told where the words are"


@pytest.mark.endurance
def test_a_frozen_network() -> None:
    """Nothing is closed, nothing passes: the silence is found out; back, either connection may be the live one."""
    source = RampSource(14, pace=1)
    with scripted_stack(Scripted(waking=[], lines=lines(14), ramp=True)) as server:
        report, view = streamed(server, source, Plan((Fault("freeze", 2.0, 7.0),)))
    check(server, source, report, reconnects=report.reconnects)
    assert report.faults[0]["live_again_s"] < BACK_S
    assert "reconnecting" in view.phases


def test_two_drops_on_purpose() -> None:
    source = RampSource(12, pace=2)
    with scripted_stack(Scripted(waking=[], lines=lines(12), ramp=True)) as server:
        report, _ = streamed(server, source, Plan((Fault("drop", 1.0, 1.0), Fault("drop", 3.0, 0.5))))
    check(server, source, report, reconnects=2)
    assert [fault["live_again_s"] < BACK_S for fault in report.faults] == [True, True]


@pytest.mark.endurance
def test_a_slow_network_is_told_and_loses_nothing() -> None:
    """30 kB/s where speech needs 64."""
    source = RampSource(10, pace=1)
    with scripted_stack(Scripted(waking=[], lines=lines(10), ramp=True)) as server:
        report, view = streamed(server, source, Plan(kbps=30))
    check(server, source, report, reconnects=0)
    assert "slow" in view.phases


def test_stop_while_the_network_is_away() -> None:
    source = RampSource(60, pace=8)
    script = Scripted(waking=[], lines=lines(60), ramp=True, breaks=[Break(6.0, down_s=3.0)])
    with scripted_stack(script) as server:
        report, _ = streamed(server, source, stop_at=1.5)
    assert source.handed < source.samples
    check(server, source, report, reconnects=1)


def test_a_stock_server_that_confirms_only_by_its_words() -> None:
    source = RampSource(20, pace=4)
    script = Scripted(waking=[], lines=lines(20), ramp=True, breaks=[Break(9.0, down_s=1.0)], progress=False)
    with scripted_stack(script) as server:
        report, _ = streamed(server, source)
    check(server, source, report, reconnects=1)


def test_another_window_ends_it_and_says_so() -> None:
    source = RampSource(20, pace=4)
    script = Scripted(waking=[], lines=lines(20), ramp=True, breaks=[Break(9.0, "close", 4412, "taken over")])
    with scripted_stack(script) as server:
        report, _ = streamed(server, source)
    assert report.close_code == 4412
    assert report.problem is not None
    assert "another window" in report.problem
    assert report.lost_seconds > 10
    assert len(server.offered) == 1, "two windows must not fight"


def test_a_session_that_ended_while_nobody_could_be_reached_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("whisperctl.session.carrier.LAPSED_S", 1.0)
    source = RampSource(20, pace=4)
    script = Scripted(waking=[], lines=lines(20), ramp=True, breaks=[Break(9.0, down_s=1.5, api=True)], lapses=True)
    with scripted_stack(script) as server:
        report, _ = streamed(server, source)
    check(server, source, report, reconnects=1)
    assert len(server.idempotency_keys) == 2
