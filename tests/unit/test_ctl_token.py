"""`whisperctl token` on the table of a local stack, through the calls it would make on AWS."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chalicelib.aws.store import table_definition
from tests.unit.local_cloud import Cloud
from whisperctl.cli import cli


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """The AWS stand-in with the table, and a stack.json that names it."""
    cloud = Cloud(tmp_path)
    cloud.client("dynamodb").create_table(**table_definition("local"))
    about = {"edge_url": "https://localhost:1", "api_url": "http://127.0.0.1:1", "aws_endpoint": cloud.server.url}
    (tmp_path / "stack.json").write_text(json.dumps(about))
    yield cloud
    cloud.client("dynamodb").delete_table(TableName="local")
    cloud.close()


@pytest.fixture
def state_dir(cloud: Cloud, tmp_path: Path) -> Path:  # noqa: ARG001 - the stand-in must run
    """The state directory of that stand-in."""
    return tmp_path


def token(state_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["token", *arguments, "--state-dir", str(state_dir)], env={"TABLE_NAME": ""})


def test_a_token_is_added_listed_and_revoked(state_dir: Path) -> None:
    before = dict(os.environ)
    added = token(state_dir, "add", "speaker", "--minutes", "60", "--label", "Monday talk")
    assert added.exit_code == 0, added.output
    plain = added.stdout.strip()
    assert plain.startswith("wle_")

    listed = token(state_dir, "list", "--json")
    assert plain not in listed.output, "the token itself is not known any more"
    (entry,) = json.loads(listed.stdout)
    assert (entry["role"], entry["label"], entry["state"]) == ("speaker", "Monday talk", "valid")
    assert "Monday talk" in token(state_dir, "list").stdout

    assert token(state_dir, "revoke", entry["id"]).exit_code == 0
    assert json.loads(token(state_dir, "list", "--json").stdout)[0]["state"] == "revoked"
    assert dict(os.environ) == before, "the environment is as it was"


def test_a_token_lives_by_the_clock_of_its_stack(cloud: Cloud, state_dir: Path) -> None:
    cloud.advance(3600)
    assert token(state_dir, "add", "viewer", "--minutes", "10").exit_code == 0
    assert [entry["state"] for entry in json.loads(token(state_dir, "list", "--json").stdout)] == ["valid"]
    cloud.advance(601)
    assert [entry["state"] for entry in json.loads(token(state_dir, "list", "--json").stdout)] == ["expired"]


def test_ticket_keys_are_rotated_and_dropped(cloud: Cloud, state_dir: Path) -> None:
    first = json.loads(token(state_dir, "rotate-keys", "--json").stdout)
    second = json.loads(token(state_dir, "rotate-keys", "--json").stdout)
    assert second["kids"] == [first["kid"], second["kid"]]
    said = token(state_dir, "rotate-keys").stdout
    assert f"{first['kid']}, {second['kid']} still opens streams" in said
    third = json.loads(token(state_dir, "rotate-keys", "--drop", "--json").stdout)
    assert third["kids"] == [third["kid"]]
    stored = cloud.client("dynamodb").scan(TableName="local")["Items"]
    secret = json.dumps(stored)
    assert all(one not in secret for one in first["kids"]), "the older keys are gone"


def test_mistakes_are_2(state_dir: Path, tmp_path: Path) -> None:
    assert token(state_dir, "add", "king").exit_code == 2
    unknown = token(state_dir, "revoke", "000000000000")
    assert unknown.exit_code == 2
    assert "token list" in unknown.stderr
    assert token(tmp_path / "nowhere", "list").exit_code == 2


def test_a_stand_in_that_is_gone_is_5(tmp_path: Path) -> None:
    about = {"edge_url": "https://localhost:1", "api_url": "http://127.0.0.1:1", "aws_endpoint": "http://127.0.0.1:1"}
    (tmp_path / "stack.json").write_text(json.dumps(about))
    result = token(tmp_path, "list")
    assert result.exit_code == 5
    assert "does not answer" in result.stderr
