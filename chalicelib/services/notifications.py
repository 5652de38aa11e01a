"""Telling people: what waits to be told is handed to every channel until each has taken it.

A pass writes what is to be told in the transaction that writes the event (`outbox.tell`), so neither is ever without
the other. The tick hands it on (`deliver`). A channel that refuses is asked again a minute later: what waits is the
level, the tick its trigger. After a day it is given up, and the log says so.

At least once: two ticks at the same time do not tell twice, a tick that is killed between telling and writing does.
"""

from __future__ import annotations

from chalicelib.domain.notification import Notification, notification
from chalicelib.errors import NotifyFailed, StoreConflict
from chalicelib.ports import Delete, Measure, Put, Record, Unit
from chalicelib.services.context import Context
from chalicelib.services.outbox import GIVEN_UP_S, OUTBOX
from chalicelib.telemetry import logger

HELD_S = 60.0
"""How long one tick has a message for itself."""
MOST = 20
"""Messages of one tick; the others wait for the next."""
LONGEST_S = 12.0
"""No further message is begun after this long: the tick may live 29 s, and a pass comes before."""


def deliver(context: Context) -> None:
    """Hand on what waits. Never raises for what a channel or the table says."""
    if not context.notifiers:
        return
    began = context.clock()
    deaf: set[str] = set()
    for record in context.store.partition(OUTBOX, limit=MOST):
        now = context.clock()
        if now - began > LONGEST_S or deaf >= context.notifiers.keys():
            return
        try:
            _deliver(context, record, now, deaf)
        except StoreConflict:
            continue  # another tick is at it


def _deliver(context: Context, record: Record, now: float, deaf: set[str]) -> None:
    data = record.data
    if now >= data["at"] + GIVEN_UP_S:
        logger().error("nobody could be told", extra={"action": data["action"], "reason": data["reason"]})
        context.store.write(Delete(record.key, record.version))
        return
    if now < data["held_until"]:
        return
    context.store.write(Put(record.key, {**data, "held_until": now + HELD_S}, record.version, record.expires_at))
    message = message_of(context, record)
    done = set(data["done"])
    for name, channel in context.notifiers.items():
        if name in done or name in deaf:
            continue
        try:
            channel.tell(message)
        except NotifyFailed as error:
            deaf.add(name)  # what follows would meet the same
            logger().warning("a channel did not take it", extra={"channel": name, "reason": str(error)})
            context.metrics.emit(
                Measure("NotificationsFailed", 1, Unit.COUNT, ("Channel", name)), Measure("NotificationsFailed", 1)
            )
        else:
            done.add(name)
    version = record.version + 1
    if done >= context.notifiers.keys():
        context.store.write(Delete(record.key, version))
    else:
        left = {**data, "done": sorted(done), "held_until": 0.0}
        context.store.write(Put(record.key, left, version, record.expires_at))


def message_of(context: Context, record: Record) -> Notification:
    """The message that a record stands for."""
    data, settings = record.data, context.settings
    words = (data["action"], data["target"], data["reason"])
    return notification(record.key.sk, *words, settings.stack_name, settings.edge_url)
