"""I1 to I9, looked at from outside the engine: by what machines, hosts and clients really do.

I1 and I6 are asked before EC2 takes an act, I5 by the fake EC2 itself, I9 where a client opens a session, I7 where
the edge hears whom to forward to; the rest at every step, and I8 and I3 at a history's end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.domain.machines import MachineState, View
from chalicelib.domain.phases import ready_gpus
from chalicelib.domain.rules import admission
from chalicelib.domain.wishes import OrderKind
from chalicelib.services.control import LEDGER, Control, spans_from
from gpu_bootstrap.hostlink.deadman import FLUSH_S, NOTICE_S
from tests.chaos.fakes import Violation
from tests.chaos.times import BOOT_S, DEADMAN, EXCUSE_S, GRACE_S, HARD_MAX_S, IDLE_S, STEP_S, TICK_S

if TYPE_CHECKING:
    from tests.chaos.world import World


def may_touch(world: World, name: str) -> None:
    """I6."""
    if name not in world.gpus:
        raise Violation(f"I6 {name} is not ours to touch")


def may_stop(world: World, name: str) -> None:
    """I1, by what really streams."""
    host, now = world.hosts.get(name), world.clock()
    if host is None or not host.streams:
        return
    control = world.control
    order, memory = control.wishes.order(OrderKind.STOP), control.memories[name]
    forced = order is not None and order.force and order.at >= (memory.awake_since or 0.0)
    spent = now - world.awake_from[name] >= HARD_MAX_S - STEP_S
    drain = memory.drain
    noticed = drain is not None and drain.kind in ("night", "hard_max") and now >= drain.closing_at
    if not (forced or spent or noticed):
        raise Violation(f"I1 {name} was stopped under {sorted(host.streams)}")


def started_at_once(world: World, before: Control, *, asleep: bool) -> None:
    """I9, after a call that opened a session; `before` is what stood in the table when it came."""
    refused = any(one.refusal is not None for one in world.control.memories.values())
    intended = any(one.intent is not None for one in before.memories.values())
    calm = world.clock() >= world.excused_until and not world.ticks_lost and before.lock_until <= world.clock()
    calm = calm and world.ec2.refuse_describe is None
    if asleep and calm and not refused and not intended and not any(world.state(one).awake for one in world.gpus):
        raise Violation("I9 the call returned and nothing was started")


def edge_forwards(world: World) -> None:
    """I7, after each answer to the edge: three with the same ready GPUs, and it forwards to those only."""
    now, seen = world.clock(), world.control.observation(world.clock())
    ready = ready_gpus(seen, now)
    world.serving = [*world.serving, frozenset(str(view.machine.private_ip) for view in ready)][-3:]
    same = len(world.serving) == 3 and len(set(world.serving)) == 1 and bool(world.serving[0])
    # A host that joins is ready but for the edge, which hears of it in this very answer.
    joining = {str(view.machine.private_ip) for view in seen.gpus if _ready_but_for_the_edge(view, now)}
    if same and not set(world.upstreams) <= world.serving[0] | joining:
        raise Violation(f"I7 the edge forwards to {world.upstreams}, ready are {sorted(world.serving[0])}")


def _ready_but_for_the_edge(view: View, now: float) -> bool:
    report = view.fresh(now)
    return (
        view.machine.state is MachineState.RUNNING
        and view.memory.drain is None
        and not view.cut_off(now)
        and report is not None
        and report.status == "ready"
    )


def wanted(world: World) -> None:
    """Note that somebody wants a GPU, or what excuses one that runs: at every step, and as soon as a wish is made."""
    now, control = world.clock(), world.control
    if now < world.excused_until or world.hindered():
        world.quiet_since = world.dark_since = now
    streaming = frozenset(sid for host in world.hosts.values() for sid in host.streams)
    booked = control.wishes.booked(now, world.lead_s) is not None
    unknown = any(host.silent for host in world.hosts.values())
    if booked or unknown or streaming or control.wishes.live_sessions(now, streaming):
        world.quiet_since = now
    if world.rules.night is None or world.rules.night.at(now) is None or booked:
        world.dark_since = now


def check(world: World, passed_s: float) -> None:
    """I2 and I4, after a step of `passed_s` seconds."""
    now = world.clock()
    if world.ec2.refuse_describe is not None or world.ticks_lost or world.down:
        world.slack_s += passed_s  # nobody sees when a machine stops by itself
    wanted(world)
    awake = [name for name in world.gpus if world.state(name).awake]
    if awake and now - world.quiet_since > IDLE_S + 2 * TICK_S + STEP_S:
        raise Violation(f"I2 {awake} run, and nobody has wanted them since {now - world.quiet_since:.0f} s")
    if awake and now - world.dark_since > GRACE_S + 30 + 2 * TICK_S + BOOT_S + STEP_S:
        raise Violation(f"I4 {awake} run in the night")
    _not_past_the_hard_maximum(world)


def _not_past_the_hard_maximum(world: World) -> None:
    now = world.clock()
    for name, since in world.awake_from.items():
        # Measured to where nothing was in the way of a stop.
        late = now - max(since + HARD_MAX_S, world.excused_until)
        if late > 2 * TICK_S and not world.hindered():
            raise Violation(f"I2 {name} runs past its hard maximum")
        # Whatever is in the way: the host's own switch.
        if now - since > BOOT_S + HARD_MAX_S + NOTICE_S + FLUSH_S + 2 * STEP_S:
            raise Violation(f"I2 {name} runs past its hard maximum, and nothing excuses that")
    for name, host in world.hosts.items():
        heard = (host.vitals.booted_at, host.vitals.answered_at or 0.0, host.vitals.streamed_at or 0.0)
        if not host.streams and now - max(heard) > DEADMAN.silent_s + 2 * STEP_S:
            raise Violation(f"I2 {name} runs, nobody speaks, and nobody could stop it")


def finish(world: World) -> None:
    """I8, then I3: whatever happened, when the faults are over a wish is served."""
    slack = world.slack_s
    world.calm()
    world.clients = dict.fromkeys(world.clients, False)
    world.advance(EXCUSE_S)
    spans = spans_from(world.store.partition(LEDGER))
    ledger = sum(max(60.0, (one.stopped_at or 0.0) - one.started_at) for one in spans)
    if abs(ledger - world.awake_s) > slack + STEP_S * len(spans):
        raise Violation(f"I8 the ledger says {ledger:.0f} s, EC2 {world.awake_s:.0f} s")
    waited = 0.0
    while waited < 5400:
        admitted = admission(world.control.wishes, world.control.learned(world.rules), world.clock())
        if not admitted.open and admitted.until is not None:
            waited = 0.0
            world.rest_until(admitted.until - 2 * TICK_S)
            world.advance(max(STEP_S, admitted.until - world.clock()))
            continue
        if not any(world.clients.values()):
            world.open()
        world.advance(30)
        waited += 30
        if any(host.streams & world.clients.keys() for host in world.hosts.values()):
            return
    glance = world.control.overview(world.rules, world.clock())
    raise Violation(f"I3 nobody could speak for an hour and a half: {glance.phase}, {glance.reason}")
