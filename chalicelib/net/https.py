"""The edge over HTTPS: does it answer, and how long is its certificate good for?"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.parse

from chalicelib.domain.probes import EdgeAnswer
from chalicelib.net import trust

TIMEOUT_S = 5.0


def ask_edge(edge_url: str, ca_pem: str | None = None, timeout_s: float = TIMEOUT_S) -> EdgeAnswer:
    """GET /healthz. A certificate that is not accepted is told apart from an edge that does not answer."""
    began = time.monotonic()
    parts = urllib.parse.urlsplit(edge_url)
    host, port = parts.hostname or "", parts.port or 443
    connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=trust.context(ca_pem))
    days: float | None = None
    try:
        connection.connect()
        certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        if certificate:
            days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        return EdgeAnswer("", time.monotonic() - began, None, f"not accepted: {error.verify_message}")
    except (OSError, http.client.HTTPException) as error:
        return EdgeAnswer(f"{host}:{port} does not answer: {_words(error)}", time.monotonic() - began)
    finally:
        connection.close()
    problem = "" if status == 200 else f"{host}:{port} answers {status} to /healthz"
    return EdgeAnswer(problem, time.monotonic() - began, days)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
