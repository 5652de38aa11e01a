"""Invites over the API, on moto."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.domain.times import from_text, to_text
from tests.app.api import Api, control_plane


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with control_plane(monkeypatch) as made:
        yield made


def token_of(url: str) -> str:
    base, _, plain = url.partition("/#token=")
    assert base == "https://edge.example"
    return plain


def test_whoever_has_the_link_may_speak_until_it_ends(api: Api) -> None:
    answer = api.call("POST", "/v1/invites", body={"minutes": 30})
    assert answer.status == 201, answer
    assert from_text(answer.json["expires_at"]) == pytest.approx(api.clock() + 1800)
    plain = token_of(answer.json["url"])
    assert api.open(plain)["id"]
    assert api.call("POST", "/v1/gpu/stop", plain).status == 403, "a speaker's token, no more"
    api.clock.advance(1801)
    assert api.call("GET", "/v1/status", plain).status == 401


def test_the_audit_names_the_invite_and_not_its_token(api: Api) -> None:
    made = api.call("POST", "/v1/invites").json
    (event,) = [one for one in api.events() if one["action"] == "invite.open"]
    assert (event["actor"], event["target"]) == ("operator", made["id"])
    assert token_of(made["url"]) not in str(api.events())


def test_an_invite_to_a_booking_ends_with_it(api: Api) -> None:
    end = api.clock() + 7200
    booking = api.call("POST", "/v1/bookings", body={"end": to_text(end)}).json
    made = api.call("POST", "/v1/invites", body={"booking": booking["id"]})
    assert made.json["expires_at"] == to_text(end)
    assert api.call("POST", "/v1/invites", body={"booking": "0" * 16}).status == 404
    api.clock.advance(7300)
    assert api.call("POST", "/v1/invites", body={"booking": booking["id"]}).status == 409


@pytest.mark.parametrize(
    "body",
    [{"minutes": 0}, {"minutes": 99999}, {"minutes": True}, {"booking": 7}, {"minutes": 5, "booking": "a"}, {"x": 1}],
)
def test_bad_input_is_422(api: Api, body: dict[str, object]) -> None:
    answer = api.call("POST", "/v1/invites", body=body)
    assert answer.status == 422
    assert answer.json["detail"].endswith(".")


def test_only_an_operator_invites(api: Api) -> None:
    assert api.call("POST", "/v1/invites", "speaker").status == 403
    assert api.call("POST", "/v1/invites", None).status == 401
