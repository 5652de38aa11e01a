"""The sweep against an account in which AWS's tagging API forgets late, and a folder that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from whisperctl.deployment.cloud import TAG
from whisperctl.deployment.keep import About, check, read_about, unfinished
from whisperctl.deployment.kinds import KINDS
from whisperctl.deployment.sweep import unknown
from whisperctl.deployment.things import Look
from whisperctl.errors import UsageError

STACK = "whisperlive-prod"
PLACE = (STACK, "123456789012", "eu-central-1")
ARN = "arn:aws:{}:eu-central-1:123456789012:{}"
LISTED = {
    "topic": ARN.format("sns", "whisperlive-prod-Topic-1"),
    "SSM document": ARN.format("ssm", "document/whisperlive-prod-echo"),
    "alarm": ARN.format("cloudwatch", "alarm:whisperlive-prod-TicksMissing-1"),
    "rule": ARN.format("events", "rule/whisperlive-prod-TickTickEvent-1"),
    "API": "arn:aws:apigateway:eu-central-1::/restapis/a1b2c3d4e5/stages/api",
    "function": ARN.format("lambda", "function:whisperlive-prod-tick"),
}
REFUSALS = ("ResourceNotFoundException", "NotFoundException", "InvalidResourceId", "NotFound")


@dataclass
class Service:
    """Any service: answers every operation with the tags, or refuses it with the code."""

    tags: Mapping[str, str] | None
    refusal: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __getattr__(self, operation: str) -> Any:
        def call(**asked: Any) -> dict[str, Any]:
            self.calls.append((operation, asked))
            if self.refusal:
                raise ClientError({"Error": {"Code": self.refusal, "Message": "no"}}, operation)
            listed = [{"Key": key, "Value": value} for key, value in (self.tags or {}).items()]
            if operation == "list_targets_by_rule":
                return {"Targets": []}
            return {"Tags": listed if operation != "list_tags" else self.tags, "TagList": listed, "tags": self.tags}

        return call


@dataclass
class Account:
    """An account whose tagging API lists `arns`, whatever became of them."""

    arns: list[str]
    service: Service

    def client(self, service: str) -> Any:
        return self if service == "resourcegroupstaggingapi" else self.service

    def get_paginator(self, _operation: str) -> Any:
        return self

    def paginate(self, **_asked: Any) -> list[dict[str, Any]]:
        return [{"ResourceTagMappingList": [{"ResourceARN": one} for one in self.arns]}]


@pytest.mark.parametrize("kind", LISTED)
def test_a_thing_of_the_tagging_api_is_one_while_its_own_service_says_so(kind: str) -> None:
    there: Any = Account(list(LISTED.values()), Service({TAG: STACK}))
    (found,) = KINDS[kind].find(Look(there, STACK))
    assert found.kind == kind
    KINDS[kind].delete(there, found)
    operation, asked = there.service.calls[-1]
    assert operation.startswith("delete")
    (given,) = asked.values()
    name = given[0] if isinstance(given, list) else given
    assert name in (LISTED[kind], LISTED[kind].rpartition("/")[2], LISTED[kind].rpartition(":")[2], "a1b2c3d4e5")
    for refusal in REFUSALS:
        gone: Any = Account(list(LISTED.values()), Service(None, refusal))
        assert list(KINDS[kind].find(Look(gone, STACK))) == [], "the tagging API forgets late"
    anothers: Any = Account(list(LISTED.values()), Service({TAG: "another"}))
    assert list(KINDS[kind].find(Look(anothers, STACK))) == []
    refused: Any = Account(list(LISTED.values()), Service(None, "AccessDenied"))
    with pytest.raises(ClientError):
        list(KINDS[kind].find(Look(refused, STACK)))


def test_what_is_of_no_kind_is_named() -> None:
    strange = ARN.format("kinesis", "stream/s")
    account: Any = Account([*LISTED.values(), strange], Service(None))
    assert unknown(account, STACK) == [strange]


def folder_of(path: Path, about: About) -> Path:
    path.mkdir()
    (path / "about.json").write_text(json.dumps({name: getattr(about, name) for name in About.__slots__}))
    return path


def test_an_interrupted_runs_folder_is_gone_on_with_and_no_other(tmp_path: Path) -> None:
    open_one = folder_of(tmp_path / f"{STACK}-kept-2", About(*PLACE))
    ended = folder_of(tmp_path / f"{STACK}-kept-3", About(*PLACE, "2026-11-28T20:00:00", "2026-11-28T20:05:00"))
    other = folder_of(tmp_path / f"{STACK}-kept-4", About(STACK, "210987654321", "eu-central-1"))
    assert unfinished(tmp_path, *PLACE) == open_one
    check(open_one, *PLACE)
    check(tmp_path / "none", *PLACE)
    (tmp_path / "mine").mkdir()
    for taken in (ended, other, tmp_path / "mine"):
        with pytest.raises(UsageError, match="is there already: name another one with --keep"):
            check(taken, *PLACE)
    (open_one / "about.json").write_text("{")
    assert read_about(open_one) is None
    assert unfinished(tmp_path, *PLACE) is None
