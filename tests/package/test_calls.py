"""Every boto3 call that stands in the code, held against botocore's service models without being made.

The control plane's calls are made and recorded in test_policies.py; this reads those of the operator's command too,
the ones in branches that no test takes included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("chalicelib", "whisperctl")
SERVICES = (
    "apigateway",
    "application-autoscaling",
    "budgets",
    "ce",
    "cloudformation",
    "cloudwatch",
    "dynamodb",
    "ec2",
    "iam",
    "lambda",
    "logs",
    "resourcegroupstaggingapi",
    "s3",
    "service-quotas",
    "sns",
    "ssm",
    "sts",
)


@dataclass(frozen=True)
class Written:
    """A call as it stands in a file; `whole` is False where `**more` adds what cannot be read here."""

    where: str
    operation: str
    parameters: frozenset[str]
    whole: bool


@cache
def operations() -> dict[str, list[Any]]:
    """Input shapes by the name that a client's method has, of every service that has it."""
    session, found = botocore.session.get_session(), dict[str, list[Any]]()
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            found.setdefault(xform_name(name), []).append(model.operation_model(name).input_shape)
    return found


def calls(tree: ast.AST, name: str) -> Iterator[Written]:
    """The AWS calls in a file: by a method's name and parameters that begin with a capital, as AWS's do."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        named = {one.arg for one in node.keywords if one.arg is not None}
        whole = all(one.arg is not None for one in node.keywords) and not node.args
        if named and all(one[0].isupper() for one in named) and node.func.attr in operations():
            yield Written(f"{name}:{node.lineno}", node.func.attr, frozenset(named), whole)


def wrong(call: Written) -> str:
    """What no service's model allows about a call; "" when one does."""
    said = []
    for shape in operations()[call.operation]:
        members = set(shape.members) if shape is not None else set()
        required = set(shape.required_members) if shape is not None else set()
        unknown, missing = call.parameters - members, required - call.parameters if call.whole else set()
        if not unknown and not missing:
            return ""
        said.append(f"{call.where} {call.operation}: unknown {sorted(unknown)}, missing {sorted(missing)}")
    return " or ".join(said)


def test_every_call_that_is_written_fits_its_services_model() -> None:
    found = [
        call
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in calls(ast.parse(path.read_text()), str(path.relative_to(ROOT)))
    ]
    assert len(found) >= 10
    assert [text for call in found if (text := wrong(call))] == []


def test_a_wrong_call_is_found() -> None:
    tree = ast.parse("ssm.send_command(DocumentName='d', InstanceId='i')\ns3.put_object(Bucket='b')\nec2.x(A=1)")
    assert [wrong(call) for call in calls(tree, "f")] == [
        "f:1 send_command: unknown ['InstanceId'], missing []",
        "f:2 put_object: unknown [], missing ['Key']",
    ]
