"""Bad input against the running stack: one clear sentence and a code each, and others are served on."""

from __future__ import annotations

import contextlib
from typing import Any

import httpx
import jwt
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from tests.app.test_stack_chain import close_session, ready_session
from tests.stack import Stack, issue_token
from tests.wss import CHECK, Heard, dial, handshake, listen, pcm, said, speak, word_error_rate


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json"), response.headers
    problem = dict(response.json())
    assert {"type", "title", "status", "detail"} <= problem.keys(), problem
    assert problem["status"] == status
    assert problem["detail"][-1] == "."
    assert "Traceback" not in response.text
    return problem


def assert_still_serving(stack: Stack) -> None:
    """The canary: somebody else speaks now and is understood."""
    session = ready_session(stack)
    heard = speak(session["ws_url"], session["ticket"], stack.ca_cert, pcm(CHECK))
    close_session(stack, session)
    assert word_error_rate(said(CHECK), heard.text()) <= 0.15, (heard.text(), heard.close_code)


@pytest.mark.parametrize("via_edge", [False, True], ids=["api", "edge"])
class TestHttp:
    def send(self, stack: Stack, via_edge: bool, method: str, path: str, **kwargs: Any) -> httpx.Response:
        base = f"{stack.edge_url}/api" if via_edge else stack.api_url
        with stack.http() as client:
            return client.request(method, base + path, **kwargs)

    def bearer(self, stack: Stack, role: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {stack.tokens[role]}"}

    def test_body_that_is_not_json(self, stack: Stack, via_edge: bool) -> None:
        headers = self.bearer(stack, "speaker") | {"Content-Type": "application/json"}
        response = self.send(stack, via_edge, "POST", "/v1/sessions", content=b"{minutes: 5", headers=headers)
        assert "JSON" in assert_problem(response, 400)["detail"]

    def test_body_that_is_no_object(self, stack: Stack, via_edge: bool) -> None:
        response = self.send(stack, via_edge, "POST", "/v1/sessions", json=[1], headers=self.bearer(stack, "speaker"))
        assert_problem(response, 400)

    def test_unknown_path(self, stack: Stack, via_edge: bool) -> None:
        assert_problem(self.send(stack, via_edge, "GET", "/v1/nothing", headers=self.bearer(stack, "viewer")), 404)

    def test_unknown_method(self, stack: Stack, via_edge: bool) -> None:
        response = self.send(stack, via_edge, "PATCH", "/v1/status", headers=self.bearer(stack, "viewer"))
        assert response.status_code in (404, 405)
        assert_problem(response, response.status_code)

    def test_no_token(self, stack: Stack, via_edge: bool) -> None:
        assert_problem(self.send(stack, via_edge, "GET", "/v1/status"), 401)

    def test_wrong_token(self, stack: Stack, via_edge: bool) -> None:
        response = self.send(stack, via_edge, "GET", "/v1/status", headers={"Authorization": "Bearer nonsense"})
        assert_problem(response, 401)
        assert "nonsense" not in response.text

    def test_role_too_low(self, stack: Stack, via_edge: bool) -> None:
        problem = assert_problem(
            self.send(stack, via_edge, "POST", "/v1/gpu/stop", headers=self.bearer(stack, "speaker")), 403
        )
        assert "operator" in problem["detail"]

    def test_session_of_nobody(self, stack: Stack, via_edge: bool) -> None:
        response = self.send(stack, via_edge, "GET", "/v1/sessions/none", headers=self.bearer(stack, "speaker"))
        assert_problem(response, 404)

    def test_wrong_type_of_field(self, stack: Stack, via_edge: bool) -> None:
        response = self.send(
            stack, via_edge, "POST", "/v1/sessions", json={"minutes": "x"}, headers=self.bearer(stack, "speaker")
        )
        assert response.status_code in (400, 422)
        assert "minutes" in assert_problem(response, response.status_code)["detail"]

    def test_report_of_a_stranger(self, stack: Stack, via_edge: bool) -> None:
        path = f"/v1/hosts/{stack.gpu_instance_id}/report"
        response = self.send(stack, via_edge, "POST", path, json={}, headers={"X-Host-Key": "wrong"})
        assert_problem(response, 403)


def test_expired_token(stack: Stack) -> None:
    """A token with a minute to live, then the clock moves past it."""
    token = issue_token(stack, "viewer", minutes=1)
    headers = {"Authorization": f"Bearer {token}"}
    with stack.http() as client:
        assert client.get(f"{stack.api_url}/v1/status", headers=headers).status_code == 200
        stack.advance(90)
        problem = assert_problem(client.get(f"{stack.api_url}/v1/status", headers=headers), 401)
    assert "expired" in problem["detail"]


def refused(url: str, ticket: str | None, ca_cert: str) -> Heard:
    """Dial, say hello, and hear why not."""
    with dial(url, ticket, ca_cert) as connection:
        with contextlib.suppress(ConnectionClosed):  # the refusal may be quicker than our greeting
            connection.send(handshake())
        return listen(connection, Heard(), timeout=15)


class TestTickets:
    def test_none(self, stack: Stack) -> None:
        session = ready_session(stack)
        heard = refused(session["ws_url"], None, stack.ca_cert)
        assert heard.close_code == 4401
        assert heard.close_reason
        close_session(stack, session)

    def test_forged(self, stack: Stack) -> None:
        session = ready_session(stack)
        header = jwt.get_unverified_header(session["ticket"])
        claims = jwt.decode(session["ticket"], options={"verify_signature": False})
        forged = jwt.encode(claims, "0" * 32, algorithm="HS256", headers={"kid": header["kid"]})
        heard = refused(session["ws_url"], forged, stack.ca_cert)
        assert heard.close_code == 4401
        assert forged not in heard.close_reason
        close_session(stack, session)

    def test_without_a_signature(self, stack: Stack) -> None:
        session = ready_session(stack)
        claims = jwt.decode(session["ticket"], options={"verify_signature": False})
        heard = refused(session["ws_url"], jwt.encode(claims, "", algorithm="none"), stack.ca_cert)
        assert heard.close_code == 4401
        close_session(stack, session)

    def test_no_ticket_in_any_log(self, stack: Stack) -> None:
        session = ready_session(stack)
        speak(session["ws_url"], session["ticket"], stack.ca_cert, pcm(CHECK)[:16000])
        close_session(stack, session)
        secrets = [session["ticket"], *stack.tokens.values()]
        for path in stack.state_dir.rglob("*.log"):
            text = path.read_text(errors="replace")
            assert not [secret for secret in secrets if secret in text], f"a secret stands in {path.name}"


class TestFrames:
    def close_after(self, stack: Stack, *frames: bytes | str) -> Heard:
        session = ready_session(stack)
        heard = Heard()
        with dial(session["ws_url"], session["ticket"], stack.ca_cert) as connection:
            connection.send(handshake())
            listen(connection, heard, until="SERVER_READY")
            for frame in frames:
                connection.send(frame)
            listen(connection, heard, timeout=20)
        close_session(stack, session)
        assert heard.close_reason
        return heard

    def test_odd_length(self, stack: Stack) -> None:
        heard = self.close_after(stack, b"\x00" * 4001)
        assert heard.close_code == 4400
        assert_still_serving(stack)

    def test_text_where_audio_belongs(self, stack: Stack) -> None:
        assert self.close_after(stack, "hello").close_code == 4400
        assert_still_serving(stack)

    def test_sixteen_bit_samples(self, stack: Stack) -> None:
        noise = np.random.default_rng(1).integers(-20000, 20000, 16000, dtype=np.int16)
        heard = self.close_after(stack, noise.tobytes())
        assert heard.close_code == 4400
        assert "32" in heard.close_reason
        assert_still_serving(stack)

    def test_handshake_of_wrong_types(self, stack: Stack) -> None:
        session = ready_session(stack)
        with dial(session["ws_url"], session["ticket"], stack.ca_cert) as connection:
            connection.send(handshake(vad_parameters={"bogus": 1}, initial_prompt=5))
            heard = listen(connection, Heard(), timeout=20)
        close_session(stack, session)
        assert heard.close_code == 4400
        assert_still_serving(stack)

    def test_handshake_that_never_comes(self, stack: Stack) -> None:
        session = ready_session(stack)
        with dial(session["ws_url"], session["ticket"], stack.ca_cert) as connection:
            heard = listen(connection, Heard(), timeout=30)
        close_session(stack, session)
        assert heard.close_code == 4408
        assert_still_serving(stack)
