"""Wishes, places and tickets."""

from __future__ import annotations

import jwt

from chalicelib.domain.tickets import TicketKey, TicketKeys, sign
from chalicelib.domain.wishes import Booking, Order, OrderKind, Session, Wishes


def session(
    name: str, created: float = 0.0, heartbeat: float = 0.0, max_at: float = 1000.0, **more: float
) -> Session:
    return Session(name, "p", created, heartbeat, max_at, **more)  # type: ignore[arg-type]  # only floats are passed


def test_a_session_lives_by_heartbeats_or_its_stream_up_to_its_end() -> None:
    one = session("s")
    assert one.live(179)
    assert not one.live(180)
    assert one.live(999, streaming=True)
    assert not one.live(1000, streaming=True)
    assert not session("s", ended_at=5.0).live(6, streaming=True)
    assert session("s", heartbeat=900).deadline() == 1000


def test_the_last_end_is_of_the_wish_that_ended_last() -> None:
    wishes = Wishes((session("a", ended_at=50.0), session("b")), (Booking("x", 0, 300, 0, "eve"),))
    assert wishes.last_end(100) == 50
    assert wishes.last_end(200) == 180  # no heartbeat any more
    assert wishes.last_end(400) == 300
    assert wishes.last_end(200, frozenset({"b"})) == 50
    assert Wishes().last_end(1) is None


def test_the_booking_that_ends_last_and_the_latest_order_count() -> None:
    bookings = (Booking("x", 0, 100, 0, "a"), Booking("y", 0, 200, 0, "b"), Booking("z", 0, 900, 0, "c", ended_at=10))
    orders = (Order(OrderKind.STOP, 1, "a"), Order(OrderKind.STOP, 5, "b"), Order(OrderKind.RESTART, 9, "c"))
    wishes = Wishes(bookings=bookings, orders=orders)
    booked, order = wishes.booked(50), wishes.order(OrderKind.STOP)
    assert booked is not None
    assert order is not None
    assert (booked.id, order.by) == ("y", "b")
    assert wishes.booked(200) is None


def test_the_newest_key_that_is_not_retired_signs() -> None:
    old, new = TicketKey("old", "o" * 32, 1.0), TicketKey("new", "n" * 32, 2.0)
    retired = TicketKey("last", "l" * 32, 3.0, retired_at=4.0)
    assert TicketKeys((old, new, retired)).signing() == new
    assert TicketKeys().signing() is None
    ticket = sign(new, "sid", 2e9)
    assert jwt.get_unverified_header(ticket) == {"alg": "HS256", "typ": "JWT", "kid": "new"}
    assert jwt.decode(ticket, "n" * 32, algorithms=["HS256"]) == {"sid": "sid", "exp": 2_000_000_000}
