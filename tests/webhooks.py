"""A webhook's receiver on loopback: keeps what came, and answers what the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """`got`: each request's path, headers and body."""

    url: str = ""
    status: int = 200
    got: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The bodies, JSON's `text` where there is one."""
        return [json.loads(body).get("text", body) if body.startswith("{") else body for _, _, body in self.got]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Runs until the block ends."""
    about = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            about.got.append((self.path, dict(self.headers.items()), body))
            self.send_response(about.status)
            if about.status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    about.url = f"http://127.0.0.1:{server.server_address[1]}/services/T0/secret-part?x=1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield about
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
