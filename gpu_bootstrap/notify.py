"""Tell systemd how the service is (sd_notify(3)); nothing where no systemd asked."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send e.g. `READY=1` to $NOTIFY_SOCKET. Never raises: a supervisor that does not listen stops no service."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.sendto(state.encode(), address)
    except OSError:
        return
