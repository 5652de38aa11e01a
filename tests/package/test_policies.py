"""Least privilege, both ways: every call is allowed by the policy of the function that makes it, and every statement
is used by a call. The handlers run on the stack as it was created, so policies and names are the resolved ones."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import cfnlint
import pytest
from botocore import xform_name

from gpu_bootstrap.hostlink.settings import Settings as LinkSettings
from tests.package.authorization import ACTIONS
from tests.package.conftest import Made
from tests.package.iam import Need, Statement, allowed
from tests.package.live import STACK, VISITORS, Live, deployed, no_room
from tests.package.recorder import needs

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ("api_handler", "probe", *VISITORS)
HOSTS = ("gpu", "edge")
AGENT = ("IsThere", "CommandsAndSessions")
"""The statements for AWS's own SSM agent, whose calls no test of ours can record."""


@pytest.fixture(scope="module")
def live(fit: dict[str, Any]) -> Iterator[Live]:
    """The stack after everything that the control plane does was done once by each function that may do it."""
    with pytest.MonkeyPatch.context() as monkeypatch, deployed(fit, monkeypatch) as made:
        everything(made)
        yield made


def everything(live: Live) -> None:
    """Every kind of act, by everyone who may be the one to do it."""
    # Two GPU machines were just created and run; nobody wants them.
    live.visit("tick")
    for host in (live.gpu, live.edge):
        live.report(host)
    the_api(live)
    for function in VISITORS:
        a_rollout(live, function)
        acts(live, function)
    probes(live)


def the_api(live: Live) -> None:
    session = live.call("POST", "/v1/sessions", {"language": "en"}, Idempotency_Key="k1")
    for path in ("/v1/status", "/v1/events", "/v1/costs", "/v1/costs?period=month&format=json", "/v1/bookings"):
        live.call("GET", path)
    live.call("POST", f"/v1/sessions/{session['id']}/heartbeat", {"lost_seconds": 0})
    live.call("GET", f"/v1/sessions/{session['id']}")
    live.call("DELETE", f"/v1/sessions/{session['id']}")
    live.clock.advance(2)
    live.call("POST", "/v1/gpu/restart", {"force": True})
    live.clock.advance(2)
    live.call("POST", "/v1/gpu/stop", {"force": True})
    live.recorder.refuse = no_room("g4dn.xlarge")
    live.clock.advance(2)
    live.call("POST", "/v1/gpu/start", {"minutes": 5})
    live.recorder.refuse = no_room("nothing")
    live.clock.advance(2)
    live.call("POST", "/v1/gpu/stop", {"force": True})
    live.call("POST", "/v1/edge/refresh")
    rollout = live.begin_rollout()
    for _ in range(12):
        live.clock.advance(2)
        if live.call("GET", f"/v1/rollouts/{rollout}")["state"] != "running":
            break
    assert live.steps(rollout)[0] == "succeeded"


def probes(live: Live) -> None:
    """A canary, asked for and by itself; a hung server and an edge that forwards to nobody, mended by a probe."""
    live.call("POST", "/v1/gpu/start", {"minutes": 600})
    live.visit("tick")
    minute(live, 0)
    live.clock.advance(300)
    minute(live)
    probed = live.call("POST", "/v1/probe")
    assert probed["ok"], probed
    well = live.dialler.heard
    live.dialler.heard = replace(well, words="", problem="no words came", final_s=None)
    live.clock.advance(1000)
    for _ in range(2):
        minute(live)
    live.dialler.heard = well
    live.clock.advance(1000)
    minute(live)
    live.forwards = ("10.9.9.9",)
    for _ in range(2):
        minute(live)
    live.forwards = ()
    live.call("POST", "/v1/gpu/stop", {"force": True})


def minute(live: Live, seconds: float = 60) -> None:
    live.clock.advance(seconds)
    streaming = {"model": "tiny.en", "models": ["tiny.en"], "device": "cuda", "max_streams": 4, "streams": []}
    live.report(live.serving.instance_id, **streaming)
    live.report(live.edge, upstreams=list(live.forwards or (str(live.serving.private_ip),)))
    live.visit("tick")
    live.visit("probe")


def a_rollout(live: Live, function: str) -> None:
    """Begun over the API, carried through by this function."""
    rollout = live.begin_rollout()
    for _ in range(12):
        live.visit(function)
        if live.steps(rollout)[0] != "running":
            break
    assert live.steps(rollout)[0] == "succeeded"


def acts(live: Live, function: str) -> None:
    """A start for which AWS has no room at first, a restart and a stop, each left to this function."""
    live.recorder.refuse = no_room("g4dn.xlarge")
    left_to(live, function, "POST", "/v1/gpu/start", {"minutes": 60}, "StartInstances")
    live.recorder.refuse = no_room("nothing")
    live.visit("tick")  # EC2's "running" is seen
    left_to(live, function, "POST", "/v1/gpu/restart", {"force": True}, "SendCommand")
    left_to(live, function, "POST", "/v1/gpu/stop", {"force": True}, "StopInstances")


