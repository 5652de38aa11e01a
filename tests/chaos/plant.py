"""What moves by itself as time goes by: machines, the hosts on them, the edge, and the clients that speak.

One function for each; `World.advance` calls them in this order at every step.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.domain.machines import MachineState
from chalicelib.errors import Gone, NotFound
from chalicelib.services import host_link, sessions
from chalicelib.services.tokens import Principal, Role
from gpu_bootstrap.hostlink.answers import stay_s
from gpu_bootstrap.hostlink.deadman import NOTICE_S, Act, Vitals, deadman
from tests.chaos import invariants
from tests.chaos.fakes import Host, Killed
from tests.chaos.times import BEAT_S, DEADMAN, LOAD_S, REPORT_S, STEP_S

if TYPE_CHECKING:
    from tests.chaos.world import World

EDGE = "i-edge"
ANNA = Principal("p-anna", Role.SPEAKER, "anna")


def machines(world: World) -> None:
    """Those whose time has come run, with a host on them, or have stopped."""
    now = world.clock()
    for name in world.gpus:
        if name not in world.due or now < world.due[name] or name in world.stuck:
            continue
        del world.due[name]
        if world.state(name) is MachineState.PENDING:
            world.boots += 1
            boot = f"boot-{world.boots}"
            world.hosts[name] = Host(boot, now + LOAD_S, vitals=Vitals(boot, now))
            world.ec2.become(name, MachineState.RUNNING)
        elif world.state(name) is MachineState.STOPPING:
            world.ec2.become(name, MachineState.STOPPED)
        world.event()


def hosts(world: World) -> None:
    """They close what drains, report, and ask their own switch."""
    now = world.clock()
    for name, host in list(world.hosts.items()):
        if world.hosts.get(name) is not host:
            continue  # the pass that another's report made has stopped it
        if host.closing_at is not None and now >= host.closing_at and not world.stubborn:
            host.streams.clear()
        said = (host.status(now), frozenset(host.streams))
        if not host.silent and (now - host.reported_at >= REPORT_S or said != host.told):
            host.reported_at, host.told = now, said
            report(world, name)
        if world.hosts.get(name) is host:
            _switch(world, name, host)


def _switch(world: World, name: str, host: Host) -> None:
    """The host's own dead man's switch, by the real decision."""
    if world.switchless:
        return
    now, before = world.clock(), host.vitals
    active = bool(host.streams)
    streamed = now if active or before.streaming else before.streamed_at
    host.vitals = replace(before, streaming=active, streamed_at=streamed)
    match deadman(host.vitals, DEADMAN, now).action:
        case Act.ANNOUNCE:
            host.vitals = replace(host.vitals, announced_at=now)
            host.closing_at = now + NOTICE_S
        case Act.POWER_OFF | Act.INSIST:
            world.dies(name)


def report(world: World, name: str) -> None:
    """A GPU host's report, and what it does with the answer."""
    host, now = world.hosts[name], world.clock()
    streams = [{"sid": sid} for sid in sorted(host.streams)]
    body = {"boot_id": host.boot_id, "status": host.status(now), "max_streams": 4, "streams": streams}
    answer = world.run(lambda: host_link.report(world.context, name, body))
    if answer is None:
        return
    stay = stay_s(answer)
    until = None if stay is None else now + stay
    host.vitals = replace(host.vitals, answered_at=now, stay_until=until)
    drain = answer["drain"]
    if host.vitals.announced_at is not None:
        return  # what the switch announced stands
    host.closing_at = None if drain is None else datetime.fromisoformat(drain["closing_at"]).timestamp()
    host.streams -= set(answer["revoked"])


def edge(world: World) -> None:
    """It reports as often as it is told to, and forwards to whom it is told."""
    now = world.clock()
    if now < world.edge_at:
        return
    world.edge_at = now + REPORT_S
    down = [host for host in world.watched if not any(world.ip(name) == host for name in world.hosts)]
    body = {"boot_id": "e", "status": "ready", "upstreams": list(world.upstreams), "gpus_down": down}
    answer = world.run(lambda: host_link.report(world.context, EDGE, body))
    if answer is None:
        world.serving.clear()
        return
    world.edge_at = now + max(REPORT_S, float(answer["next_report_s"]))
    world.upstreams = tuple(one["host"] for one in answer["upstreams"])
    world.watched = tuple(one["host"] for one in answer["watch"])
    invariants.edge_forwards(world)


def clients(world: World) -> None:
    """They send heartbeats, speak as soon as they have a ticket, and leave when they are told that it is over."""
    for sid, alive in list(world.clients.items()):
        speaks = any(sid in host.streams for host in world.hosts.values())
        if not alive or world.down or world.clock() < world.beats.get(sid, 0.0) + (BEAT_S if speaks else 2 * STEP_S):
            continue
        world.beats[sid] = world.clock()
        try:
            seen = sessions.heartbeat(world.context, ANNA, sid, {})
        except (Gone, NotFound):
            leave(world, sid)
            continue
        except Killed:
            world.bury()
            continue
        if seen["ticket"] and not speaks:
            _speak(world, sid)


def _speak(world: World, sid: str) -> None:
    now = world.clock()
    for name, host in world.hosts.items():
        if world.ip(name) in world.upstreams and host.status(now) == "ready" and not host.silent:
            host.streams.add(sid)  # told in its next step: until then nobody else knows
            return


def leave(world: World, sid: str) -> None:
    """A client is gone. Whoever is told by a drain goes on speaking until it closes."""
    world.clients.pop(sid, None)
    world.beats.pop(sid, None)
    for host in world.hosts.values():
        if host.closing_at is None:
            host.streams.discard(sid)
