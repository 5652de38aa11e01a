"""From outside, as a browser comes: address, certificate, clock, API, token, and what the API says."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from whisperctl.api import Api, ApiProblem, plain_reason
from whisperctl.doctor.findings import (
    Finding,
    certificate,
    clock_skew,
    device,
    ok,
    problem,
    secure_context,
    service,
    skipped,
    warning,
)
from whisperctl.errors import NotReachable, UsageError
from whisperctl.stack import StackInfo

TIMEOUT_S = 8.0
LOG = "whisperctl logs edge; whisperctl restart edge"


class Entry:
    """`look()` yields findings; afterwards `status` is what the API said, None when it said nothing."""

    def __init__(self, stack: StackInfo) -> None:
        self._stack = stack
        self.status: dict[str, Any] | None = None

    def look(self) -> Iterator[Finding]:
        """From the address to the service behind it; what lies behind a failure is left out."""
        yield secure_context(self._stack.edge_url)
        yield from self._edge()
        yield from self._api()
        if self.status is None:
            yield skipped("service", "the API gave no status")
            return
        yield from service(self.status)
        # The embedded cloud's machines are of this type in name only.
        yield skipped("device", "the embedded cloud computes on the CPU") if self._local else device(self.status)

    @property
    def _local(self) -> bool:
        return self._stack.aws_endpoint is not None

    def _edge(self) -> Iterator[Finding]:
        parts = urlsplit(self._stack.edge_url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((host, port), TIMEOUT_S).close()
        except OSError as error:
            yield problem("edge", f"{host}:{port}: {plain_reason(error)}", self._nobody_there(host))
            return
        days, trouble = shown_certificate(self._stack, host, port)
        yield certificate(days, trouble, internal=days is not None and days < 1)
        try:
            with self._client(verify=not trouble) as client:
                answer = client.get("/healthz")
        except httpx.HTTPError as error:
            yield problem("edge", f"{host}:{port} takes connections and does not answer: {plain_reason(error)}", LOG)
            return
        if answer.status_code == 200:
            yield ok("edge", f"{host}:{port} answers")
        else:
            yield problem("edge", f"{host}:{port} answers {answer.status_code} to /healthz", LOG)
        if "date" in answer.headers:
            yield clock_skew(time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp(), "here")

    def _nobody_there(self, host: str) -> str:
        if self._local:
            return "start it: whisperctl local"
        return f"look whether {host} is the edge's Elastic IP, and in EC2 whether its machine runs"

    def _client(self, *, verify: bool) -> httpx.Client:
        context: ssl.SSLContext | bool = False
        if verify:
            context = self._stack.tls() or True
        return httpx.Client(base_url=self._stack.edge_url, verify=context, timeout=TIMEOUT_S, trust_env=False)

    def _api(self) -> Iterator[Finding]:
        try:
            with Api(self._stack, "viewer") as api:
                version = api.call("GET", "/v1/health").get("version")
                yield ok("API", f"it answers, version {version}")
                self.status = api.status()
        except ApiProblem as refused:
            if refused.status in (401, 403):
                words = "whisperctl token add operator, with AWS rights; then set WHISPERCTL_TOKEN"
                yield problem("token", refused.message, words)
            else:
                yield problem("API", refused.message, "its log in CloudWatch, under the correlation id")
        except NotReachable as gone:
            yield problem(
                "API", gone.message, "API Gateway and the function's log in CloudWatch; whisperctl logs edge"
            )
        except UsageError as lacking:
            yield warning("token", lacking.message, "set WHISPERCTL_TOKEN; without one the API tells nothing")
        else:
            yield ok("token", "the API takes it")


def shown_certificate(stack: StackInfo, host: str, port: int) -> tuple[float | None, str]:
    """Days that are left of what the edge shows, and what is wrong with it; (None, "") for plain http."""
    context = stack.tls()
    if context is None:
        return None, ""
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shown = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return None, str(error.verify_message)
    except OSError as error:
        return None, f"no TLS: {plain_reason(error)}"
    return (ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()) / 86400, ""


def clip(path: Path) -> Finding:
    """Raw audio as a client sends it: Float32 is what the service takes, Int16 is what it is mistaken for."""
    import numpy

    try:
        raw = path.read_bytes()[: 16000 * 4 * 60]
    except OSError as error:
        raise UsageError(f"--clip {path}: {error.strerror}") from None
    name, remedy = "audio format", "send Float32: divide Int16 samples by 32768; whisperctl stream takes any file"
    if raw[:4] in (b"RIFF", b"OggS", b"fLaC", b"ID3\x03", b"ID3\x04") or raw[4:8] == b"ftyp":
        return problem(name, f"{path} is a file with a head, not raw samples", remedy)
    if len(raw) < 64:
        return problem(name, f"{path} holds {len(raw)} bytes; that is no audio", "give some seconds of it")
    whole = raw[: len(raw) // 4 * 4]
    floats = numpy.frombuffer(whole, "<f4")
    finite = floats[numpy.isfinite(floats)]
    sane = finite.size == floats.size and bool((abs(finite) <= 8).all())
    # The bits of small whole numbers are, as floats, tiny or absurd and hardly ever in between.
    plausible = sane and float((abs(finite) > 1e-6).mean()) > 0.5
    if len(raw) % 4 == 0 and plausible:
        return ok(name, f"{floats.size / 16000:.1f} s of Float32 at 16 kHz, loudest {float(abs(finite).max()):.2f}")
    shorts = numpy.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(float)
    if abs(shorts).max() > 50 and abs(numpy.diff(shorts)).mean() < abs(shorts).mean() * 2:
        return problem(name, f"{path} looks like Int16: the service would refuse it with 4400", remedy)
    if sane and not finite.any():
        return warning(name, f"{path} is silence", "look whether the microphone is the right one and not muted")
    return problem(name, f"{path} is not Float32 in [-1, 1]: the service would refuse it with 4400", remedy)
