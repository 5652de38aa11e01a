"""HTTP: bodies in, problems out. The one place where errors become status codes (RFC 9457)."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from chalice.app import Chalice, Request, Response

from chalicelib.domain.times import from_text
from chalicelib.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Refused,
    StoreConflict,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from chalicelib.settings import SettingsError
from chalicelib.telemetry import correlated, logger

PROBLEM = "application/problem+json"
MAX_BODY = 64 * 1024

_STATUS: dict[type[Refused], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Gone: HTTPStatus.GONE,
    Conflict: HTTPStatus.CONFLICT,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""No more than this may come from outside into a log and into a command's comment."""
_HOST_ARN = re.compile(r"arn:aws[a-z-]*:sts::\d{12}:assumed-role/[^/]+/([\w-]+)")


def problem(status: HTTPStatus, detail: str, data: Mapping[str, object] | None = None) -> dict[str, Any]:
    """An RFC 9457 object; `data` rides along beside the standard members."""
    body: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    return {name: value for name, value in (data or {}).items() if value is not None} | body


def refusal(error: Exception) -> tuple[HTTPStatus, str, dict[str, object]]:
    """Status, sentence and data for an exception that left a handler."""
    if isinstance(error, Refused):
        return _STATUS[type(error)], error.detail, error.data
    if isinstance(error, StoreConflict):
        return HTTPStatus.SERVICE_UNAVAILABLE, "Somebody else changed the same thing; ask again.", {}
    if isinstance(error, SettingsError):
        return HTTPStatus.INTERNAL_SERVER_ERROR, f"The deployment is not complete: {error}", {}
    return HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the log has it under correlation_id.", {}


class ProblemApp(Chalice):
    """A Chalice whose every refusal is problem+json, Chalice's own included, with a correlation id."""

    def __init__(self, app_name: str) -> None:
        super().__init__(app_name=app_name, configure_logs=False)

    def route(self, path: str, **kwargs: Any) -> Callable[..., Any]:
        """As Chalice's, around a view whose exceptions become problems.

        Wrapped here and not by a middleware: Chalice answers a view's exception itself before a middleware
        sees it.
        """
        register = super().route(path, **kwargs)

        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(view)
            def safe(*args: Any, **named: Any) -> Any:
                return self._guarded(lambda: view(*args, **named), path)

            wrapped: Callable[..., Any] = register(safe)
            return wrapped

        return decorate

    def _guarded(self, view: Callable[[], Any], path: str) -> Any:
        try:
            return view()
        except Exception as error:  # noqa: BLE001  # the outermost boundary; what is unexpected is logged in full
            status, detail, data = refusal(error)
            if status >= 500:
                logger().exception("request failed", extra={"path": path, "status": int(status)})
            return Response(body=problem(status, detail, data), status_code=int(status))

    def caller(self) -> Request:
        """The request being served; only to be asked for inside a view."""
        request = self.current_request
        if request is None:
            raise RuntimeError("no request is being served")
        return request

    def __call__(self, event: Any, context: Any) -> Any:
        with correlated(correlation(event)):
            return self._answered(event, context)

    def _answered(self, event: Any, context: Any) -> Any:
        known_as = correlation(event)
        # Chalice would take an unknown path for a known one without methods.
        if ((event or {}).get("requestContext") or {}).get("resourcePath") in self.routes:
            answer = super().__call__(event, context)
        else:
            answer = _answer(HTTPStatus.NOT_FOUND, "There is no such path.")
        answer["headers"] = {**answer.get("headers", {}), "X-Correlation-Id": known_as}
        status = int(answer["statusCode"])
        if status >= 400:
            answer = _as_problem(answer, HTTPStatus(status), known_as)
        return answer


def correlation(event: Any) -> str:
    """The caller's X-Request-Id where it is one, else API Gateway's: what ties a call to everything it caused."""
    if not isinstance(event, dict):
        return ""
    for name, value in (event.get("headers") or {}).items():
        if name.lower() == "x-request-id" and _REQUEST_ID.fullmatch(str(value)):
            return str(value)
    return str((event.get("requestContext") or {}).get("requestId") or "")


def invocation(event: Any) -> str:
    """The request id of a tick's or an event's invocation, for `correlated`."""
    return str(getattr(getattr(event, "context", None), "aws_request_id", ""))


def _answer(status: HTTPStatus, detail: str) -> dict[str, Any]:
    return {"statusCode": int(status), "headers": {}, "body": json.dumps(problem(status, detail))}


_OWN_WORDS = {
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not take that method.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body must be JSON.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong here; the log has it under correlation_id.",
    HTTPStatus.BAD_REQUEST: "The request cannot be read.",
}


