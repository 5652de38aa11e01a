"""AWS requests on the wire: which service and operation a request means, with which parameters, and errors back.

Protocols as botocore sends them: the credential scope of SigV4 names the service; `query` and `ec2` carry
`Action` in a form body, `json` an `X-Amz-Target` header, `rpc-v2-cbor` the operation in the path, and REST
(S3) only a method and a path.
Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html and
https://smithy.io/2.0/aws/protocols/index.html
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

CREDENTIAL = re.compile(r"Credential=[^/,]+/\d{8}/([^/,]+)/([^/,]+)/aws4_request")
CBOR_OPERATION = re.compile(r"^/service/[^/]+/operation/(\w+)$")
QUERY_SERVICES = frozenset({"ec2", "sns", "sts", "iam", "cloudformation", "monitoring", "autoscaling"})


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """One call: `service` as in the credential scope (ec2, ssm, dynamodb), `parameters` under their wire names."""

    service: str
    region: str
    operation: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AwsResponse:
    """What goes back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


class AwsError(Exception):
    """An error as AWS names it; `status` is the HTTP status its service uses."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def parse(method: str, path: str, headers: Mapping[str, str], body: bytes) -> AwsRequest | None:
    """The call a signed HTTP request means, or None where it is not signed for AWS. `headers` in lower case."""
    scope = CREDENTIAL.search(headers.get("authorization", ""))
    if scope is None:
        return None
    region, service = scope.groups()
    target = headers.get("x-amz-target")
    if target:
        return AwsRequest(service, region, target.rpartition(".")[2], _json_object(body))
    if cbor := CBOR_OPERATION.match(path):
        return AwsRequest(service, region, cbor[1])
    if "x-www-form-urlencoded" in headers.get("content-type", ""):
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        operation = form.pop("Action", "")
        form.pop("Version", None)
        return AwsRequest(service, region, operation, nested(form))
    return AwsRequest(service, region, f"{method} {path.partition('?')[0]}")


def nested(form: Mapping[str, str]) -> dict[str, Any]:
    """`{"Filter.1.Value.1": "x"}` as `{"Filter": [{"Value": ["x"]}]}`; `member` levels fall out."""
    tree: dict[str, Any] = {}
    for name, value in form.items():
        node = tree
        parts = [part for part in name.split(".") if part != "member"]
        for part in parts[:-1]:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                child = node[part] = {"": child}
            node = child
        node[parts[-1]] = value
    return {name: _lists(value) for name, value in tree.items()}


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_lists(node[key]) for key in sorted(node, key=int)]
    return {key: _lists(value) for key, value in node.items()}


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def json_response(result: Mapping[str, Any]) -> AwsResponse:
    """A result of the json protocols."""
    body = json.dumps(result).encode()
    return AwsResponse(
        200, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid.uuid4())}, body
    )


def ec2_response(operation: str, inner: str) -> AwsResponse:
    """A result of the ec2 protocol; `inner` is the XML between the operation's tags."""
    request_id = uuid.uuid4()
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<{operation}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>{request_id}</requestId>{inner}</{operation}Response>"
    )
    return AwsResponse(200, {"Content-Type": "text/xml;charset=UTF-8"}, body.encode())


def error_response(service: str, error: AwsError) -> AwsResponse:
    """An error in the form its service's protocol gives it."""
    request_id = str(uuid.uuid4())
    if service == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
            f"</Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
        return AwsResponse(error.status, {"Content-Type": "text/xml;charset=UTF-8"}, body.encode())
    if service in QUERY_SERVICES or service == "s3":
        inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        body = (
            f"<Error>{inner}</Error>" if service == "s3" else f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>"
        )
        return AwsResponse(error.status, {"Content-Type": "text/xml"}, body.encode())
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "x-amzn-RequestId": request_id,
        "x-amzn-ErrorType": error.code,
    }
    return AwsResponse(error.status, headers, json.dumps({"__type": error.code, "message": error.message}).encode())
