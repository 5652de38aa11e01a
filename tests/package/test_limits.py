"""Sizes, counts and names against the limits that AWS documents, at the longest values that the template admits."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from chalicelib.domain import remote
from tests.package.cloudformation import transformed
from tests.package.conftest import Made
from whisperctl.documents import DIRECTORY, documents

pytestmark = pytest.mark.timeout(600)
LONGEST_STACK = "w" * 40
ARN = 160
"""Longer than any ARN or address that a Ref gives here."""


def longest(value: Any, made: Made) -> int:
    """The most bytes that a value of the template can have once it is resolved."""
    if not isinstance(value, dict):
        return len(str(value))
    ((kind, inside),) = value.items()
    if kind == "Ref":
        parameter = made.template["Parameters"].get(inside)
        if parameter is None:
            return len(LONGEST_STACK) if inside == "AWS::StackName" else ARN
        if "AllowedValues" in parameter:
            return max(len(str(one)) for one in parameter["AllowedValues"])
        return int(parameter.get("MaxLength") or len(str(parameter["MaxValue"])) + 7)
    if kind == "Fn::If":
        return max(longest(one, made) for one in inside[1:])
    if kind == "Fn::Sub":
        names = re.findall(r"\$\{([\w:.]+)}", inside)
        return len(inside) + sum(longest({"Ref": one}, made) for one in names)
    return ARN


def strings(value: Any, key: str) -> list[str]:
    """Every text that stands under `key` somewhere within."""
    if isinstance(value, dict):
        found = [value[key]] if isinstance(value.get(key), str) else []
        return found + [text for one in value.values() for text in strings(one, key)]
    return [text for one in value for text in strings(one, key)] if isinstance(value, list) else []


def test_the_template_is_within_cloudformations_limits(made: Made) -> None:
    for template in (made.template, transformed(made.template)):
        assert len(json.dumps(template).encode()) < 1_000_000
        assert len(template["Resources"]) <= 500
        assert len(template["Outputs"]) <= 200
    parameters = made.template["Parameters"]
    assert len(parameters) <= 200
    for name, one in parameters.items():
        assert re.fullmatch(r"[A-Za-z0-9]{1,255}", name)
        assert len(one.get("Description", "")) <= 4000
        open_ended = one["Type"] == "String" and "AllowedValues" not in one and "AllowedPattern" not in one
        assert not open_ended or one["MaxLength"] <= 4096, f"{name} takes anything"
    for name in made.resources:
        assert re.fullmatch(r"[A-Za-z0-9]{1,255}", name)


def test_environments_are_under_four_kilobytes(made: Made) -> None:
    for name, one in made.of_type("AWS::Serverless::Function").items():
        variables = one["Environment"]["Variables"]
        size = sum(len(key) + longest(value, made) for key, value in variables.items())
        assert size < 4096, f"{name}: {size}"
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]+", key) for key in variables)


def test_names_fit(made: Made) -> None:
    stack = LONGEST_STACK
    assert 3 <= len(stack) <= 255  # the table's
    for name in documents(stack):
        assert re.fullmatch(r"[A-Za-z0-9_.-]{3,128}", name)
        assert not name.lower().startswith(("aws", "amazon"))
    for one in made.of_type("AWS::Logs::LogGroup").values():
        name = one["LogGroupName"]["Fn::Sub"].replace("${AWS::StackName}", stack)
        assert re.fullmatch(r"[.\-_/#A-Za-z0-9]{1,512}", name)
    for sid in (text for role in made.of_type("AWS::IAM::Role").values() for text in strings(role, "Sid")):
        assert re.fullmatch(r"[A-Za-z0-9]*", sid)
    for tag in (one for one in strings(made.resources, "Key") if not one.startswith("${")):
        assert len(tag) <= 128
        assert not tag.startswith("aws:")


def test_security_groups_say_only_what_ec2_lets_them_say(made: Made) -> None:
    """No apostrophes, for one: EC2 refuses the whole group."""
    kinds = ("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
    found = [
        text
        for kind in kinds
        for one in made.of_type(kind).values()
        for text in strings(one, "Description") + strings(one, "GroupDescription")
    ]
    assert len(found) >= 8
    for text in found:
        assert re.fullmatch(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}", text), text


def test_alarms_and_logs_are_short_enough(made: Made) -> None:
    for one in made.of_type("AWS::CloudWatch::Alarm").values():
        assert len(one["AlarmDescription"]) <= 1024
        assert len(one["AlarmActions"]) <= 5
    assert len(made.resources["RestAPI"]["Properties"]["AccessLogSetting"]["Format"]) <= 3072


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.json")), ids=lambda one: one.stem)
def test_a_document_is_within_ssms_limits(path: Any) -> None:
    content = json.loads(path.read_text())
    assert len(json.dumps(content).encode()) < 64 * 1024
    assert content["schemaVersion"] == "2.2"
    assert len(content.get("parameters", {})) <= 200
    used = set(re.findall(r"{{ *(\w+) *}}", json.dumps(content["mainSteps"])))
    assert used == set(content.get("parameters", {}))
    for name, one in content.get("parameters", {}).items():
        assert re.fullmatch(r"[A-Za-z0-9]{1,128}", name)
        # Whatever is pasted into a script has a pattern that says what it may be, whole.
        assert one["allowedPattern"].startswith("^")
        assert one["allowedPattern"].endswith("$")
        assert re.fullmatch(one["allowedPattern"], one.get("default", "")) or "default" not in one


def test_a_commands_parameters_are_within_what_ssm_takes() -> None:
    """The longest call: addresses signed by a role are about 2,000 characters, the pattern admits 4,000."""
    address = "https://" + "a" * 3990
    runner = remote.Runner(address, "0" * 64)
    command = remote.release_step(
        LONGEST_STACK,
        verb="configure",
        target="gpu",
        sha256="0" * 64,
        runner=runner,
        until=1e9,
        timeout_s=1800,
        plan=address,
        output="rollouts/0123456789abcdef/output/configure",
    )
    assert len(json.dumps(command.parameters)) < 64 * 1024
    assert len(command.comment) <= 100
    assert len(command.output) <= 500
    assert 30 <= remote.DELIVERY_TIMEOUT_S <= 2_592_000