def _as_problem(answer: dict[str, Any], status: HTTPStatus, correlation_id: str) -> dict[str, Any]:
    try:
        body = json.loads(answer.get("body") or "{}")
    except ValueError:
        body = {}
    if not (isinstance(body, dict) and "detail" in body and "title" in body):
        body = problem(status, _OWN_WORDS.get(status, f"{status.phrase}."))
    if correlation_id:
        body["correlation_id"] = correlation_id
    headers = {name: value for name, value in answer["headers"].items() if name.lower() != "content-type"}
    headers["Content-Type"] = PROBLEM
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return {**answer, "headers": headers, "body": json.dumps(body)}


def json_object(request: Any) -> dict[str, Any]:
    """The body as an object; no body at all is an empty one. Content-Type is not asked for."""
    try:
        raw = request.raw_body
    except ValueError as error:
        raise BadRequest("The body is not valid base64.") from error
    if len(raw) > MAX_BODY:
        raise BadRequest(f"The body is larger than {MAX_BODY} bytes.")
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def query(request: Request, name: str) -> str:
    """The last value of a query parameter, or an empty text."""
    parameters: Any = request.query_params or {}
    return str(parameters.get(name) or "")


def chosen(request: Request, name: str, allowed: Sequence[str]) -> str:
    """A query parameter that is one of a few words; the first of them when it is not given."""
    value = query(request, name) or allowed[0]
    if value not in allowed:
        raise Invalid(f"{name} must be one of {', '.join(allowed)}.", field=name)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


Reader = Callable[[str, Any], Any]


def fields(body: Mapping[str, Any], **readers: Reader) -> dict[str, Any]:
    """The fields that are there and not null, each read by its reader; Invalid names one that is not known."""
    for name in body:
        if name not in readers:
            known = ", ".join(readers) or "none"
            raise Invalid(f"The field {name[:64]!r} is not known here; known are: {known}.", field=name[:64])
    return {name: reader(name, body[name]) for name, reader in readers.items() if body.get(name) is not None}


def text(longest: int) -> Reader:
    """A text of at most `longest` characters."""

    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise Invalid(f"{name} must be a text of at most {longest} characters.", field=name)
        return value

    return read


def matching(pattern: str, example: str) -> Reader:
    """A text of a fixed form."""
    form = re.compile(pattern)

    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise Invalid(f"{name} must look like {example}.", field=name)
        return value

    return read


def choice(*allowed: str) -> Reader:
    """One of a few words."""

    def read(name: str, value: Any) -> str:
        if value not in allowed:
            raise Invalid(f"{name} must be one of {', '.join(allowed)}.", field=name)
        return str(value)

    return read


def number(least: float, most: float, *, above: bool = False) -> Reader:
    """A number in [least, most]; with `above`, not `least` itself."""

    def read(name: str, value: Any) -> float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        if not fits or (above and value == least):
            low = f"above {least:g}" if above else f"at least {least:g}"
            raise Invalid(f"{name} must be a number, {low} and at most {most:g}.", field=name)
        return float(value)

    return read


def flag(name: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise Invalid(f"{name} must be true or false.", field=name)
    return value


def moment(name: str, value: Any) -> float:
    """An RFC 3339 time with its zone, as epoch seconds."""
    try:
        return from_text(value)
    except (TypeError, ValueError) as error:
        raise Invalid(f"{name} must be a time like 2026-11-22T17:00:00Z.", field=name) from error


def latency(name: str, value: Any) -> Any:
    """A number of seconds, or an object of such numbers by percentile."""
    read = number(0, 1e6)
    if isinstance(value, dict) and len(value) <= 8:
        return {str(key)[:16]: read(f"{name}.{str(key)[:16]}", one) for key, one in value.items()}
    return read(name, value)


def weekly(name: str, value: Any) -> bool | str:
    """True, false, or the name of a time zone."""
    if isinstance(value, bool) or (isinstance(value, str) and 0 < len(value) <= 64):
        return value
    raise Invalid(f"{name} must be true, or an IANA time zone such as Europe/Berlin.", field=name)


def api_url(request: Any) -> str:
    """The API's own address, as this request came: https://domain/stage."""
    domain, stage = request.context.get("domainName") or "", request.context.get("stage") or ""
    return f"https://{domain}/{stage}".rstrip("/") if domain else ""


def host_identity(request: Any, instance_id: str) -> None:
    """Forbidden unless API Gateway vouches that the caller is this very host.

    With IAM authorisation the caller's ARN ends in the role session's name, which for an instance role is the
    instance id.
    """
    arn = str((request.context.get("identity") or {}).get("userArn") or "")
    found = _HOST_ARN.fullmatch(arn)
    if not found or found[1] != instance_id:
        raise Forbidden(f"Only {instance_id[:64]} itself may report for it.")
