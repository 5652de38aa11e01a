"""The HTTP API, version 1, as a client sees it (docs: the API section of the design).

Every refusal is `application/problem+json`; it becomes `ApiProblem`, whose sentence is shown as it is. No answer
at all becomes `NotReachable`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from whisperctl.errors import NotReachable, Refused
from whisperctl.stack import StackInfo

TIMEOUT_S = 30.0
"""API Gateway gives up after 29 s; a client that waits longer gets no other answer."""


class ApiProblem(Refused):
    """The API said no. `status` is the HTTP status, `problem` the whole problem+json object."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        sentence = problem.get("detail") or problem.get("title") or f"the API answered {status}"
        super().__init__(str(sentence))


@dataclass(frozen=True, slots=True)
class Session:
    """The parts of a session that a client acts on; times are RFC 3339 strings, durations seconds."""

    id: str
    phase: str
    place: str
    ws_url: str
    ticket: str | None
    notice: str | None
    poll_after_s: float
    usual_s: float | None
    """Median time to ready, where the stack knows one."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Session:
        """Read an answer; unknown fields are ignored, so that a newer API does not break this client."""
        eta = body.get("eta_seconds") or {}
        return cls(
            id=str(body["id"]),
            phase=str(body["phase"]),
            place=str(body.get("place") or "waiting"),
            ws_url=str(body["ws_url"]),
            ticket=body.get("ticket"),
            notice=body.get("notice"),
            poll_after_s=float(body.get("poll_after_seconds") or 2),
            usual_s=eta.get("p50"),
        )

    def __repr__(self) -> str:  # the ticket is a secret
        return f"Session(id={self.id!r}, phase={self.phase!r}, place={self.place!r})"


class Api:
    """Calls with one token. A context manager; safe to use from several threads."""

    def __init__(self, stack: StackInfo, role: str) -> None:
        """`role` picks the token: viewer, speaker or operator."""
        self._base = stack.api_url
        # Where the API is asked past the edge, the edge's certificate is nobody's business: it may not be there yet.
        context: ssl.SSLContext | None = stack.tls() if urlsplit(stack.api_url).scheme == "https" else None
        loopback = urlsplit(stack.api_url).hostname in ("localhost", "127.0.0.1", "::1")
        self._client = httpx.Client(
            verify=context or True,
            timeout=TIMEOUT_S,
            headers={"Authorization": f"Bearer {stack.token_for(role)}"},
            trust_env=not loopback,  # a company proxy has no business with localhost
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def open_session(self, wanted: Mapping[str, Any], idempotency_key: str) -> Session:
        """Ask to speak; wakes the GPU. `wanted`: language, model, task, minutes, each optional."""
        body = {name: value for name, value in wanted.items() if value is not None}
        answer = self.call("POST", "/v1/sessions", body, {"Idempotency-Key": idempotency_key})
        return Session.of(answer)

    def session(self, session_id: str) -> Session:
        return Session.of(self.call("GET", f"/v1/sessions/{session_id}"))

    def heartbeat(self, session_id: str, measured: Mapping[str, Any]) -> None:
        """Extend the session, and tell what was measured so far (docs/http-api.md)."""
        self.call("POST", f"/v1/sessions/{session_id}/heartbeat", measured)

    def close_session(self, session_id: str) -> None:
        self.call("DELETE", f"/v1/sessions/{session_id}")

    def status(self) -> dict[str, Any]:
        return self.call("GET", "/v1/status")

    def start_gpu(self, minutes: float | None, reason: str | None) -> dict[str, Any]:
        return self.call("POST", "/v1/gpu/start", _given(minutes=minutes, reason=reason))

    def stop_gpu(self, *, force: bool, closed_until: str | None, reason: str | None) -> dict[str, Any]:
        body = _given(force=force or None, closed_until=closed_until, reason=reason)
        return self.call("POST", "/v1/gpu/stop", body)

    def restart_gpu(self, *, force: bool) -> dict[str, Any]:
        return self.call("POST", "/v1/gpu/restart", _given(force=force or None))

    def roll_out(self, target: str, release: str | None, *, force: bool) -> dict[str, Any]:
        return self.call("POST", f"/v1/releases/{target}", _given(release=release, force=force or None))

    def rollout(self, rollout_id: str) -> dict[str, Any]:
        return self.call("GET", f"/v1/rollouts/{rollout_id}")

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One call; the JSON object of the answer, {} for 204. ApiProblem or NotReachable."""
        try:
            answer = self._client.request(method, self._base + path, json=body, headers=dict(headers or {}))
        except httpx.TimeoutException:
            raise NotReachable(f"{self._base} did not answer within {TIMEOUT_S:.0f} s") from None
        except httpx.TransportError as error:
            raise NotReachable(f"{self._base} is not reachable: {plain_reason(error)}") from None
        if answer.status_code == 204:
            return {}
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            if answer.status_code in (502, 503, 504):
                raise NotReachable(
                    f"{self._base}: the edge answers, the API behind it does not (HTTP {answer.status_code})"
                )
            raise NotReachable(f"{self._base} is not this API: HTTP {answer.status_code} without JSON")
        if answer.status_code >= 400:
            raise ApiProblem(answer.status_code, content)
        return content


def plain_reason(error: BaseException) -> str:
    """The innermost reason of a failed connection, in words."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate cannot be verified (set WHISPERCTL_CA to the stack's certificate authority)"
    if isinstance(error, ConnectionRefusedError) or "Connection refused" in text or "Errno 111" in text:
        return "nothing listens there (connection refused)"
    if "Name or service not known" in text or "Errno -2" in text or "Errno -3" in text:
        return "its name is not known"
    return text or type(error).__name__


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
