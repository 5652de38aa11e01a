from __future__ import annotations

from typing import Any

import jwt
import pytest

from gpu_bootstrap.errors import TicketError, UnknownKeyError
from gpu_bootstrap.tickets import verify

SECRET = "a key of the tests that is long enough for any HMAC"  # noqa: S105 - opens nothing
KEYS = {"k1": SECRET, "k2": "another secret, as long as the first one"}
NOW = 1_800_000_000.0


def ticket(claims: dict[str, Any], *, kid: Any = "k1", secret: str | None = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm, headers={"kid": kid} if kid else None)  # type: ignore[arg-type]


def test_a_good_ticket_names_its_session() -> None:
    assert verify(ticket({"sid": "s1", "exp": int(NOW + 60)}), KEYS, NOW).sid == "s1"
    assert verify(ticket({"sid": "s1", "exp": NOW - 5}), KEYS, NOW).sid == "s1", "clocks may differ a little"
    assert verify(ticket({"sid": "s1", "exp": NOW + 1}, kid="k2", secret=KEYS["k2"]), KEYS, NOW).sid == "s1"


@pytest.mark.parametrize("kid", ["k9", None])
def test_a_key_that_is_not_here_may_still_come(kid: str | None) -> None:
    with pytest.raises(UnknownKeyError):
        verify(ticket({"sid": "s1", "exp": NOW + 60}, kid=kid), KEYS, NOW)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (None, "a ticket is needed"),
        ("", "a ticket is needed"),
        ("a.b.c", "not one of ours"),
        (ticket({"sid": "s1", "exp": NOW - 60}), "expired"),
        (ticket({"sid": "s1", "exp": NOW + 60}, secret="x" * 40), "not valid"),
        (ticket({"sid": "s1", "exp": NOW + 60}, secret=None, algorithm="none"), "not valid"),
        (ticket({"sid": "s1", "exp": NOW + 60}, secret=SECRET, algorithm="HS384"), "not valid"),
        (ticket({"sid": "s1"}), "not valid"),
        (ticket({"exp": NOW + 60}), "not valid"),
        (ticket({"sid": 5, "exp": NOW + 60}), "sid"),
        (ticket({"sid": "", "exp": NOW + 60}), "sid"),
        (ticket({"sid": "s1", "exp": True}), "exp"),
        (ticket({"sid": "s1", "exp": "soon"}), "exp"),
    ],
)
def test_a_ticket_that_does_not_open(bad: str | None, sentence: str) -> None:
    with pytest.raises(TicketError) as error:
        verify(bad, KEYS, NOW)
    assert sentence in str(error.value)
    assert len(str(error.value).encode()) <= 123
