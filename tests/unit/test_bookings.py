"""Bookings: recurrence over both changes of the clocks, early waking, what the owner is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chalicelib.domain.bookings import BookingState, state_of
from chalicelib.domain.ledger import NOTICE_S, UNKNOWN_WAKE_S, Wake, lead
from chalicelib.domain.machines import MachineState
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.wishes import Booking, Order, OrderKind, Wishes
from chalicelib.errors import Invalid, NotFound
from chalicelib.services import bookings, power
from chalicelib.services.control import load
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal, Role
from chalicelib.settings import Settings
from tests.unit.test_reconcile import EDGE, GPU, World

EVE = Principal("p2", Role.OPERATOR, "eve")
CAUSE = Cause("eve", "test")
BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


def utc(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%m-%d %H:%M")


def weekly(start: str, end: str, **more: Any) -> Booking:
    return Booking("b", at(start), at(end), 0.0, "eve", "booking", zone="Europe/Berlin", **more)


@pytest.mark.parametrize(
    ("start", "end", "now", "times"),
    [
        # Thursdays at 19:00, over both changes of the clocks.
        ("2026-03-19T19:00", "2026-03-19T21:00", "2026-03-27T12:00", ("04-02 17:00", "04-02 19:00")),
        ("2026-10-15T19:00", "2026-10-15T21:00", "2026-10-23T12:00", ("10-29 18:00", "10-29 20:00")),
        # Over midnight, and over the hour that is missing or comes twice.
        ("2026-03-21T22:00", "2026-03-22T06:00", "2026-03-28T12:00", ("03-28 21:00", "03-29 04:00")),
        ("2026-10-17T22:00", "2026-10-18T06:00", "2026-10-24T12:00", ("10-24 20:00", "10-25 05:00")),
        ("2026-03-22T02:30", "2026-03-22T04:00", "2026-03-28T12:00", ("03-29 01:30", "03-29 02:00")),
        ("2026-10-18T02:30", "2026-10-18T02:45", "2026-10-24T12:00", ("10-25 00:30", "10-25 01:45")),
        # While it runs it is the one that runs; before the first it is the first.
        ("2026-11-19T19:00", "2026-11-19T21:00", "2026-11-26T20:59", ("11-26 18:00", "11-26 20:00")),
        ("2026-11-19T19:00", "2026-11-19T21:00", "2026-11-26T21:00", ("12-03 18:00", "12-03 20:00")),
        ("2026-11-19T19:00", "2026-11-19T21:00", "2026-11-01T00:00", ("11-19 18:00", "11-19 20:00")),
    ],
)
def test_the_nearest_time_of_a_weekly_booking(start: str, end: str, now: str, times: tuple[str, str]) -> None:
    one = weekly(start, end).nearest(at(now))
    assert (utc(one.start), utc(one.until())) == times


def test_running_agrees_with_the_calendar_all_year_long() -> None:
    """The shortcut that spares the calendar must never hide a time."""
    booking = weekly("2026-01-08T19:00", "2026-01-08T21:00")
    for quarter in range(365 * 96):
        now = booking.start + quarter * 900.0
        local = datetime.fromtimestamp(now, BERLIN)
        inside = local.weekday() == 3 and 19 <= local.hour < 21
        assert booking.running(now) is inside, local


def test_an_ended_time_leaves_the_next_alone() -> None:
    booking = weekly("2026-11-19T19:00", "2026-11-19T21:00", ended_at=at("2026-11-26T19:30"))
    assert not booking.running(at("2026-11-26T20:00"))
    assert booking.running(at("2026-12-03T20:00"))
    latest = booking.latest(at("2026-11-26T20:00"))
    assert latest is not None
    assert latest.until() == at("2026-11-26T19:30")
    cancelled = weekly("2026-11-19T19:00", "2026-11-19T21:00", ended_at=at("2026-11-26T18:57"))
    assert not cancelled.running(at("2026-11-26T18:58"), lead=300)
    assert cancelled.running(at("2026-12-03T18:58"), lead=300)


def test_a_booking_opens_what_was_closed_before_it_was_made_and_not_after() -> None:
    rules, now = Rules(), at("2026-11-26T19:30")
    order = Order(OrderKind.STOP, now - 100, "eve")
    for made, open_now in ((now - 200, False), (now - 50, True)):
        booking = Booking("b", now - 10, now + 100, made, "eve", "booking")
        assert admission(Wishes((), (booking,), now + 1000, (order,)), rules, now).open is open_now


def test_how_early_to_wake_is_learned() -> None:
    assert lead([]) == UNKNOWN_WAKE_S + NOTICE_S
    wakes = [Wake(0, 30, float(seconds), 200.0 if seconds > 90 else 0.0) for seconds in range(1, 101)]
    assert lead(wakes) == pytest.approx(30 + 90.1 + 20 + NOTICE_S)
    assert lead(wakes[:80]) < lead(wakes)


def test_states() -> None:
    booking, rules = Booking("b", 1000.0, 2000.0, 0.0, "eve", "booking"), Rules(lead_s=300)
    said = [state_of(booking, rules, now) for now in (699.0, 700.0, 1000.0, 2000.0)]
    assert said == [BookingState.PLANNED, BookingState.WAKING, BookingState.RUNNING, BookingState.MISSED]
    ready = Booking("b", 1000.0, 2000.0, 0.0, "eve", "booking", ready_for=1000.0, rehearsed_for=1000.0)
    assert state_of(ready, rules, 800) is BookingState.REHEARSED
    assert state_of(ready, rules, 2000) is BookingState.DONE


@pytest.fixture
def world() -> World:
    """Monday 11:00 in Berlin; nights from 22:00."""
    made = World(settings=Settings("s", "t", "https://edge", night="22:00-06:00 Europe/Berlin"))
    made.clock.now = at("2026-11-23T11:00")
    made.tick()
    return made


def book(world: World, start: str, end: str, **more: Any) -> dict[str, Any]:
    wanted = bookings.WantedBooking(at(end), at(start), **more)
    return bookings.book(world.context, EVE, wanted, CAUSE)


def state(world: World) -> str:
    return str(bookings.bookings(world.context)["bookings"][0]["state"])


def told(world: World) -> list[tuple[str, str]]:
    return [
        (str(one.data["action"]), str(one.data["reason"]))
        for one in world.store.partition("events")
        if str(one.data["action"]).startswith("booking.")
    ]


def test_it_wakes_early_in_the_night_says_ready_runs_and_sleeps_again(world: World) -> None:
    made = book(world, "2026-11-23T22:30", "2026-11-23T23:00", note="late talk")
    assert (made["state"], made["wake_at"]) == ("planned", "2026-11-23T21:24:00.000Z")
    world.clock.now = at("2026-11-23T22:23")
    world.tick()
    assert (world.machines.starts, state(world)) == ([], "planned")
    world.clock.advance(61)
    world.tick()
    assert (world.machines.starts, state(world)) == ([GPU], "waking")
    world.ready()
    assert told(world)[-1] == ("booking.ready", "ready for 22:30, not rehearsed")
    world.clock.now = at("2026-11-23T22:45")
    world.tick()
    assert state(world) == "running"
    assert world.open()["phase"] != "asleep"
    world.clock.now = at("2026-11-23T23:00")
    bookings_host_report(world)
    world.tick()  # the night begins here: nobody streams, but a session is open, so notice and grace
    world.clock.advance(331)
    bookings_host_report(world)
    world.tick()
    assert world.machines.stops == [GPU]
    assert state(world) == "done"
    assert [one for one, _ in told(world)] == ["booking.open", "booking.ready"]


def bookings_host_report(world: World) -> None:
    from chalicelib.services import host_link

    host_link.report(world.context, GPU, {"boot_id": "b", "status": "ready", "max_streams": 2})


def test_a_rehearsal_is_written_in_one_place_and_once(world: World) -> None:
    made = book(world, "2026-11-23T19:00", "2026-11-23T20:00")
    assert bookings.due_for_rehearsal(world.context) == []
    bookings.rehearsed(world.context, made["id"], CAUSE)
    assert state(world) == "planned", "too early: another time's canary says nothing of this one"
    world.clock.now = at("2026-11-23T18:56")
    world.tick()
    assert bookings.due_for_rehearsal(world.context) == [made["id"]]
    for _ in range(2):
        bookings.rehearsed(world.context, made["id"], CAUSE)
    assert state(world) == "rehearsed"
    assert bookings.due_for_rehearsal(world.context) == []
    assert [action for action, _ in told(world)].count("booking.rehearsed") == 1
    world.clock.now = at("2026-11-23T19:01")
    bookings.rehearsed(world.context, made["id"], CAUSE)
    assert state(world) == "running"
    with pytest.raises(NotFound):
        bookings.rehearsed(world.context, "nobody", CAUSE)


def test_no_capacity_is_told_in_time_and_a_missed_one_afterwards(world: World) -> None:
    book(world, "2026-11-23T19:00", "2026-11-23T19:30")
    world.machines.no_room = {("g4dn.xlarge", "eu-central-1a")}
    world.clock.now = at("2026-11-23T18:55")
    world.tick()
    world.tick()
    assert told(world)[-1][0] == "booking.no_capacity"
    assert told(world)[-1][1].startswith("no capacity yet for 19:00: AWS has no g4dn.xlarge free")
    while world.clock() < at("2026-11-23T19:31"):
        world.clock.advance(60)
        world.tick()
    assert [one for one, _ in told(world)] == ["booking.open", "booking.no_capacity", "booking.missed"]
    assert state(world) == "missed"


def test_a_gpu_that_is_late_is_told_a_minute_before(world: World) -> None:
    book(world, "2026-11-23T19:00", "2026-11-23T19:30")
    world.clock.now = at("2026-11-23T18:55")
    world.tick()
    world.machines.become(GPU, MachineState.RUNNING)
    for _ in range(6):
        world.clock.advance(60)
        world.tick()
    assert [one for one, _ in told(world)] == ["booking.open", "booking.late"]


def test_stop_ends_the_running_time_and_a_weekly_one_comes_again(world: World) -> None:
    made = book(world, "2026-11-23T19:00", "2026-11-23T21:00", weekly=True)
    assert made["weekly"] == "Europe/Berlin"
    world.clock.now = at("2026-11-23T19:30")
    world.tick()
    assert world.machines.starts == [GPU]
    power.stop(world.context, EVE, force=True, closed_until=None, reason="", cause=CAUSE)
    now = world.clock()
    assert load(world.store).wishes.booked(now) is None
    assert bookings.bookings(world.context)["bookings"][0]["start"] == "2026-11-30T18:00:00.000Z"
    assert load(world.store).wishes.booked(now + 7 * DAY) is not None


def test_a_deleted_booking_wakes_nobody_and_a_running_one_ends(world: World) -> None:
    made = book(world, "2026-11-23T19:00", "2026-11-23T21:00", weekly="Europe/Berlin")
    running = bookings.book(world.context, EVE, bookings.WantedBooking(world.clock() + 3600), CAUSE)
    assert running["state"] == "running"
    for one in (made, running):
        bookings.cancel(world.context, one["id"], CAUSE)
    left = bookings.bookings(world.context)["bookings"]
    assert [(one["id"], one["state"]) for one in left] == [(running["id"], "done")]
    assert load(world.store).wishes.last_end(world.clock()) == world.clock()
    with pytest.raises(NotFound):
        bookings.cancel(world.context, made["id"], CAUSE)


@pytest.mark.parametrize(
    ("start", "end", "weekly", "words"),
    [
        (-3600, 3600, False, "in the past"),
        (3600, 3600, False, "later than start"),
        (3600, None, False, "needs an end"),
        (0, 13 * 3600, False, "12 hours at most"),
        (400 * DAY, 400 * DAY + 60, False, "a year"),
        (0, 3600, "Europe/Nowhere", "IANA"),
        (0, 3600, "../../etc/passwd", "IANA"),
    ],
)
def test_what_cannot_be_booked(world: World, start: float, end: float | None, weekly: bool | str, words: str) -> None:
    now = world.clock()
    wanted = bookings.WantedBooking(None if end is None else now + end, now + start, weekly)
    with pytest.raises(Invalid, match=words):
        bookings.book(world.context, EVE, wanted, CAUSE)


def test_edges_have_no_part_in_it(world: World) -> None:
    assert load(world.store).memories[EDGE].failures == 0
