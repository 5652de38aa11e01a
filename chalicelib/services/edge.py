"""The edge's upstreams over SSM, for when its host link is down or somebody wants it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.domain.machines import MachineState
from chalicelib.domain.remote import set_upstream
from chalicelib.errors import CommandRefused, Conflict, Unavailable
from chalicelib.services.context import Context
from chalicelib.services.control import load
from chalicelib.services.events import Cause, event
from chalicelib.services.host_link import upstreams


def refresh(context: Context, cause: Cause) -> dict[str, Any]:
    """Send the upstreams that are due to every running edge; answer with the command ids, without waiting."""
    context.wishes_changed(cause)
    control = load(context.store)
    now = context.clock()
    observation = control.observation(now)
    running = [view.instance_id for view in observation.edges if view.machine.state is MachineState.RUNNING]
    if not running:
        raise Conflict("No edge host of this stack is running.")
    due = upstreams(observation, now)
    sent = []
    for instance_id in running:
        try:
            sent.append({"instance_id": instance_id, "command_id": send(context, instance_id, due, cause)})
        except CommandRefused as error:
            raise Unavailable(f"SSM did not take the command for {instance_id}: {error}.") from error
    return {"upstreams": due, "commands": sent}


def send(context: Context, instance_id: str, due: Sequence[Mapping[str, Any]], cause: Cause) -> str:
    """Send these upstreams to one edge; the command's id. CommandRefused."""
    command_id = context.commands.send(
        instance_id, set_upstream(context.settings.stack_name, [str(one["host"]) for one in due])
    )
    words = "forward to " + (", ".join(str(one["host"]) for one in due) or "nobody")
    context.store.write(event(context.clock(), cause, "edge.refresh", instance_id, words))
    return command_id
