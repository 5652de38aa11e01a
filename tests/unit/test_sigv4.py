"""The signature against botocore's own, and the credentials against a metadata service of the test's."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.hostlink import sigv4
from gpu_bootstrap.hostlink.sigv4 import Credentials, CredentialsError, InstanceCredentials, region_of, sign
from whisperctl.local.http import HttpAnswer, HttpCall, HttpServer

NOW = 1_795_000_000.0
HELD = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "token/with+signs==", NOW + 3600)
BASE = "https://abc123.execute-api.eu-central-1.amazonaws.com/api"


def botocores(method: str, url: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    fixed = datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: fixed)
    request = AWSRequest(method=method, url=url, data=body)
    SigV4Auth(BotoCredentials(HELD.access_key, HELD.secret_key, HELD.token), "execute-api", "eu-central-1").add_auth(
        request
    )
    return str(request.headers["Authorization"])


@given(
    segment=st.text(
        st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#%."), min_size=1, max_size=12
    ),
    query=st.dictionaries(
        st.text("abcxyz-_~ &=é", min_size=1, max_size=4), st.text("xyz/+~ ", max_size=4), max_size=3
    ),
    body=st.binary(max_size=64),
    method=st.sampled_from(["GET", "POST"]),
)
def test_it_is_botocores_signature(segment: str, query: dict[str, str], body: bytes, method: str) -> None:
    url = f"{BASE}/v1/hosts/{urllib.parse.quote(segment, safe='~')}/report"
    if query:
        url += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
    with pytest.MonkeyPatch.context() as patch:
        wanted = botocores(method, url, body, patch)
    assert sign(method, url, body, HELD, "eu-central-1", "execute-api", NOW)["Authorization"] == wanted


def test_every_part_of_a_request_is_signed() -> None:
    def signature(**changes: Any) -> str:
        parts: dict[str, Any] = {
            "method": "POST", "url": f"{BASE}/v1/x", "body": b"{}", "credentials": HELD, "region": "eu-central-1",
            "service": "execute-api", "now": NOW,
        }  # fmt: skip
        return sign(**{**parts, **changes})["Authorization"]

    other = Credentials("AKIDEXAMPLE", "another", HELD.token, HELD.expires_at)
    changes: list[dict[str, Any]] = [
        {"method": "PUT"}, {"url": f"{BASE}/v1/y"}, {"url": f"{BASE}/v1/x?a=1"}, {"body": b"{ }"},
        {"credentials": other}, {"region": "eu-west-1"}, {"service": "s3"}, {"now": NOW + 1},
    ]  # fmt: skip
    assert len({signature(), *(signature(**change) for change in changes)}) == len(changes) + 1


class Metadata:
    """What an instance finds at 169.254.169.254."""

    def __init__(self) -> None:
        self.role = "whisperlive-prod-gpu"
        self.expires_at = NOW + 3600
        self.status = 200
        self.calls: list[HttpCall] = []
        self.server = HttpServer(0, self.answer, "metadata")

    def answer(self, call: HttpCall) -> HttpAnswer:
        self.calls.append(call)
        if self.status != 200:
            return HttpAnswer(self.status, {}, b"")
        if call.target == "/latest/api/token":
            assert call.method == "PUT"
            return HttpAnswer(200, {}, b"metadata-token")
        assert call.headers["x-aws-ec2-metadata-token"] == "metadata-token"
        if call.target.endswith("/security-credentials/"):
            return HttpAnswer(200 if self.role else 404, {}, self.role.encode())
        expires = datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "token", "Expiration": expires}
        return HttpAnswer(200, {}, json.dumps(said).encode())


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    made = Metadata()
    yield made
    made.server.close()


def test_credentials_are_kept_until_shortly_before_their_end(metadata: Metadata) -> None:
    now = [NOW]
    credentials = InstanceCredentials(metadata.server.url, lambda: now[0])
    first = credentials.get()
    assert first == Credentials("AKID", "secret", "token", NOW + 3600)
    assert len(metadata.calls) == 3
    now[0] = NOW + 3600 - sigv4.RENEW_BEFORE_S - 1
    assert credentials.get() is first
    now[0] += 2
    metadata.expires_at = NOW + 7200
    assert credentials.get().expires_at == NOW + 7200


def test_what_is_still_valid_is_used_while_the_service_is_away(metadata: Metadata) -> None:
    now = [NOW]
    credentials = InstanceCredentials(metadata.server.url, lambda: now[0])
    first = credentials.get()
    metadata.status = 503
    now[0] = NOW + 3500
    assert credentials.get() is first
    now[0] = NOW + 3600
    with pytest.raises(CredentialsError, match="answers 503"):
        credentials.get()


def test_an_instance_without_a_role_says_so(metadata: Metadata) -> None:
    metadata.role = ""
    with pytest.raises(CredentialsError, match="has no role"):
        InstanceCredentials(metadata.server.url).get()


def test_no_metadata_service_is_a_sentence(metadata: Metadata) -> None:
    metadata.server.close()
    with pytest.raises(CredentialsError, match="cannot be reached"):
        InstanceCredentials(metadata.server.url).get()


def test_a_secret_is_not_in_its_own_repr() -> None:
    assert HELD.secret_key not in repr(HELD)
    assert HELD.token not in repr(HELD)


def test_the_region_stands_in_the_address() -> None:
    assert region_of(f"{BASE}/v1") == "eu-central-1"
    assert region_of("https://x.execute-api.cn-north-1.amazonaws.com.cn/api") == "cn-north-1"
    for url in ("https://edge.example.org/api", "http://127.0.0.1:8000/api", "nonsense"):
        with pytest.raises(ValueError, match="API Gateway"):
            region_of(url)
