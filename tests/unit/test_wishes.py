"""Wishes, places and tickets."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from chalicelib.domain.tickets import KEPT_S, SPREAD_S, TicketKey, TicketKeys, sign
from chalicelib.domain.wishes import Booking, Order, OrderKind, Session, Wishes, short_name


def session(name: str, created: float = 0.0, heartbeat: float = 0.0, max_at: float = 1000.0, **more: Any) -> Session:
    return Session(name, "p", created, heartbeat, max_at, **more)


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


def test_a_ticket_is_a_jwt_of_its_key() -> None:
    ticket = sign(TicketKey("new", "n" * 32, 2.0), "sid", 2e9)
    assert jwt.get_unverified_header(ticket) == {"alg": "HS256", "typ": "JWT", "kid": "new"}
    assert jwt.decode(ticket, "n" * 32, algorithms=["HS256"]) == {"sid": "sid", "exp": 2_000_000_000}


def test_a_new_key_signs_once_every_host_knows_it_and_the_old_one_verifies_on() -> None:
    assert TicketKeys().signing(0.0) is None
    old, new, third = (TicketKey(name, name * 32, at) for name, at in (("o", 1000.0), ("n", 2000.0), ("t", 2010.0)))
    only = TicketKeys((old,))
    assert only.signing(1000.0) == old, "there is no other"
    both = only.rotated(new, 2000.0)

    def signs(keys: TicketKeys, now: float) -> str:
        found = keys.signing(now)
        assert found is not None
        return found.kid

    assert [signs(both, 2000.0 + later) for later in (0, SPREAD_S - 1, SPREAD_S, 1e6)] == ["o", "o", "n", "n"]
    hasty = both.rotated(third, 2010.0)
    assert [signs(hasty, 2010.0 + later) for later in (0, SPREAD_S - 1, SPREAD_S)] == ["o", "n", "t"]
    assert {key.kid for key in hasty.keys} == {"o", "n", "t"}, "all of them verify"
    young = only.rotated(TicketKey("y", "y" * 32, 1001.0), 1001.0)
    assert [signs(young, 1001.0 + later) for later in (0, SPREAD_S - 1, SPREAD_S)] == ["o", "o", "y"]
    much_later = 2000.0 + SPREAD_S + KEPT_S
    assert [key.kid for key in both.rotated(TicketKey("x", "x" * 32, much_later), much_later).keys] == ["n", "x"]


def test_a_host_loads_the_model_of_the_booking_then_of_the_oldest_session() -> None:
    sessions = (session("c", 3, model="small.en"), session("b", 2, model="base"), session("a", 1))
    has = ("base", "small.en", "tiny.en")
    assert Wishes(sessions).model(10, frozenset(), has) == "base"
    booked = Booking("x", 50, 300, 0, "eve", model="Systran/faster-whisper-small.en")
    wishes = Wishes(sessions, (booked,))
    assert wishes.model(10, frozenset(), has) == "base"
    assert wishes.model(10, frozenset(), has, lead=60) == "small.en"
    assert wishes.model(100, frozenset(), has) == "small.en"
    assert wishes.model(100, frozenset(), ("base",)) == "base", "who names a model the host lacks has no say"
    assert wishes.model(500, frozenset(), has) is None, "nobody is left"
    assert wishes.model(500, frozenset({"b"}), has) == "base", "its stream keeps it alive"
    assert Wishes(sessions).model(10, frozenset(), ()) is None


@pytest.mark.parametrize(
    ("model", "name"), [("base", "base"), ("Systran/faster-whisper-base", "base"), ("someone/else", "else")]
)
def test_models_short_names(model: str, name: str) -> None:
    assert short_name(model) == name
