"""Short histories, each of which needs one upholding line: run as a program, `python -m tests.chaos.scenarios NAME`.

Exit 0 when all invariants held, 1 with the broken one on stdout. The mutation test runs them on changed code.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.services.events import Cause
from tests.chaos.fakes import Violation
from tests.chaos.plant import EDGE
from tests.chaos.world import World


def speaking(world: World) -> str:
    """A client whose words come back."""
    sid = world.open()
    assert sid is not None
    world.advance(120)
    assert any(sid in host.streams for host in world.hosts.values())
    return sid


def stop_under_a_stream(world: World) -> None:
    world.clients[speaking(world)] = False  # asks for nothing any more, so that nothing tells it to leave
    world.stubborn = True
    world.stop()
    world.advance(1200)


def stop_as_a_stream_begins(world: World) -> None:
    """The host has not yet told of it."""
    sid = world.open()
    while not (begun := [host for host in world.hosts.values() if sid in host.streams]):
        world.advance(5)
    assert sid not in begun[0].told[1]
    world.stop()
    world.clock.advance(2)
    world.run(lambda: world.context.reconcile(Cause("reconcile", "tick")))  # a pass before the host's next report
    world.advance(120)
    assert not world.hosts


def nobody_is_left(world: World) -> None:
    world.close(speaking(world))
    world.advance(1500)


def nobody_is_left_long_enough_to_learn(world: World) -> None:
    """Nine short gaps teach a linger, which never grows beyond the setting."""
    for _ in range(10):
        sid = world.open()
        world.advance(90)
        assert sid is not None
        world.close(sid)
        world.advance(60)
    assert world.control.learned(world.rules).idle_because
    world.advance(1500)


def spoken_for_hours(world: World) -> None:
    """On a host whose own switch is broken."""
    world.switchless = True
    speaking(world)
    world.stubborn = True
    world.advance(9000)


def no_room_but_another_type(world: World) -> None:
    world.ec2.no_room = {("g4dn.xlarge", "z-a"), ("g4dn.xlarge", "z-b")}
    world.excuse()
    sid = world.open()
    world.advance(150)
    assert sid is not None
    if not any(sid in host.streams for host in world.hosts.values()):
        raise Violation("I3 there is room for another type, and nobody can speak")


def into_the_night(world: World) -> None:
    speaking(world)
    world.stubborn = True
    world.advance(3 * 3600)


def two_passes_at_once(world: World) -> None:
    for looks in range(3):
        world.concur(looks)
        sid = world.open()
        world.advance(60)
        if sid is not None:
            world.close(sid)
        world.stop(force=True)
        world.advance(60)


def a_late_read(world: World) -> None:
    world.open()
    started = next(name for name in world.gpus if world.state(name).awake)
    world.ec2.late = {started: MachineState.STOPPED}
    world.tick_at = world.clock()
    world.advance(5)
    world.ec2.late = {}
    world.advance(400)
    world.stop(force=True)
    world.advance(120)
    world.slack_s = 0.0


def an_edge_that_stops(world: World) -> None:
    """The edge is no GPU, whatever state it is in, and were it the first in every order."""
    world.ec2.become(EDGE, MachineState.STOPPED)
    world.ec2.machines["a-edge"] = Machine("a-edge", Role.EDGE, MachineState.STOPPED)
    world.open()
    world.advance(120)
    world.ec2.become(EDGE, MachineState.RUNNING)


def a_second_gpu_serves(world: World) -> None:
    speaking(world)
    first = next(iter(world.hosts))
    world.dies(first)
    world.advance(300)


def the_power_of_a_gpu_is_gone(world: World) -> None:
    """Under a stream: the standby serves within the time of a boot, and what is dead is not paid for hours."""
    sid = speaking(world)
    first = next(name for name, host in world.hosts.items() if sid in host.streams)
    world.perishes(first)
    world.advance(120)
    if not any(sid in host.streams for host in world.hosts.values()):
        raise Violation("I3 its GPU is dead, and a standby does not serve")
    world.advance(120)
    if world.state(first).awake:
        raise Violation("I2 a dead machine is left running")


def killed_after_the_act(world: World) -> None:
    """The record of the start is lost; the next passes must know since when the machine was on."""
    world.kill_at(3)
    world.open()
    world.advance(400)
    world.stop(force=True)
    world.advance(120)
    world.slack_s = 0.0


def asked_while_it_is_held(world: World) -> None:
    """A wish that comes while another pass holds the lock, and no tick after it."""
    world.ticks_lost = True
    world.ec2.become(EDGE, MachineState.STOPPING)

    def wish() -> None:
        world.ticks_lost = True
        world.open()

    world.ec2.countdown, world.ec2.meanwhile = 1, wish
    world.run(lambda: world.context.wishes_changed(Cause("reconcile", "test")))
    world.ec2.become(EDGE, MachineState.RUNNING)
    if not any(world.state(name).awake for name in world.gpus):
        raise Violation("I9 the call returned, and the pass that held the lock did not see the wish")


def called_and_nothing_else(world: World) -> None:
    world.open()


def booked(world: World) -> None:
    world.book(1800, 1200)
    world.advance(1800)
    if not any(host.status(world.clock()) == "ready" for host in world.hosts.values()):
        raise Violation("I3 booked, and not ready in time")


def nobody_can_stop_it(world: World) -> None:
    world.close(speaking(world))
    world.down = True
    world.advance(1500)


def spoken_for_hours_and_nobody_can_stop_it(world: World) -> None:
    speaking(world)
    world.stubborn = True
    world.down = True
    world.advance(9000)


SCENARIOS: dict[str, tuple[Callable[[World], None], dict[str, float]]] = {
    "stop_under_a_stream": (stop_under_a_stream, {}),
    "stop_as_a_stream_begins": (stop_as_a_stream_begins, {}),
    "nobody_is_left": (nobody_is_left, {}),
    "nobody_is_left_long_enough_to_learn": (nobody_is_left_long_enough_to_learn, {}),
    "spoken_for_hours": (spoken_for_hours, {}),
    "no_room_but_another_type": (no_room_but_another_type, {}),
    "into_the_night": (into_the_night, {"hour": 20.5}),
    "two_passes_at_once": (two_passes_at_once, {}),
    "a_late_read": (a_late_read, {}),
    "an_edge_that_stops": (an_edge_that_stops, {}),
    "a_second_gpu_serves": (a_second_gpu_serves, {}),
    "the_power_of_a_gpu_is_gone": (the_power_of_a_gpu_is_gone, {}),
    "killed_after_the_act": (killed_after_the_act, {}),
    "asked_while_it_is_held": (asked_while_it_is_held, {}),
    "called_and_nothing_else": (called_and_nothing_else, {}),
    "booked": (booked, {}),
    "nobody_can_stop_it": (nobody_can_stop_it, {}),
    "spoken_for_hours_and_nobody_can_stop_it": (spoken_for_hours_and_nobody_can_stop_it, {}),
}


def play(name: str) -> None:
    """Run one; Violation when an invariant broke."""
    scenario, begin = SCENARIOS[name]
    world = World(2, begin.get("hour", 12.0))
    scenario(world)
    world.finish()


def main(name: str) -> int:
    logging.disable(logging.CRITICAL)
    try:
        play(name)
    except Violation as broken:
        sys.stdout.write(f"{broken}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
