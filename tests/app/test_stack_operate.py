"""The operator's commands on the running stack: who may come in, invites, and what they leave in the logs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.stack import Stack, whisperctl
from tests.waiting import wait_until


def run(stack: Stack, *words: str, code: int = 0) -> str:
    done = whisperctl(*words, "--state-dir", str(stack.state_dir))
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def open_again(stack: Stack) -> Iterator[Stack]:
    """The stack, whose edge lets everybody in afterwards."""
    yield stack
    run(stack, "clients", "add", "--everybody")


def page(stack: Stack) -> int:
    with stack.http() as client:
        return client.get(stack.edge_url).status_code


def test_the_edge_lets_in_whom_the_list_names(open_again: Stack) -> None:
    stack = open_again
    assert run(stack, "clients", "list") == "everybody is let in\n"
    planned = run(stack, "clients", "add", "192.0.2.0/24", "--dry-run")
    assert planned == "would let in 192.0.2.0/24; everybody else would be shut out; nothing was changed\n"
    assert page(stack) == 200
    run(stack, "clients", "add", "192.0.2.0/24", "--label", "office")
    wait_until(lambda: page(stack) == 403, 10, "the page to be refused")
    assert stack.call("GET", "/v1/health", via_edge=True).status_code == 200, "the API asks for a token instead"
    run(stack, "clients", "add", "127.0.0.0/8")
    run(stack, "clients", "add", "::1")
    wait_until(lambda: page(stack) == 200, 10, "the page to be there again")
    listed = json.loads(run(stack, "clients", "list", "--json"))
    assert listed["clients"][1] == {"network": "192.0.2.0/24", "label": "office"}
    run(stack, "clients", "remove", "192.0.2.0/24")
    run(stack, "clients", "remove", "203.0.113.0/24", code=1)
    assert "192.0.2.0/24" not in run(stack, "clients", "list")


def test_an_invite_is_a_link_that_opens(stack: Stack) -> None:
    made = json.loads(run(stack, "invite", "--minutes", "5", "--json"))
    base, _, token = made["url"].partition("/#token=")
    assert base == stack.edge_url
    with stack.http() as client:
        held = {"Authorization": f"Bearer {token}"}
        assert client.get(f"{base}/api/v1/status", headers=held).status_code == 200
        run(stack, "token", "revoke", made["id"])
        assert client.get(f"{base}/api/v1/status", headers=held).status_code == 401


def test_the_picture_of_an_invite_is_its_owners_alone(stack: Stack) -> None:
    picture = stack.state_dir / "invite.svg"
    run(stack, "invite", "--minutes", "5", "--qr", str(picture))
    assert picture.stat().st_mode & 0o777 == 0o600
    assert picture.read_text().startswith("<?xml")


def test_refresh_tells_the_edge_over_ssm(stack: Stack) -> None:
    before = len(stack.calls("SendCommand"))
    assert run(stack, "refresh").startswith("the edge is told to forward to 127.")
    assert len(stack.calls("SendCommand")) == before + 1
