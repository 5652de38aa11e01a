"""Who has a place on which GPU.

Places are counted per machine. Whoever streams has his; whoever was given one keeps it while his host serves; what
is free then goes by turns: to the token that holds the fewest, and among its sessions to the oldest. So a shared
invite may fill every GPU while nobody else asks, and still cannot keep a second token waiting for more than the
next place that gets free. Tickets are good on any host and the edge spreads streams by load, so a stream that turns
up on another machine than reserved moves the place there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from chalicelib.domain.machines import Observation, View
from chalicelib.domain.phases import ready_gpus
from chalicelib.domain.wishes import Session


def host_of(view: View) -> str:
    """One time awake of one machine: a host that came back from a loss is not the one it was."""
    report = view.current()
    return f"{view.instance_id}/{report.boot_id if report else ''}"


def places(observation: Observation, sessions: Iterable[Session], now: float) -> Mapping[str, str]:
    """The host (`host_of`) on which each of these live sessions has a place; the others wait."""
    waiting = {one.id: one for one in sorted(sessions, key=lambda one: (one.created_at, one.id))}
    found: dict[str, str] = {}
    free: dict[str, int] = {}
    held: Counter[str] = Counter()
    for view in ready_gpus(observation, now):
        report, host = view.current(), host_of(view)
        free[host] = report.max_streams if report else 0
        for stream in view.streams():
            free[host] -= 1
            if stream.sid in waiting:
                found[stream.sid] = host
                held[waiting.pop(stream.sid).owner] += 1
    for one in list(waiting.values()):
        if free.get(one.host, 0) > 0:
            found[one.id] = one.host
            free[one.host] -= 1
            held[waiting.pop(one.id).owner] += 1
    while waiting and free and max(free.values()) > 0:
        host = max(sorted(free), key=lambda name: free[name])
        first = min(waiting.values(), key=lambda one: held[one.owner])
        found[first.id] = host
        free[host] -= 1
        held[waiting.pop(first.id).owner] += 1
    return found


def moved(session: Session, host: str) -> Session:
    """The session with this place; its epoch grows when the host is another one than before."""
    return session if session.host == host else replace(session, host=host, epoch=session.epoch + 1)
