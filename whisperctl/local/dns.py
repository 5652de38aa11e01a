"""A DNS server of a hosts file: the embedded edge shares /etc/hosts with the machine and may not write there.

On a real edge host the system's resolver reads /etc/hosts. Here Caddy asks this server, which answers A queries
from the file the real `set-upstream.sh` writes under the host's PREFIX, read anew for every question, so a change
is seen as soon as on a real host. RFC 1035 by way of dnslib.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from dnslib import QTYPE, RCODE, RR, A, DNSError, DNSRecord

log = logging.getLogger(__name__)


def addresses(text: str, name: str) -> list[str]:
    """The IPv4 addresses a hosts file gives `name`, in the file's order."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and name in words[1:] and ":" not in words[0]:
            found.append(words[0])
    return found


def answer(question: bytes, hosts: str) -> bytes:
    """The reply to one DNS message; NXDOMAIN for a name the file lacks. Raises DNSError on what is none."""
    query = DNSRecord.parse(question)
    reply = query.reply()
    name = str(query.q.qname).rstrip(".").lower()
    found = addresses(hosts, name)
    if not found:
        reply.header.rcode = RCODE.NXDOMAIN
    elif query.q.qtype in (QTYPE.A, QTYPE.ANY):
        for address in found:
            reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address), ttl=0))
    return bytes(reply.pack())


class HostsFileDns:
    """Serves on a free UDP port of loopback until `close()`. `hosts_file()` is None while there is no file."""

    def __init__(self, hosts_file: Callable[[], Path | None]) -> None:
        self._hosts_file = hosts_file
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.5)
        host, port = self._socket.getsockname()
        self.address = f"{host}:{port}"
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="dns", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(2)
        self._socket.close()

    def _serve(self) -> None:
        while not self._closed.is_set():
            try:
                question, peer = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            try:
                self._socket.sendto(answer(question, self._hosts()), peer)
            except (DNSError, OSError):
                log.warning("a DNS question from %s was not answered", peer, exc_info=True)

    def _hosts(self) -> str:
        path = self._hosts_file()
        try:
            return path.read_text() if path is not None else ""
        except FileNotFoundError:
            return ""
