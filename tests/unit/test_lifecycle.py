"""decide: each rule by example, and invariants over random observations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.closings import closings
from chalicelib.domain.lifecycle import Action, Decision, decide
from chalicelib.domain.machines import (
    Drain,
    DrainKind,
    Machine,
    MachineState,
    Memory,
    Observation,
    Refusal,
    Report,
    Role,
    Stream,
    View,
)
from chalicelib.domain.night import Night
from chalicelib.domain.phases import overview
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.wishes import Booking, Order, OrderKind, Session, Wishes

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
NIGHT = Night.parse("22:00-06:00 UTC")
MIDNIGHT = datetime(2026, 11, 23, 0, tzinfo=UTC).timestamp()
RULES = Rules(night=NIGHT, zone=NIGHT.zone)


def gpu(state: MachineState = MachineState.RUNNING, now: float = NOON, **more: Any) -> View:
    """A GPU that woke an hour ago; `sids` stream; `report_age` seconds since its report, None for no report."""
    since = more.pop("awake_since", now - 3600)
    awake_since = since if state.awake else None
    sids: tuple[str, ...] = more.pop("sids", ())
    age: float | None = more.pop("report_age", 3.0)
    name = more.pop("name", "i-1")
    report = None
    if age is not None:
        streams = tuple(Stream(sid) for sid in sids)
        report = Report(now - age, "b", "ready", streams=streams, max_streams=4, was_ready=True)
        report = replace(report, streamed_at=now - age if sids else more.pop("streamed_at", None))
    changed = more.pop("state_since", now - 60)
    memory = Memory(name, Role.GPU, state, changed, awake_since=awake_since, **more)
    return View(Machine(name, Role.GPU, state, private_ip="10.0.0.1"), memory, report)


def session(now: float = NOON, age: float = 60.0, heartbeat: float = 10.0, **more: Any) -> Session:
    return Session(more.pop("id", "s1"), "p", now - age, now - heartbeat, now - age + 28800, **more)


def one(view: View, wishes: Wishes = Wishes(), now: float = NOON, rules: Rules = RULES) -> Decision:  # noqa: B008
    (decision,) = decide(Observation((view,)), wishes, rules, now)
    return decision


SESSION = Wishes((session(),))


def test_a_machine_that_never_reported_is_not_kept_for_twelve_hours() -> None:
    silent = gpu(report_age=None)
    assert one(silent).action is Action.STOP
    waited_for = gpu(report_age=None, awake_since=NOON - 60)
    assert one(waited_for, SESSION).action is Action.HOLD, "somebody waits for it"
    young = gpu(report_age=None, awake_since=NOON - 60)
    assert one(young).action is Action.HOLD, "it has its idle minutes like any other"
    untold = replace(RULES, tickets=False)
    assert one(silent, rules=untold).action is Action.HOLD, "without tickets somebody may stream unseen"


def test_a_time_that_is_not_today_comes_with_its_date() -> None:
    tomorrow = NOON + 20 * 3600
    next_week = NOON + 7 * 86400
    assert "closed until 08:00 by" in admission(Wishes(closed_until=tomorrow), RULES, NOON).because
    assert "closed until 2026-11-29 12:00 by" in admission(Wishes(closed_until=next_week), RULES, NOON).because


def test_a_wish_starts_a_stopped_machine() -> None:
    decision = one(gpu(MachineState.STOPPED), SESSION)
    assert (decision.action, decision.reason) == (Action.START, "one session is open")
    assert one(gpu(MachineState.STOPPED)).action is Action.HOLD


@pytest.mark.parametrize(
    "state", [MachineState.PENDING, MachineState.STOPPING, MachineState.SHUTTING_DOWN, MachineState.TERMINATED]
)
@pytest.mark.parametrize("wishes", [Wishes(), SESSION])
def test_a_state_in_between_is_waited_for(state: MachineState, wishes: Wishes) -> None:
    assert one(gpu(state), wishes).action is Action.HOLD


def test_a_refusal_is_waited_out() -> None:
    refused = Refusal("capacity", "no room", NOON - 10, NOON + 50)
    decision = one(gpu(MachineState.STOPPED, refusal=refused), SESSION)
    assert (decision.action, decision.reason) == (Action.HOLD, "no room")
    assert decision.next is not None
    assert decision.next.at == NOON + 50
    assert one(gpu(MachineState.STOPPED, refusal=refused), SESSION, NOON + 51).action is Action.START


@pytest.mark.parametrize(
    ("ended", "report_age", "sids", "action"),
    [
        (599.0, 3.0, (), Action.HOLD),  # lingers
        (601.0, 3.0, (), Action.STOP),
        (601.0, 3.0, ("stranger",), Action.HOLD),  # somebody streams without a session
        (601.0, 60.0, (), Action.HOLD),  # nobody knows
        (599.0, None, (), Action.HOLD),  # lingers, although it never was ready
        (601.0, None, (), Action.STOP),  # never ready, so no ticket was given out for it
    ],
)
def test_idle(ended: float, report_age: float | None, sids: tuple[str, ...], action: Action) -> None:
    over = session(age=ended + 100, ended_at=NOON - ended)
    view = gpu(report_age=report_age, sids=sids)
    assert one(view, Wishes((over,))).action is action


def test_a_stream_that_ended_begins_the_linger_anew() -> None:
    assert one(gpu(streamed_at=NOON - 599)).action is Action.HOLD
    assert one(gpu(streamed_at=NOON - 601)).action is Action.STOP


def test_the_hard_maximum_ends_everything() -> None:
    view = gpu(awake_since=NOON - 43200, report_age=None)
    assert one(view, SESSION).action is Action.STOP
    soon = gpu(awake_since=NOON - 43000, sids=("s1",))
    decision = one(soon, SESSION)
    assert decision.action is Action.DRAIN
    assert decision.drain is not None
    assert decision.drain.closing_at == NOON + 200


def test_night_notice_grace_stop() -> None:
    live = session(MIDNIGHT)
    begins = one(gpu(now=MIDNIGHT, sids=("s1",)), Wishes((live,)), MIDNIGHT)
    assert begins.action is Action.DRAIN
    assert begins.drain is not None
    assert begins.drain.closing_at == MIDNIGHT + 300
    draining = gpu(now=MIDNIGHT, sids=("s1",), drain=begins.drain)
    assert one(draining, Wishes((live,)), MIDNIGHT + 10).action is Action.HOLD
    assert one(draining, Wishes((live,)), MIDNIGHT + 331).action is Action.STOP
    assert one(gpu(now=MIDNIGHT), Wishes(), MIDNIGHT).action is Action.STOP
    assert one(gpu(MachineState.STOPPED, MIDNIGHT), Wishes((live,)), MIDNIGHT).action is Action.HOLD


def test_a_booking_overrides_the_night() -> None:
    booking = Booking("b", MIDNIGHT - 10, MIDNIGHT + 3600, MIDNIGHT - 10, "eve")
    wishes = Wishes(bookings=(booking,))
    assert one(gpu(MachineState.STOPPED, MIDNIGHT), wishes, MIDNIGHT).action is Action.START
    drain = Drain(DrainKind.NIGHT, MIDNIGHT - 60, MIDNIGHT + 240, "night")
    assert one(gpu(now=MIDNIGHT, drain=drain), wishes, MIDNIGHT).action is Action.CANCEL_DRAIN
    assert admission(wishes, RULES, MIDNIGHT).open
    assert not admission(Wishes(), RULES, MIDNIGHT).open


def test_orders() -> None:
    stop = Wishes(orders=(Order(OrderKind.STOP, NOON - 1, "eve"),))
    assert one(gpu(), stop).action is Action.STOP
    assert one(gpu(sids=("s1",)), stop).action is Action.DRAIN
    assert one(gpu(report_age=60.0), stop).action is Action.DRAIN  # unknown counts as active
    assert one(gpu(report_age=None), stop).action is Action.STOP  # it never served
    assert one(gpu(awake_since=NOON - 0.5, report_age=0.1), stop).action is Action.HOLD  # ordered before it woke
    newer = replace(stop, sessions=(session(age=0.5),))
    assert one(gpu(), newer).action is Action.HOLD  # somebody came after the order
    force = Wishes(orders=(Order(OrderKind.STOP, NOON - 1, "eve", force=True),))
    assert one(gpu(sids=("s1",)), force).action is Action.STOP
    restart = Wishes(orders=(Order(OrderKind.RESTART, NOON - 1, "eve"),))
    assert one(gpu(), restart).action is Action.RESTART
    assert one(gpu(restarted_at=NOON), restart).action is not Action.RESTART


def test_an_unforced_drain_never_ends_under_a_live_stream() -> None:
    drain = Drain(DrainKind.STOP, NOON - 5000, NOON - 4000, "eve asked for it")
    assert one(gpu(sids=("s1",), drain=drain)).action is Action.HOLD
    assert one(gpu(report_age=60.0, drain=drain)).action is Action.HOLD
    assert one(gpu(drain=drain)).action is Action.STOP


def test_a_drain_that_does_not_end_becomes_the_nights() -> None:
    drain = Drain(DrainKind.STOP, MIDNIGHT - 500, MIDNIGHT - 400, "eve asked for it")
    for report_age in (3.0, 60.0):
        decision = one(gpu(now=MIDNIGHT, sids=("s1",), report_age=report_age, drain=drain), now=MIDNIGHT)
        assert decision.action is Action.DRAIN
        assert decision.drain is not None
        assert decision.drain.kind is DrainKind.NIGHT
        assert decision.drain.closing_at == MIDNIGHT + 300


def test_sessions_close() -> None:
    silent, spent = session(heartbeat=181), session(age=28801, heartbeat=1)
    closing = closings(Observation(), Wishes((silent,)), RULES, NOON)
    assert [(one.at, one.reason) for one in closing] == [(NOON - 1, "no heartbeat for three minutes")]
    assert closings(Observation(), Wishes((spent,)), RULES, NOON)[0].reason == "it reached its longest life"
    assert closings(Observation((gpu(sids=("s1",)),)), Wishes((silent,)), RULES, NOON) == ()
    assert closings(Observation(), Wishes((replace(silent, ended_at=NOON),)), RULES, NOON) == ()


def test_of_two_the_one_awake_serves() -> None:
    views = (gpu(MachineState.STOPPED, name="i-1"), gpu(name="i-2"))
    assert [d.action for d in decide(Observation(views), SESSION, RULES, NOON)] == [Action.HOLD, Action.HOLD]
    refused = Refusal("capacity", "no room", NOON, NOON + 100)
    both = (gpu(MachineState.STOPPED, name="i-1", refusal=refused), gpu(MachineState.STOPPED, name="i-2"))
    assert [d.action for d in decide(Observation(both), SESSION, RULES, NOON)] == [Action.HOLD, Action.START]


def test_a_machine_that_serves_is_not_stopped_for_one_that_joins() -> None:
    """A second machine with the lower id comes, blank at first, while the first one is booked and nobody speaks."""
    serving = gpu(name="i-2", ready_at=NOON - 3500)
    blank = gpu(report_age=None, awake_since=NOON - 5, name="i-1")
    ready = gpu(awake_since=NOON - 65, name="i-1", ready_at=NOON - 5)
    booked = Wishes(bookings=(Booking("b", NOON - 3600, NOON + 3600, NOON - 3600, "eve"),))
    for joining in (blank, ready):
        decisions = decide(Observation((joining, serving)), booked, RULES, NOON)
        assert [one.action for one in decisions] == [Action.HOLD, Action.HOLD]
        assert decisions[1].reason == "eve booked it until 13:00"


moments = st.floats(-100_000, 0).map(lambda back: NOON + back) | st.floats(-30, 0).map(lambda back: NOON + back)
drains = st.builds(
    Drain, st.sampled_from(DrainKind), moments, st.floats(-600, 600).map(lambda d: NOON + d), st.just("why")
)


@st.composite
def views(draw: st.DrawFn, name: str = "i-1") -> View:
    state = draw(st.sampled_from(MachineState))
    return gpu(
        state,
        name=name,
        awake_since=draw(moments),
        sids=draw(st.sampled_from([(), ("s1",), ("stranger",)])),
        report_age=draw(st.none() | st.floats(0.5, 5) | st.floats(5, 5000)),
        drain=draw(st.none() | drains) if state is MachineState.RUNNING else None,
    )


sessions = st.builds(
    lambda age, beat, ended: session(age=age, heartbeat=min(beat, age), ended_at=NOON - 1 if ended else None),
    st.floats(0, 40000),
    st.floats(0, 400),
    st.booleans(),
)
orders = st.builds(Order, st.sampled_from(OrderKind), moments, st.just("eve"), st.just(""), st.booleans())
wishes_of_all_kinds = st.builds(
    Wishes,
    st.lists(sessions, max_size=2).map(tuple),
    st.lists(
        st.builds(lambda at, length: Booking("b", at, at + length, at, "eve"), moments, st.floats(1, 90000)),
        max_size=1,
    ).map(tuple),
    st.none() | st.floats(-100, 100).map(lambda d: NOON + d),
    st.lists(orders, max_size=2).map(tuple),
)
rules_of_all_kinds = st.builds(
    Rules,
    st.floats(60, 3600),
    st.sampled_from([None, NIGHT, Night.parse("11:00-13:00 UTC"), Night.parse("12:00-11:00 UTC")]),
    st.floats(30, 600),
    st.floats(3600, 50000),
)


@settings(max_examples=400, deadline=None)
@given(views(), views("i-2"), wishes_of_all_kinds, rules_of_all_kinds)
def test_invariants(first: View, second: View, wishes: Wishes, rules: Rules) -> None:
    observation = Observation((first, second))
    decisions = decide(observation, wishes, rules, NOON)
    assert [one.instance_id for one in decisions] == ["i-1", "i-2"]
    assert sum(one.action is Action.START for one in decisions) <= 1
    for view, decision in zip((first, second), decisions, strict=True):
        assert decision.reason
        state, memory = view.machine.state, view.memory
        if decision.action is Action.START:
            assert state is MachineState.STOPPED
            assert wishes.booked(NOON) or admission(wishes, rules, NOON).open
        if decision.action in (Action.STOP, Action.RESTART, Action.DRAIN, Action.CANCEL_DRAIN):
            assert state is MachineState.RUNNING or decision.force
        fresh = view.fresh(NOON)
        if decision.action in (Action.STOP, Action.RESTART) and fresh is not None and fresh.streams:
            forced = any(order.force for order in wishes.orders)
            past_max = NOON - (memory.awake_since or NOON) >= rules.hard_max_s
            night = memory.drain is not None and memory.drain.kind in (DrainKind.NIGHT, DrainKind.HARD_MAX)
            noticed = night and memory.drain is not None and memory.drain.closing_at <= NOON
            assert forced or past_max or noticed
        if state is MachineState.RUNNING and NOON - (memory.awake_since or NOON) >= rules.hard_max_s:
            assert decision.action is Action.STOP
    glance = overview(observation, wishes, rules, NOON)
    assert glance.reason


def cut_off(since: float, *, edge_age: float = 2.0, **more: Any) -> View:
    """A GPU that was ready and last reported `since` seconds ago; the edge cannot connect to it."""
    view = gpu(report_age=since, **more)
    return replace(view, unreachable_at=NOON - edge_age)


def test_a_gpu_cut_off_under_a_stream_has_its_standby_started_at_once() -> None:
    standby = gpu(MachineState.STOPPED, name="i-2", report_age=None)
    found = decide(Observation((cut_off(13.0, sids=("s1",)), standby)), SESSION, RULES, NOON)
    assert [one.action for one in found] == [Action.HOLD, Action.START]


@pytest.mark.parametrize(
    "view",
    [
        cut_off(11.0, sids=("s1",)),
        cut_off(13.0, edge_age=14.0, sids=("s1",)),
        cut_off(19.0, edge_age=21.0, sids=("s1",)),
        gpu(report_age=19.0, sids=("s1",)),
    ],
    ids=["it reported lately", "it reported after the edge", "the edge is silent too", "the edge reaches it"],
)
def test_one_witness_is_not_enough(view: View) -> None:
    standby = gpu(MachineState.STOPPED, name="i-2", report_age=None)
    found = decide(Observation((view, standby)), SESSION, RULES, NOON)
    assert [one.action for one in found] == [Action.HOLD, Action.HOLD]


def test_a_dead_machine_is_stopped_even_if_it_streamed_to_be_started_anew() -> None:
    """Nobody but the edge can stream to it, and the edge cannot reach it."""
    dying = one(cut_off(119.0, sids=("s1",)), SESSION)
    assert dying.action is Action.HOLD
    dead = one(cut_off(121.0, sids=("s1",)), SESSION)
    assert (dead.action, dead.impaired) == (Action.STOP, True)
    silent = one(gpu(report_age=121.0, sids=("s1",)), SESSION)
    assert silent.action is Action.HOLD


def test_streams_of_a_dead_machine_are_over() -> None:
    dying, dead = cut_off(119.0, sids=("s1",)), cut_off(121.0, sids=("s1",))
    assert Observation((dying,)).streaming(NOON) == {"s1"}
    assert Observation((dead,)).streaming(NOON) == frozenset()


def test_a_stop_asks_a_host_to_drain_where_a_stream_may_have_begun_unseen() -> None:
    """Somebody held a ticket when the order came: the host's last word is older than what may have begun since."""
    order = Order(OrderKind.STOP, NOON - 1, "eve")
    ended = session(ended_at=NOON - 1, end_kind="stop")
    unseen = Wishes((ended,), orders=(order,))
    assert one(gpu(), unseen).action is Action.DRAIN
    loading = replace(gpu(), report=Report(NOON - 3, "b", "loading", was_ready=True))
    assert one(loading, unseen).action is Action.STOP, "it takes no stream"
    assert one(gpu(), Wishes(orders=(order,))).action is Action.STOP, "nobody had a ticket"
    assert one(gpu(), Wishes(orders=(order,)), rules=replace(RULES, tickets=False)).action is Action.DRAIN
    restart = Wishes((session(),), orders=(Order(OrderKind.RESTART, NOON - 1, "eve"),))
    assert one(gpu(), restart).action is Action.DRAIN


def test_a_drain_ends_when_the_host_says_that_it_takes_no_more() -> None:
    drain = Drain(DrainKind.STOP, NOON - 2, NOON + 13, "eve asked for it")
    assert one(gpu(drain=drain)).action is Action.HOLD, "its last word is from before it heard"
    drained = replace(gpu(drain=drain), report=Report(NOON - 1, "b", "draining", was_ready=True))
    assert one(drained).action is Action.STOP
