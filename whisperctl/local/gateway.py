"""API Gateway (REST, Lambda proxy) for the real `app.py`: HTTP in, a version 1 event to the handler, its answer out.

What API Gateway itself answers is answered here, in the form our GatewayResponses give it on AWS
(application/problem+json): unknown path or method 404, a body over 10 MB 413, a handler that fails 502, one that
takes longer than 29 s 504, a host report without a valid signature 403. IAM is played by a key per host.
Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

from __future__ import annotations

import base64
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from whisperctl.local.clock import StandInClock
from whisperctl.local.containers import LambdaKilled
from whisperctl.local.http import HttpAnswer, HttpCall, HttpServer
from whisperctl.local.lambdas import ACCOUNT, AppPool, Context

log = logging.getLogger(__name__)

LONGEST_BODY = 10 * 1024 * 1024
LONGEST_S = 29.0
IAM_RESOURCES = frozenset({"/v1/hosts/{instance_id}/report"})
ROLE = "whisperlive-edge-host"
API_ID = "local"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API: its path pattern as Chalice names it, and its methods."""

    pattern: str
    methods: frozenset[str]
    regex: re.Pattern[str]


def resources(routes: Mapping[str, Iterable[str]]) -> list[Resource]:
    """The route table of a Chalice app (`app.routes`), literal paths before those with parameters."""
    table = []
    for pattern, methods in routes.items():
        parts = [
            rf"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else re.escape(part) for part in pattern.split("/")
        ]
        table.append(Resource(pattern, frozenset(methods), re.compile("/".join(parts))))
    return sorted(table, key=lambda resource: resource.pattern.count("{"))


class Gateway:
    """`stage` is the first part of every path, as on API Gateway. `instance_of(key)` knows hosts by their keys."""

    def __init__(
        self,
        pool: AppPool,
        *,
        stage: str,
        region: str,
        clock: StandInClock,
        instance_of: Callable[[str], str | None],
        longest_s: float = LONGEST_S,
    ) -> None:
        self._pool = pool
        self._stage = stage
        self._region = region
        self._clock = clock
        self._instance_of = instance_of
        self._longest_s = longest_s
        self._threads = ThreadPoolExecutor(max_workers=128, thread_name_prefix="lambda")
        with pool.lease() as module:
            self._resources = resources(module.app.routes)

    def server(self, port: int = 0, host: str = "127.0.0.1") -> HttpServer:
        """Serve on this address; port 0 takes a free one. The API's base is `{url}/{stage}`."""
        return HttpServer(port, self.answer, "gateway", host)

    def answer(self, call: HttpCall) -> HttpAnswer:
        """One HTTP exchange."""
        path = unquote(urlsplit(call.target).path)
        found = self._find(call.method, path)
        if isinstance(found, HttpAnswer):
            return found
        resource, parameters = found
        if len(call.body) > LONGEST_BODY:
            return HttpAnswer.problem(413, "Content Too Large", "The body is larger than 10 MB.")
        arn = None
        if resource.pattern in IAM_RESOURCES:
            instance_id = self._instance_of(call.headers.get("x-host-key", ""))
            if instance_id is None:
                return HttpAnswer.problem(403, "Forbidden", "The request is not signed by a host of this stack.")
            arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{instance_id}"
        api_event = event(call, resource.pattern, parameters, stage=self._stage, now=self._clock.now(), user_arn=arn)
        return self._invoke(api_event, f"{call.method} {resource.pattern}")

    def _find(self, method: str, path: str) -> tuple[Resource, dict[str, str]] | HttpAnswer:
        prefix = f"/{self._stage}"
        inner = path[len(prefix) :] if path.startswith(f"{prefix}/") else None
        for resource in self._resources if inner is not None else ():
            match = resource.regex.fullmatch(inner or "")
            if match and method in resource.methods:
                return resource, match.groupdict()
        return HttpAnswer.problem(404, "Not Found", f"There is no {method} {inner or path} here.")

    def _invoke(self, api_event: dict[str, Any], what: str) -> HttpAnswer:
        def run() -> Any:
            with self._pool.lease() as module:
                return module.app(api_event, Context("api", self._region, self._longest_s))

        try:
            return answer_of(self._threads.submit(run).result(self._longest_s))
        except Late:
            log.error("%s took longer than %g s", what, self._longest_s)
            return HttpAnswer.problem(504, "Gateway Timeout", f"The call took longer than {self._longest_s:g} s.")
        except (Exception, LambdaKilled):  # whatever the handler raises, API Gateway says 502 and serves on
            log.exception("%s failed", what)
            return HttpAnswer.problem(502, "Bad Gateway", "The call failed inside; the log says why.")


def event(
    call: HttpCall,
    pattern: str,
    parameters: Mapping[str, str],
    *,
    stage: str,
    now: float,
    user_arn: str | None = None,
) -> dict[str, Any]:
    """The proxy event of a call (payload format 1.0); a body that is no UTF-8 goes as base64."""
    parts = urlsplit(call.target)
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    try:
        body, encoded = call.body.decode("utf-8"), False
    except UnicodeDecodeError:
        body, encoded = base64.b64encode(call.body).decode(), True
    path = unquote(parts.path)
    headers = {name.title(): value for name, value in call.headers.items() if name != "x-host-key"}
    identity: dict[str, Any] = {
        "sourceIp": call.peer,
        "userAgent": call.headers.get("user-agent"),
        "userArn": user_arn,
        "accountId": ACCOUNT if user_arn else None,
        "caller": f"AROALOCAL:{user_arn.rpartition('/')[2]}" if user_arn else None,
    }
    return {
        "resource": pattern,
        "path": path[len(stage) + 1 :],
        "httpMethod": call.method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API_ID,
            "domainName": call.headers.get("host", ""),
            "httpMethod": call.method,
            "identity": identity,
            "path": path,
            "protocol": "HTTP/1.1",
            "requestId": str(uuid.uuid4()),
            "requestTimeEpoch": int(now * 1000),
            "resourceId": "local",
            "resourcePath": pattern,
            "stage": stage,
        },
        "body": body or None,
        "isBase64Encoded": encoded,
    }


def answer_of(result: Any) -> HttpAnswer:
    """The HTTP answer of a handler's result; a malformed result is API Gateway's 502 (raises TypeError)."""
    if not isinstance(result, dict) or not isinstance(result.get("statusCode"), int):
        raise TypeError("the handler's result is no proxy response")
    headers: dict[str, str | list[str]] = {
        str(name): str(value) for name, value in (result.get("headers") or {}).items()
    }
    for name, values in (result.get("multiValueHeaders") or {}).items():
        headers[str(name)] = [str(value) for value in values]
    body = result.get("body") or ""
    if not isinstance(body, str):
        body = json.dumps(body)
    raw = base64.b64decode(body) if result.get("isBase64Encoded") else body.encode()
    return HttpAnswer(result["statusCode"], headers, raw)
