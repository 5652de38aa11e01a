"""HTTP: a report, proved to be this host's, and its answer; without redirects."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from . import sigv4
from .answers import check_answer
from .errors import LinkError
from .settings import Settings

HEALTH_TIMEOUT_S = 2.0
POST_TIMEOUT_S = 15.0
MOST_BYTES = 1 << 20


def post(settings: Settings, report: Mapping[str, Any]) -> dict[str, Any]:
    """Send a report; returns the checked answer. Raises LinkError."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "whisperlive-link"}
    body = json.dumps(report).encode()
    headers |= authentication(settings, body)
    request = urllib.request.Request(settings.report_url, body, headers, method="POST")  # noqa: S310
    try:
        with ask(request, POST_TIMEOUT_S) as answer:
            payload = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            detail = error.read(300).decode(errors="replace")
        raise LinkError(f"the control plane answers {error.code}: {detail}") from None
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(f"the control plane cannot be reached: {getattr(error, 'reason', error)}") from None
    if len(payload) > MOST_BYTES:
        raise LinkError("the answer is too long")
    return check_answer(payload)


ROLE = sigv4.InstanceCredentials()
"""This instance's role, on EC2."""


def authentication(settings: Settings, body: bytes) -> dict[str, str]:
    """The headers that prove which host this is: its key where it has one, else API Gateway's signature.

    The key is read anew each time, so that a changed one needs no restart.
    """
    if settings.key_file is not None:
        try:
            return {"X-Host-Key": settings.key_file.read_text().strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise LinkError(f"the host key cannot be read: {error}") from None
    try:
        region = sigv4.region_of(settings.api_url)
    except ValueError:
        return {}
    try:
        credentials = ROLE.get()
    except sigv4.CredentialsError as error:
        raise LinkError(f"the report cannot be signed: {error}") from None
    return sigv4.sign("POST", settings.report_url, body, credentials, region, "execute-api", time.time())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: followed, it would carry the host key to whoever it names, and obey the answer."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def ask(request: urllib.request.Request, timeout_s: float, tls: ssl.SSLContext | None = None) -> Any:
    """urlopen, without redirects; this machine's own addresses are never asked for through a proxy."""
    host = urllib.parse.urlsplit(request.full_url).hostname or ""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=tls), _NoRedirect()]
    if host == "localhost" or host.startswith("127.") or host == "::1":
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)