def left_to(live: Live, function: str, method: str, path: str, body: Any, operation: str) -> None:
    rollout = ""
    with live.pass_held():
        live.call(method, path, body)
        if function == "command_event":
            # It looks at rollouts only, and passes when one of them ends.
            rollout = live.begin_rollout()
            for _ in range(12):
                if live.steps(rollout)[1][-1] == "prune":
                    break
                live.visit(function)
    before = len(live.recorder.calls)
    live.visit(function)
    made = [one.operation for one in live.recorder.calls[before:]]
    assert operation in made, (function, path, made)
    assert not rollout or live.steps(rollout)[0] == "succeeded"


def asked(live: Live, function: str) -> list[Need]:
    """The permissions that the function's calls needed, each once, and those of the Lambda service in its name."""
    found = {
        (one.action, one.resource, tuple(sorted(one.context.items()))): one
        for call in live.recorder.calls
        if call.actor == function
        for one in needs(call, live.account)
    }
    group = f"/aws/lambda/{STACK}-{'api' if function == 'api_handler' else function.replace('_', '-')}"
    stream = live.account.arn("logs", f"log-group:{group}:log-stream:2026/11/28/[$LATEST]0123456789abcdef")
    return [*found.values(), *(Need(f"logs:{verb}", stream) for verb in ("CreateLogStream", "PutLogEvents"))]


def asked_by_host(live: Live, role: str) -> list[Need]:
    """A host's own calls: its report, and the outputs that the agent puts where SendCommand said."""
    host = live.gpu if role == "gpu" else live.edge
    link = LinkSettings(role, plan_settings(live)["LINK_API_URL"], host, "r1")
    address = urlsplit(link.report_url)
    api, (stage, path) = address.netloc.partition(".")[0], address.path[1:].split("/", 1)
    # The plan's address names the API that was called; in this stack it is the stack's own.
    assert (api, stage) == ("a1b2c3d4e5", "api")
    rest_api = live.outputs["RestAPIId"]
    found = [Need("execute-api:Invoke", live.account.arn("execute-api", f"{rest_api}/{stage}/POST/{path}"))]
    for call in live.recorder.calls:
        if call.operation == "SendCommand" and "OutputS3BucketName" in call.parameters:
            prefix = f"{call.parameters['OutputS3BucketName']}/{call.parameters['OutputS3KeyPrefix']}"
            key = f"{prefix}/e8d3c0e4/{host}/awsrunShellScript/run/stdout"
            found.append(Need("s3:PutObject", f"arn:aws:s3:::{key}"))
    assert len(found) > 1
    return found


def plan_settings(live: Live) -> dict[str, str]:
    """The settings of the last plan that was written for a host."""
    plans = [one for one in live.recorder.calls if one.operation == "PutObject"]
    settings: dict[str, str] = json.loads(plans[-1].parameters["Body"])["settings"]
    return settings


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_call_is_allowed_by_the_functions_own_policy(live: Live, function: str) -> None:
    refused = [one for one in asked(live, function) if not allowed(live.policies[function], one)]
    assert refused == [], refused[:3]


@pytest.mark.parametrize("role", HOSTS)
def test_every_call_of_a_host_is_allowed_by_its_role(live: Live, role: str) -> None:
    refused = [one for one in asked_by_host(live, role) if not allowed(live.policies[role], one)]
    assert refused == [], refused[:3]


@pytest.mark.parametrize("who", [*FUNCTIONS, *HOSTS])
def test_every_statement_is_used_each_action_and_each_resource(live: Live, who: str) -> None:
    made = asked(live, who) if who in FUNCTIONS else asked_by_host(live, who)
    for statement in live.policies[who]:
        if who in HOSTS and statement.sid in AGENT:
            continue
        used = [one for one in made if statement.covers(one)]
        unused = set(statement.actions) - {one.action for one in used}
        assert not unused, f"{who} may, and never did ({statement.sid}): {unused}"
        for resource in statement.resources:
            one = Statement(statement.sid, "Allow", statement.actions, (resource,), {})
            assert any(one.covers(need) for need in used), f"{who} never touched {resource} ({statement.sid})"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_belongs_to_others_is_refused(live: Live, function: str) -> None:
    arn, account = live.account.arn, live.account
    tag = "aws:ResourceTag/whisperlive-edge"
    other = {f"{tag}:stack": "another", f"{tag}:role": "gpu"}
    mine = {f"{tag}:stack": STACK, f"{tag}:role": "edge"}
    for need in (
        Need("dynamodb:Query", arn("dynamodb", "table/another")),
        Need("dynamodb:DeleteTable", arn("dynamodb", f"table/{STACK}")),
        Need("ec2:StopInstances", arn("ec2", "instance/i-0"), {}),
        Need("ec2:StopInstances", arn("ec2", "instance/i-0"), other),
        Need("ec2:StopInstances", arn("ec2", f"instance/{live.edge}"), mine),
        Need("ec2:TerminateInstances", arn("ec2", f"instance/{live.gpu}"), dict(account.tags[live.gpu])),
        Need("ssm:SendCommand", "arn:aws:ssm:eu-central-1::document/AWS-RunShellScript"),
        Need("ssm:SendCommand", arn("ssm", "document/another-release")),
        Need("s3:PutObject", f"arn:aws:s3:::{live.outputs['BucketName']}/files/abc"),
        Need("s3:GetObject", "arn:aws:s3:::another/files/abc"),
    ):
        assert not allowed(live.policies[function], need), need


