"""`up` in an empty account: twice is once, and where it was interrupted it is gone on with."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.world import STACK, Cut, World
from whisperctl.deployment.cloud import TAG
from whisperctl.deployment.record import differences, read

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("empty account")]

BETWEEN_AND_INSIDE = (
    # the package
    Cut("CreateBucket", "before"),
    Cut("CreateBucket"),
    Cut("PutObject", number=1),
    # the stack
    Cut("CreateChangeSet"),
    Cut("ExecuteChangeSet", "before"),
    Cut("ExecuteChangeSet"),
    Cut("DescribeStackEvents", by=signal.SIGINT),
    # the releases
    Cut("PutObject", number=2),
    Cut("PutObject", number=6, by=signal.SIGINT),
    # the rollouts
    Cut("UpdateItem", number=1),
    Cut("POST /v1/releases/edge"),
    Cut("GET /v1/rollouts/", number=2),
    Cut("POST /v1/releases/gpu", "before", by=signal.SIGINT),
    # the hand-over
    Cut("POST /v1/releases/gpu"),
    Cut("UpdateItem", number=7),
)
"""In the order in which a run comes by them; each later run goes on from the one before."""
RECORDS = Path(__file__).parent / "records"
WRITES = ("Create", "Put", "Update", "Delete", "Execute", "Run", "Send", "Modify", "Allocate", "Terminate")


def tokens(world: World) -> list[dict[str, Any]]:
    """The tokens of the table."""
    import json

    pages = world.client("dynamodb").query(
        TableName=STACK, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": "tokens"}}
    )
    return [json.loads(one["d"]["S"]) for one in pages["Items"]]


def machines(world: World) -> list[str]:
    found = world.client("ec2").describe_instances(Filters=[{"Name": f"tag:{TAG}", "Values": [STACK]}])
    live = [one for each in found["Reservations"] for one in each["Instances"]]
    return sorted(one["InstanceType"] for one in live if one["State"]["Name"] != "terminated")


def test_up_interrupted_between_and_inside_its_phases_goes_on_and_twice_is_once(world: World) -> None:
    met = 0
    for cut in BETWEEN_AND_INSIDE:
        ran = world.up(cut)
        if ran.report:
            break  # this run came to its end before the cut
        met += 1
        expected = -cut.by if cut.by == signal.SIGKILL else 130
        assert ran.exit_code == expected, (cut, ran)
    assert met == len(BETWEEN_AND_INSIDE), f"run {met + 1} was to be cut at {cut} and came to its end"
    last = world.up()
    assert last.exit_code == 0, last
    assert [one["state"] for one in last.report["phases"]] == ["done"] * 5
    stack = world.stack()
    assert stack is not None
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert machines(world) == ["g4dn.xlarge", "t4g.micro"]
    first = [one for one in tokens(world) if one["label"] == "first operator" and one["revoked_at"] is None]
    assert [one["role"] for one in first] == ["operator"]
    assert all(one["expires_at"] is not None for one in tokens(world))

    before = len(world.calls())
    again = world.up()
    assert again.exit_code == 0, again
    assert again.report["changed"] is False, again
    assert "token" not in again.report
    writes = [one["operation"] for one in world.calls()[before:] if one["operation"].startswith(WRITES)]
    # Asking CloudFormation what would change is a change set that is made and taken away.
    assert writes == ["CreateChangeSet", "DeleteChangeSet"]
    puts = [
        one for one in world.calls()[before:] if one["service"] == "s3" and one["operation"].startswith("PUT")
    ]
    assert puts == []

    changed = world.up(IdleMinutes="7")
    assert changed.exit_code == 0, changed
    stack = world.stack()
    assert stack is not None
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert {"ParameterKey": "IdleMinutes", "ParameterValue": "7"} in stack["Parameters"]


def test_a_resource_that_cannot_be_made_is_named_and_the_next_run_begins_anew(world: World) -> None:
    world.faults(
        stacks=[{"resource": "EdgeAddress", "reason": "The maximum number of addresses has been reached."}]
    )
    failed = world.up()
    assert failed.exit_code == 1
    assert failed.failure.startswith("the stack is ROLLBACK_COMPLETE: EdgeAddress (AWS::EC2::EIP): ")
    assert "The maximum number of addresses has been reached." in failed.failure
    world.faults()
    assert world.up(Cut("PutObject", number=1)).killed  # the first file of a release: the stack is there
    stack = world.stack()
    assert stack is not None
    assert stack["StackStatus"] == "CREATE_COMPLETE"


def test_an_account_without_gpus_is_told_so_before_anything_is_made_and_a_record_fits(
    world: World, tmp_path: Path
) -> None:
    world.faults(quota=True)
    refused = world.up()
    assert refused.exit_code == 1
    assert refused.failure.startswith("this account may run 0 virtual CPUs of GPU machines in us-east-1")
    assert (world.stack(), world.tagged()) == (None, set())
    world.faults()
    assert world.up(record=tmp_path / "record.json").exit_code == 0
    # What real accounts answered, once one was recorded, and what this stand-in did when it was.
    calls = read(tmp_path / "record.json")
    assert len(calls) > 30
    records = sorted(RECORDS.glob("*.json"))
    assert records
    for path in records:
        assert differences(read(path), calls) == [], path.name
