"""Requests signed with the instance's own role, with nothing but the standard library: for the host link.

Signature Version 4 as AWS documents it ("Create a signed AWS API request", IAM User Guide); credentials from the
instance metadata service, version 2 ("Use IMDSv2", EC2 User Guide). The same file on the GPU host and on the edge.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any

METADATA = "http://169.254.169.254"
METADATA_TIMEOUT_S = 2.0
TOKEN_TTL_S = 21600
RENEW_BEFORE_S = 300.0
"""EC2 has new credentials at least five minutes before the old ones end."""


class CredentialsError(Exception):
    """The instance has no role, or does not say which; `str(error)` is a sentence."""


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str
    token: str
    expires_at: float
    """Epoch seconds."""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key[:4]}…, expires_at={self.expires_at:.0f})"


def sign(
    method: str, url: str, body: bytes, credentials: Credentials, region: str, service: str, now: float
) -> dict[str, str]:
    """The headers that sign this request: Authorization, X-Amz-Date and X-Amz-Security-Token. Pure.

    `url` as it is sent, its path without empty or dotted parts. `now`: epoch seconds.
    """
    parts = urllib.parse.urlsplit(url)
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": parts.netloc, "x-amz-date": moment, "x-amz-security-token": credentials.token}
    names = ";".join(sorted(signed))
    pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    # In the order of the escaped names, not of the names.
    query = sorted((urllib.parse.quote(name, safe="~"), urllib.parse.quote(value, safe="~")) for name, value in pairs)
    request = "\n".join(
        [
            method,
            # The path as it is sent, each of its parts escaped once more: every service but S3 asks for that.
            urllib.parse.quote(parts.path or "/", safe="/~"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    key = f"AWS4{credentials.secret_key}".encode()
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    return {
        "X-Amz-Date": moment,
        "X-Amz-Security-Token": credentials.token,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}",
    }


class InstanceCredentials:
    """The role's credentials, asked for again shortly before they end."""

    def __init__(self, metadata: str = METADATA, clock: Callable[[], float] = time.time) -> None:
        self._metadata = metadata
        self._clock = clock
        self._held: Credentials | None = None

    def get(self) -> Credentials:
        """Raises CredentialsError when there are none and none are left."""
        now = self._clock()
        if self._held is not None and now < self._held.expires_at - RENEW_BEFORE_S:
            return self._held
        try:
            self._held = self._fetch()
        except CredentialsError:
            # The metadata service may be away for a moment; what is still valid is still good.
            if self._held is None or now >= self._held.expires_at:
                raise
        return self._held

    def _fetch(self) -> Credentials:
        token = self._ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)})
        with_token = {"X-aws-ec2-metadata-token": token}
        base = "/latest/meta-data/iam/security-credentials/"
        role = self._ask("GET", base, with_token).split("\n")[0].strip()
        if not role:
            raise CredentialsError("this instance has no role; its instance profile is missing")
        try:
            said: dict[str, Any] = json.loads(self._ask("GET", base + urllib.parse.quote(role), with_token))
            expires = datetime.strptime(said["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            return Credentials(said["AccessKeyId"], said["SecretAccessKey"], said["Token"], expires.timestamp())
        except (ValueError, KeyError, TypeError):
            raise CredentialsError(f"the metadata service gives no usable credentials for role {role}") from None

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        request = urllib.request.Request(self._metadata + path, method=method, headers=dict(headers))  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=METADATA_TIMEOUT_S) as answer:
                return str(answer.read(65536).decode())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return ""
            raise CredentialsError(f"the metadata service answers {error.code}") from None
        except (OSError, HTTPException, UnicodeDecodeError) as error:
            raise CredentialsError(f"the metadata service cannot be reached: {error}") from None


def region_of(url: str) -> str:
    """The region in an execute-api address: https://ID.execute-api.REGION.amazonaws.com…; raises ValueError."""
    host = urllib.parse.urlsplit(url).hostname or ""
    labels = host.split(".")
    if len(labels) < 4 or labels[1] != "execute-api":
        raise ValueError(f"{host!r} is not an API Gateway address")
    return labels[2]
