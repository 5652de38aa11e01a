"""The AWS endpoint: one HTTP server in front of moto, with EC2's truth, SSM's agents, faults, a record and a clock.

    GET  /_standin/calls                      [{service, operation, parameters, time, error?}], oldest first
    GET  /_standin/faults                     the set in force
    POST /_standin/faults  {…}                replace the set (whisperctl.local.faults); {} clears it
    GET  /_standin/clock                      {now: RFC 3339}
    POST /_standin/clock   {"advance_s": 60}  move the clock forward
    POST /_standin/invoke  {"function": "probe"}  let a scheduled function run now, the clock as it is

Everything else is an AWS call. moto (DynamoDB, SSM documents and parameters, S3, SNS, …) runs in this process and
is not safe to use from several threads, so one lock holds all calls into it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from whisperctl.local.awsapi import AwsError, AwsRequest, AwsResponse, error_response, json_response, parse
from whisperctl.local.calls import CallRecord
from whisperctl.local.cfn.stacks import Stacks
from whisperctl.local.clock import StandInClock
from whisperctl.local.containers import INVOCATION, KILL
from whisperctl.local.ec2 import ACCOUNT, Ec2
from whisperctl.local.faults import Faults
from whisperctl.local.faultset import BadFaults
from whisperctl.local.faultset import parse as parse_faults
from whisperctl.local.http import HttpAnswer, HttpCall, HttpServer
from whisperctl.local.ssm import Ssm
from whisperctl.local.triggers import SCHEDULED

log = logging.getLogger(__name__)

OWN_KEY = "Credential=cloudformation/"
"""The access key of the stand-in's own CloudFormation: its calls are not the product's, and are not recorded."""
QUOTA_CPUS = 8.0
"""Virtual CPUs of GPU machines that this account may run, while no fault says 0."""
TAG = re.compile(r"<Tag><Key>([^<]+)</Key><Value>([^<]*)</Value></Tag>")
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class StandIn:
    """The endpoint's decisions; `server()` puts it on a port."""

    def __init__(
        self,
        *,
        clock: StandInClock,
        faults: Faults,
        calls: CallRecord,
        ec2: Ec2,
        ssm: Ssm,
        lock: threading.RLock,
        stacks: Stacks | None = None,
    ) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self.clock = clock
        self.faults = faults
        self.calls = calls
        self._ec2 = ec2
        self._ssm = ssm
        self._lock = lock
        self._stacks = stacks
        self.fire: Callable[[str], None] = lambda _function: None
        """Invokes a scheduled function; set by the wiring."""
        self._moto: WSGI = DomainDispatcherApplication(create_backend_app)

    def server(self, port: int = 0, host: str = "127.0.0.1") -> HttpServer:
        """Serve on this address; port 0 takes a free one."""
        return HttpServer(port, self.answer, "aws-endpoint", host)

    def answer(self, call: HttpCall) -> HttpAnswer:
        """One HTTP exchange."""
        path = urlsplit(call.target).path
        if path.startswith("/_standin/"):
            return self._control(call.method, path, call.body)
        request = parse(call.method, path, call.headers, call.body)
        if request is None:
            return self._ask_moto(call)
        error = None
        try:
            response = self._serve(request, call)
            error = _error_code(response) if response.status >= 400 else None
        except AwsError as refused:
            response, error = error_response(request.service, refused), refused.code
        if OWN_KEY not in call.headers.get("authorization", ""):
            self.calls.add(request, self.clock.now(), error)
        headers = dict(response.headers)
        if error is None and INVOCATION.lower() in call.headers and self.faults.kills(request.operation):
            headers[KILL] = "lambda"
        return HttpAnswer(response.status, headers, response.body)

    def _serve(self, request: AwsRequest, call: HttpCall) -> AwsResponse:
        self.faults.throttle(request.service, request.operation)
        own: AwsResponse | None = None
        if request.service == "ec2":
            own = self._ec2.handle(request)
        elif request.service == "ssm":
            own = self._ssm.handle(request)
        elif request.service == "servicequotas" and request.operation == "GetServiceQuota":
            own = _quota(request, 0.0 if self.faults.now.quota else QUOTA_CPUS)
        elif request.service == "cloudformation" and self._stacks is not None:
            own = self._stacks.handle(request)
        if own is not None:
            return own
        with self._ec2.as_seen(request):
            answer = self._ask_moto(call)
        response = AwsResponse(answer.status, {k: str(v) for k, v in answer.headers.items()}, answer.body)
        if request.service == "s3" and call.method == "PUT" and b"<CreateBucketConfiguration" in call.body:
            self._tag_bucket(call)
        if request.service == "ec2":
            self._ec2.after_moto(request, response)
        return response

    def _tag_bucket(self, call: HttpCall) -> None:
        """A bucket's tags at its creation, which moto leaves out."""
        from moto.backends import get_backend

        tags = dict(TAG.findall(call.body.decode()))
        name = urlsplit(call.target).path.strip("/")
        backend: Any = get_backend("s3")[ACCOUNT]["aws"]
        if tags and name in backend.buckets:
            with self._lock:
                backend.put_bucket_tagging(name, tags)

    def _ask_moto(self, call: HttpCall) -> HttpAnswer:
        answered: list[Any] = []
        with self._lock:
            chunks = self._moto(environ(call), lambda status, headers, _info=None: answered.extend((status, headers)))
            body = b"".join(chunks)
        status, headers = answered
        skipped = {"connection", "date", "server"} | ({"content-length"} if call.method != "HEAD" else set())
        return HttpAnswer(int(str(status).split()[0]), {k: v for k, v in headers if k.lower() not in skipped}, body)

    def _control(self, method: str, path: str, body: bytes) -> HttpAnswer:
        try:
            match method, path:
                case "GET", "/_standin/calls":
                    return HttpAnswer.json(200, self.calls.all())
                case "GET", "/_standin/faults":
                    return HttpAnswer.json(200, dataclasses.asdict(self.faults.now))
                case "POST", "/_standin/faults":
                    posted = _json(body)
                    self._ec2.end_power(parse_faults(posted).power)
                    return HttpAnswer.json(200, dataclasses.asdict(self.faults.replace(posted)))
                case "POST", "/_standin/invoke":
                    self.fire(_scheduled(_json(body)))
                    return HttpAnswer.json(202, {})
                case "GET", "/_standin/clock":
                    return HttpAnswer.json(200, {"now": _rfc3339(self.clock)})
                case "POST", "/_standin/clock":
                    self.clock.advance(_advance(_json(body)))
                    return HttpAnswer.json(200, {"now": _rfc3339(self.clock)})
        except ValueError as error:
            return HttpAnswer.problem(400, "Bad Request", str(error))
        return HttpAnswer.problem(404, "Not Found", f"The stand-in has no {method} {path}.")


