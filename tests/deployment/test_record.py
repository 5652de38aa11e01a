"""What `--record` writes: nothing of the operator's is in it, and it shows where the stand-in is wrong."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from whisperctl.deployment.record import Recorder, differences, read
from whisperctl.errors import UsageError

RECORDS = Path(__file__).parent / "records"


def test_nothing_of_the_operators_is_in_a_record() -> None:
    recorder = Recorder(domain="speech.mine.net")
    own = {
        "Account": "210987654321",
        "Arn": "arn:aws:sts::210987654321:assumed-role/Admin/jane.doe",
        "UserId": "AROAEXAMPLEEXAMPLE123:jane.doe",
        "Outputs": [
            {"OutputValue": "https://speech.mine.net"},
            {"OutputValue": "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/api"},
            {"OutputValue": "198.51.100.77"},
        ],
        "Email": "jane.doe@mine.net",
        "Token": "wle_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
        "Url": "https://b.s3.amazonaws.com/k?X-Amz-Signature=abcdef0123456789&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE",
        "Item": {"d": {"S": "secret"}},
        "Range": "10.79.0.0/24",
    }
    text = json.dumps(recorder.redacted(own))
    for word in ("210987654321", "jane", "mine.net", "a1b2c3d4e5", "198.51.100.77", "wle_", "AKIA", "AROA", "secret"):
        assert word not in text, word
    assert "abcdef0123456789" not in text
    assert "10.79.0.0/24" in text, "a private network is no secret, and CIDR blocks are compared"
    again = recorder.redacted({"a": "198.51.100.77", "b": "198.51.100.78"})
    assert again["a"] in text, "the same address is the same word"
    assert again["a"] != again["b"]


def events(*states: str, kind: str = "AWS::EC2::EIP") -> dict[str, Any]:
    listed = [
        {"EventId": f"E-{state}", "LogicalResourceId": "E", "ResourceType": kind, "ResourceStatus": state}
        for state in reversed(states)
    ]
    return call("cloudformation", "DescribeStackEvents", {"StackEvents": listed})


def call(service: str, operation: str, answer: Any = None, error: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"service": service, "operation": operation, "parameters": {}, "at_s": 0.0}
    return made | ({"error": {"code": error}} if error else {"answer": answer})


STANDIN = [
    call("ec2", "AllocateAddress", {"PublicIp": "203.0.113.1", "AllocationId": "eipalloc-1"}),
    call("s3", "HeadBucket", error="404"),
    events("CREATE_IN_PROGRESS", "CREATE_COMPLETE"),
]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r[0]["answer"].pop("AllocationId"), "ec2 AllocateAddress: the stand-in gives AllocationId"),
        (lambda r: r[0]["answer"].update(PublicIp=7), "PublicIp is a text in the stand-in and was a number"),
        (lambda r: r[1]["error"].update(code="403"), "s3 HeadBucket: 403 was recorded, and the stand-in never"),
        (lambda r: r.append(call("ec2", "DescribeVpcs", {})), "ec2 DescribeVpcs: recorded, and not asked of"),
        (
            lambda r: r.__setitem__(2, events("CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS ", "CREATE_COMPLETE")),
            "AWS::EC2::EIP: went through",
        ),
    ],
)
def test_each_way_in_which_the_stand_in_is_wrong_is_found(change: Any, sentence: str) -> None:
    recorded = copy.deepcopy(STANDIN)
    assert differences(recorded, STANDIN) == []
    change(recorded)
    assert any(sentence in one for one in differences(recorded, STANDIN)), differences(recorded, STANDIN)


def test_a_file_that_is_no_record_is_a_sentence(tmp_path: Path) -> None:
    for text in ("", "[]", '{"format": 9, "calls": []}'):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(UsageError, match="is no record"):
            read(tmp_path / "r.json")


def test_records_hold_nothing_of_anybodys() -> None:
    for path in RECORDS.glob("*.json"):
        text = path.read_text()
        assert set(re.findall(r"(?<!\d)\d{12}(?!\d)", text)) <= {"123456789012"}
        assert not re.search(r"wle_|AKIA|ASIA|BEGIN [A-Z ]*PRIVATE", text), path.name
