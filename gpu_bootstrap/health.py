"""`GET /health` in threads of its own, up while the model loads and never behind a decode."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(host: str, port: int, report: Callable[[], dict[str, object]]) -> ThreadingHTTPServer:
    """Start the health server; raises OSError when the port is taken.

    `GET /health` answers 200 with the report as JSON, whatever its status: the body says it. All else is 404.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5
        server_version = "whisper-launcher"
        sys_version = ""

        def do_GET(self) -> None:
            found = self.path.split("?")[0] == "/health"
            body = report() if found else {"detail": "only GET /health is here"}
            payload = json.dumps(body).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's names
            """Not logged: it is asked twice a second."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
