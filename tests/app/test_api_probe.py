"""POST /v1/probe on the whole control plane: who may, what it answers, and what the status keeps of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.aws.commands import SsmCommands
from chalicelib.aws.store import DynamoStore
from chalicelib.domain.probes import LayerName
from chalicelib.errors import Unavailable
from chalicelib.net.dialler import NetDialler
from tests.app.api import Api, control_plane
from tests.fakes import FakeDialler


@pytest.fixture
def dialler(monkeypatch: pytest.MonkeyPatch) -> FakeDialler:
    """Nobody is dialled in earnest; and moto has no agents, so all are connected."""
    fake = FakeDialler()
    for name in ("ask_edge", "speak"):
        monkeypatch.setattr(NetDialler, name, lambda _self, *given, _name=name: getattr(fake, _name)(*given))
    monkeypatch.setattr(SsmCommands, "connected", lambda _self, hosts: frozenset(hosts))
    return fake


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, dialler: FakeDialler) -> Iterator[Api]:  # noqa: ARG001  # before anything else
    with control_plane(monkeypatch) as made:
        yield made


def test_an_operator_probes_and_the_status_keeps_it(api: Api, dialler: FakeDialler) -> None:
    assert api.call("GET", "/v1/status", "viewer").json["last_probe"] is None
    api.awake()
    answer = api.call("POST", "/v1/probe", "operator")
    assert (answer.status, answer.json["ok"], answer.json["cause"]) == (200, True, None)
    assert [one["name"] for one in answer.json["layers"]] == [one.value for one in LayerName]
    assert set(answer.json["layers"][0]) == {"name", "verdict", "ms", "detail", "remedy"}
    assert len(dialler.spoken) == 1
    kept = api.call("GET", "/v1/status", "viewer").json["last_probe"]
    assert kept["layers"] == answer.json["layers"]
    assert (kept["trigger"], kept["repairs"], kept["failing_since"]) == ("POST /v1/probe", [], None)


@pytest.mark.parametrize("role", ["viewer", "speaker"])
def test_nobody_else_does(api: Api, role: str, dialler: FakeDialler) -> None:
    refused = api.call("POST", "/v1/probe", role)
    assert refused.status == 403
    assert dialler.asked == []


def test_it_takes_no_field(api: Api) -> None:
    assert api.call("POST", "/v1/probe", "operator", {"canary": True}).status == 422


def test_without_its_table_the_refusal_names_the_table(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def mute(*_: object) -> Any:
        raise Unavailable("The table does not answer (ThrottlingException).")

    monkeypatch.setattr(DynamoStore, "get", mute)
    refused = api.call("POST", "/v1/probe", "operator")
    assert (refused.status, refused.json["cause"]) == (503, "table")
    assert "DynamoDB" in refused.json["remedy"]