@pytest.mark.parametrize("role", HOSTS)
def test_a_host_may_neither_read_the_bucket_nor_write_what_others_obey(live: Live, role: str) -> None:
    bucket = f"arn:aws:s3:::{live.outputs['BucketName']}"
    for need in (
        Need("s3:GetObject", f"{bucket}/files/abc"),
        Need("s3:PutObject", f"{bucket}/rollouts/r1/i-other.json"),
        Need("s3:PutObject", f"{bucket}/releases/gpu/latest"),
        Need("ssm:GetParameter", live.account.arn("ssm", "parameter/secret")),
        Need("execute-api:Invoke", live.account.arn("execute-api", f"{live.outputs['RestAPIId']}/api/GET/v1/status")),
    ):
        assert not allowed(live.policies[role], need), need


def test_every_operation_that_the_adapters_name_was_recorded(live: Live) -> None:
    """Each boto3 operation that stands in chalicelib/aws, as an attribute or as a word, was called and validated."""
    session = botocore.session.get_session()
    known = {
        xform_name(name)
        for service in ("dynamodb", "ec2", "s3", "ssm", "sns", "cloudwatch")
        for name in session.get_service_model(service).operation_names
    }
    named: set[str] = set()
    for path in sorted((ROOT / "chalicelib" / "aws").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            word = (
                node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else ""
            )
            named |= {word} & known if isinstance(word, str) else set()
    recorded = {xform_name(one.operation) for one in live.recorder.calls}
    assert len(named) >= 10
    assert named <= recorded, named - recorded


@pytest.mark.parametrize("who", [*FUNCTIONS, *HOSTS])
def test_actions_know_the_resources_and_conditions_they_are_limited_by(live: Live, who: str) -> None:
    def like(patterns: tuple[str, ...], text: str) -> bool:
        return Statement("", "Allow", ("any",), patterns, {}).covers(Need("any", text))

    for statement in live.policies[who]:
        keys = {key for tests in statement.conditions.values() for key in tests}
        for action in statement.actions:
            assert "*" not in action
            fact = ACTIONS[action]
            if not fact.resources:
                assert statement.resources == ("*",), f"AWS limits {action} to no resource"
            for resource in statement.resources:
                assert (resource == "*") == (not fact.resources), f"{statement.sid}: {action} on {resource}"
                fits = any(
                    Statement("", "Allow", ("x",), (one,), {}).covers(Need("x", resource)) for one in fact.resources
                )
                assert fits or resource == "*", f"{action} knows no resource like {resource}"
            for key in keys:
                assert like(fact.keys, key), f"{action} does not know the condition key {key}"


def test_the_table_of_actions_agrees_with_the_linters(live: Live) -> None:
    """cfn-lint brings AWS's list of actions, and which of them can be limited to a resource."""
    listed = json.loads((Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text())
    used = {action for statements in live.policies.values() for one in statements for action in one.actions}
    assert set(ACTIONS) == used
    for action, fact in ACTIONS.items():
        service, _, name = action.partition(":")
        known = listed[service]["Actions"][name.lower()]
        assert bool(known.get("Resources")) == bool(fact.resources), action


def test_no_policy_is_another_stacks_or_larger_than_it_may_be(made: Made) -> None:
    for name, role in made.of_type("AWS::IAM::Role").items():
        inline = role.get("Policies", [])
        # AWS's limit for all inline policies of a role together, blanks not counted.
        assert sum(len(json.dumps(one["PolicyDocument"]).replace(" ", "")) for one in inline) < 10_240, name
        assert "whisperlive-prod" not in json.dumps(inline)
        assert len(json.dumps(role["AssumeRolePolicyDocument"]).replace(" ", "")) < 2_048