def _quota(request: AwsRequest, value: float) -> AwsResponse:
    """One quota, whichever is asked for."""
    about = {"ServiceCode": request.parameters["ServiceCode"], "QuotaCode": request.parameters["QuotaCode"]}
    return json_response({"Quota": {**about, "Value": value, "Unit": "None", "Adjustable": True}})


def environ(call: HttpCall) -> dict[str, Any]:
    """The WSGI form of an HTTP call (PEP 3333)."""
    parts = urlsplit(call.target)
    found: dict[str, Any] = {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path, "latin-1"),
        "RAW_URI": call.target,
        "REQUEST_URI": call.target,
        "QUERY_STRING": parts.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(call.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(call.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(call.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in call.headers.items():
        key = name.upper().replace("-", "_")
        found["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return found


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise BadFaults("The body is not JSON.") from None


def _advance(posted: Any) -> float:
    seconds = posted.get("advance_s") if isinstance(posted, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        raise ValueError('The clock takes {"advance_s": seconds}, a number of 0 or more.')
    return float(seconds)


def _scheduled(posted: Any) -> str:
    function = posted.get("function") if isinstance(posted, dict) else None
    if function not in SCHEDULED:
        raise ValueError(f'An invocation takes {{"function": name}}, one of {", ".join(SCHEDULED)}.')
    return str(function)


def _rfc3339(clock: StandInClock) -> str:
    return clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error_code(response: AwsResponse) -> str:
    """The error code in moto's answer, as far as it can be read."""
    try:
        return str(json.loads(response.body)["__type"]).rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        text = response.body.decode("utf-8", "replace")
        return text.partition("<Code>")[2].partition("</Code>")[0] or str(response.status)
