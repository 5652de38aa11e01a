"""A TCP relay on loopback that breaks on purpose: what a network does to a stream, without a network.

Bytes pass as they are, so TLS and WebSocket go through it end to end. One event loop owns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

CHUNK_S = 0.1
"""A slow relay passes a tenth of a second's bytes at a time."""


class Relay:
    """Passes connections on to `host`:`port`. `kbps`: kilobytes per second that pass towards it, None for all."""

    def __init__(self, host: str, port: int) -> None:
        self.kbps: float | None = None
        self.port = 0
        self._host, self._port = host, port
        self._down = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port of loopback, `self.port` from here on."""
        listener = socket.socket()
        # A small buffer, inherited by each connection: a slow relay is to be felt by the sender.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        listener.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.port = int(listener.getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection there is."""
        for connection in self._connections:
            connection.cancel()

    def down(self) -> None:
        """Break every connection, and each new one, until `up`."""
        self._down = True
        self.cut()

    def freeze(self) -> None:
        """Let nothing through, and close nothing, until `up`."""
        self._flows.clear()

    def up(self) -> None:
        self._down = False
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._down:
                await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a broken connection is what this is for
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        there = asyncio.create_task(self._pump(reader, far_writer, slow=True))
        back = asyncio.create_task(self._pump(far_reader, writer, slow=False))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await task
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool) -> None:
        while True:
            limit = max(1, round(self.kbps * 1000 * CHUNK_S)) if slow and self.kbps else 65536
            data = await reader.read(limit)
            await self._flows.wait()
            if not data:
                with contextlib.suppress(OSError):
                    await writer.drain()
                return
            writer.write(data)
            await writer.drain()
            if slow and self.kbps:
                await asyncio.sleep(len(data) / (self.kbps * 1000))
