"""Events as AWS sends them to a Lambda, whole: those of API Gateway, EventBridge's schedule, EC2 and SSM."""

from __future__ import annotations

import re
from typing import Any

ACCOUNT = "123456789012"


def rest(
    method: str,
    path: str,
    resource: str | None = None,
    *,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    user_arn: str | None = None,
    api_id: str = "a1b2c3d4e5",
    region: str = "eu-central-1",
) -> dict[str, Any]:
    """A REST API's proxy event; `resource` is the path with its names, `user_arn` the caller that IAM vouches for."""
    plain, _, query = path.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    resource = resource or plain
    domain = f"{api_id}.execute-api.{region}.amazonaws.com"
    sent = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Host": domain,
        "User-Agent": "whisperctl",
        "X-Amzn-Trace-Id": "Root=1-6929f2a0-0123456789abcdef01234567",
        "X-Forwarded-For": "203.0.113.7, 10.0.0.1",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    } | (headers or {})
    return {
        "resource": resource,
        "path": plain,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {name: value for name, _, value in pairs} or None,
        "multiValueQueryStringParameters": {name: [value] for name, _, value in pairs} or None,
        "pathParameters": _names(resource, plain) or None,
        "stageVariables": {"log_role": "another-stack"},
        "requestContext": {
            "resourceId": "abc123",
            "resourcePath": resource,
            "httpMethod": method,
            "extendedRequestId": "JKJaXmPLvHcESHA=",
            "requestTime": "28/Nov/2026:18:30:00 +0000",
            "path": f"/api{plain}",
            "accountId": ACCOUNT,
            "protocol": "HTTP/1.1",
            "stage": "api",
            "domainPrefix": api_id,
            "requestTimeEpoch": 1795890600000,
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {
                "cognitoIdentityPoolId": None,
                "accountId": ACCOUNT if user_arn else None,
                "caller": None,
                "sourceIp": "203.0.113.7",
                "principalOrgId": None,
                "accessKey": "ASIAEXAMPLE" if user_arn else None,
                "cognitoAuthenticationType": None,
                "userArn": user_arn,
                "userAgent": "whisperctl",
                "user": None,
            },
            "domainName": domain,
            "deploymentId": "d1e2f3",
            "apiId": api_id,
        },
        "body": body,
        "isBase64Encoded": False,
    }


def host_arn(instance_id: str, role: str = "whisperlive-GpuRole-1A2B3C4D5E6F") -> str:
    """Who a host's signature says it is: the session of an instance's role is named after the instance."""
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{instance_id}"


def _event(source: str, kind: str, detail: dict[str, Any], resources: list[str], region: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": kind,
        "source": source,
        "account": ACCOUNT,
        "time": "2026-11-28T18:30:00Z",
        "region": region,
        "resources": resources,
        "detail": detail,
    }


def scheduled(region: str = "eu-central-1") -> dict[str, Any]:
    """The minute's tick."""
    rule = f"arn:aws:events:{region}:{ACCOUNT}:rule/whisperlive-TickTickEvent-1A2B3C"
    return _event("aws.events", "Scheduled Event", {}, [rule], region)


def state_change(instance_id: str, state: str, region: str = "eu-central-1") -> dict[str, Any]:
    """An instance changed its state."""
    kind = "EC2 Instance State-change Notification"
    arn = f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{instance_id}"
    return _event("aws.ec2", kind, {"instance-id": instance_id, "state": state}, [arn], region)


def command_status(instance_id: str, status: str, region: str = "eu-central-1") -> dict[str, Any]:
    """A command ended on a host."""
    detail = {
        "command-id": "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b",
        "document-name": "whisperlive-release",
        "instance-id": instance_id,
        "requested-date-time": "2026-11-28T18:29:00.000Z",
        "status": status,
    }
    arn = f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{instance_id}"
    return _event("aws.ssm", "EC2 Command Invocation Status-change Notification", detail, [arn], region)


def _names(resource: str, path: str) -> dict[str, str]:
    pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", resource)
    found = re.fullmatch(pattern, path)
    return found.groupdict() if found else {}
