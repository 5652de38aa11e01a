"""The network of systemd hosts: a bridge with this machine at .1 and no way out, gone with the run that made it.

The interface's alias says whose it is (process id and start time), so that the next run can delete the bridge of
one that was killed, and no other.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import re
import subprocess
import threading
from pathlib import Path

from whisperctl.local.preflight import CannotStart
from whisperctl.local.processes import start_time

log = logging.getLogger(__name__)

ALIAS = re.compile(r"whisperlive-edge (\d+) (\d+)")
INTERFACES = Path("/sys/class/net")


def ip(*words: str) -> str:
    """iproute2's `ip`; raises CannotStart with its own words."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotStart(f"ip {' '.join(words)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def delete_leftovers() -> list[str]:
    """Delete the bridges of runs that are no more; returns their names."""
    gone = []
    for interface in INTERFACES.iterdir():
        alias = interface / "ifalias"
        owner = ALIAS.fullmatch(alias.read_text().strip()) if alias.exists() else None
        if owner is not None and start_time(int(owner[1])) != int(owner[2]):
            ip("link", "delete", interface.name)
            gone.append(interface.name)
    return gone


class Bridge:
    """Up from the moment it is made until `close()`. Addresses are handed out once each."""

    def __init__(self) -> None:
        self.network = _free_network()
        hosts = self.network.hosts()
        self.address = str(next(hosts))
        self._free = hosts
        self._lock = threading.Lock()
        self.name = f"wle{os.getpid()}"
        ip("link", "add", self.name, "type", "bridge")
        try:
            ip("link", "set", self.name, "alias", f"whisperlive-edge {os.getpid()} {start_time(os.getpid())}")
            ip("address", "add", f"{self.address}/{self.network.prefixlen}", "dev", self.name)
            ip("link", "set", self.name, "up")
        except CannotStart:
            self.close()
            raise

    def new_address(self) -> str:
        """An IPv4 address no host here ever had."""
        with self._lock:
            return str(next(self._free))

    def close(self) -> None:
        ip("link", "delete", self.name)


def _free_network() -> ipaddress.IPv4Network:
    """A /24 of 10.0.0.0/8 that no route of this machine touches."""
    taken = []
    for line in ip("-4", "route", "show", "table", "all").splitlines():
        for word in line.split()[:2]:
            try:
                taken.append(ipaddress.IPv4Network(word, strict=False))
            except ValueError:
                continue
    for _ in range(1000):
        octets = random.randint(64, 254), random.randint(0, 254)  # noqa: S311  no secret
        network = ipaddress.IPv4Network(f"10.{octets[0]}.{octets[1]}.0/24")
        if not any(network.overlaps(other) for other in taken):
            return network
    raise CannotStart("No /24 of 10.0.0.0/8 is free on this machine for a bridge.")
