"""A small threaded HTTP/1.1 server for loopback: the AWS endpoint and the API gateway are both one function on it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

log = logging.getLogger(__name__)

LONGEST_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request. `target`: path and query as sent; header names in lower case; `peer`: the client's address."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    peer: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A response. A header with several values is a list."""

    status: int
    headers: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def json(cls, status: int, value: Any, content_type: str = "application/json") -> HttpAnswer:
        return cls(status, {"Content-Type": content_type}, json.dumps(value).encode())

    @classmethod
    def problem(cls, status: int, title: str, detail: str) -> HttpAnswer:
        """RFC 9457."""
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        return cls.json(status, body, "application/problem+json")


class HttpServer:
    """Serves `answer` on one of this machine's addresses from the moment it is made; `close()` ends it."""

    def __init__(
        self, port: int, answer: Callable[[HttpCall], HttpAnswer], name: str, host: str = "127.0.0.1"
    ) -> None:
        self._server = _Server((host, port), _handler(answer))
        self.port = int(self._server.server_address[1])
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name=name, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  the base class names it
        log.debug("connection from %s broke", client_address, exc_info=True)


def _handler(answer: Callable[[HttpCall], HttpAnswer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server: _Server
        protocol_version = "HTTP/1.1"
        # One write for headers and body: split in two they cost a delayed ACK (40 ms) each.
        wbufsize = -1
        disable_nagle_algorithm = True
        timeout = 120

        def serve(self) -> None:
            body = self._body()
            if body is None:
                self.close_connection = True
                self._send(HttpAnswer.problem(413, "Content Too Large", "The body is larger than this server takes."))
                return
            call = HttpCall(
                method=self.command,
                target=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
                peer=str(self.client_address[0]),
                port=self.server.server_port,
            )
            try:
                response = answer(call)
            except Exception:  # one bad request must not take the server with it
                log.exception("%s %s failed", self.command, self.path.partition("?")[0])
                response = HttpAnswer.problem(502, "Bad Gateway", "The request failed inside; the log says why.")
            self._send(response)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = serve

        def _body(self) -> bytes | None:
            """The body, None if it is too large or its length is no number."""
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                return self._chunked()
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > LONGEST_BODY:
                return None
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.wfile.flush()
            return self.rfile.read(int(length))

        def _chunked(self) -> bytes | None:
            body = b""
            while (size := int(self.rfile.readline(64).split(b";")[0], 16)) > 0:
                body += self.rfile.read(size)
                self.rfile.readline(4)
                if len(body) > LONGEST_BODY:
                    return None
            while self.rfile.readline(8192).strip():
                continue
            return body

        def _send(self, response: HttpAnswer) -> None:
            self.send_response(response.status)
            for name, value in response.headers.items():
                for one in value if isinstance(value, list) else [value]:
                    self.send_header(name, one)
            # The answer to HEAD says how long the body of a GET would be.
            told = self.command == "HEAD" and any(name.lower() == "content-length" for name in response.headers)
            if response.status not in (204, 304) and not told:
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if self.command != "HEAD" and response.status not in (204, 304):
                self.wfile.write(response.body)
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
            log.debug(format, *args)

    return Handler
