"""Telling people: once, by every channel, again when one failed, and never at the cost of a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.services.notifications import LONGEST_S, deliver
from chalicelib.services.outbox import GIVEN_UP_S, OUTBOX, tell
from tests.fakes import FakeMetrics, FakeNotifier
from tests.unit.test_reconcile import World


class Told:
    """A world with two channels."""

    def __init__(self) -> None:
        self.topic, self.webhook, self.metrics = FakeNotifier(), FakeNotifier(), FakeMetrics()
        self.world = World()
        channels = {"topic": self.topic, "webhook": self.webhook}
        self.context = replace(self.world.context, notifiers=channels, metrics=self.metrics)

    def wait(self, *reasons: str) -> None:
        for one in reasons:
            self.context.store.write(tell(self.world.clock(), "gpu.failing", "i-1", one))
            self.world.clock.advance(0.01)

    @property
    def waiting(self) -> int:
        return len(self.context.store.partition(OUTBOX))


@pytest.fixture
def told() -> Told:
    return Told()


def test_each_channel_is_told_once(told: Told) -> None:
    told.wait("it woke 2 times")
    for _ in range(3):
        deliver(told.context)
    assert [one.text for one in told.topic.told] == ["It woke 2 times (i-1)."]
    assert len(told.webhook.told) == 1
    assert told.waiting == 0


def test_a_channel_that_fails_is_asked_again_and_the_other_is_not(told: Told) -> None:
    told.webhook.broken = True
    told.wait("one", "two")
    deliver(told.context)
    assert (len(told.topic.told), told.webhook.tries, told.waiting) == (2, 1, 2)
    assert ("NotificationsFailed", 1.0) in [(one.name, one.value) for one in told.metrics.emitted]
    told.webhook.broken = False
    told.world.clock.advance(60)
    deliver(told.context)
    assert [one.text for one in told.webhook.told] == ["One (i-1).", "Two (i-1)."]
    assert len(told.topic.told) == 2
    assert told.waiting == 0


def test_old_news_is_given_up(told: Told) -> None:
    told.topic.broken = told.webhook.broken = True
    told.wait("one")
    deliver(told.context)
    told.world.clock.advance(GIVEN_UP_S)
    deliver(told.context)
    assert told.waiting == 0
    assert told.topic.tries == 1


def test_two_ticks_at_once_tell_once(told: Told) -> None:
    told.wait("one")
    told.topic.meanwhile = lambda: deliver(told.context)
    deliver(told.context)
    assert len(told.topic.told) == 1
    assert told.waiting == 0


def test_a_slow_channel_does_not_hold_the_tick(told: Told) -> None:
    told.wait(*map(str, range(10)))
    told.topic.meanwhile = lambda: told.world.clock.advance(5)
    began = told.world.clock()
    deliver(told.context)
    assert told.world.clock() - began <= LONGEST_S + 5
    assert told.waiting > 0


def test_a_lack_of_capacity_is_told_and_the_pass_goes_on_when_nobody_hears(told: Told) -> None:
    world = told.world
    told.topic.broken = told.webhook.broken = True
    world.machines.no_room = {(one.type, one.zone) for one in world.machines.machines.values()}
    world.open()
    world.tick()
    deliver(told.context)
    assert told.waiting == 1
    told.topic.broken = told.webhook.broken = False
    world.clock.advance(60)
    deliver(told.context)
    (message,) = told.topic.told
    assert message.title == "No GPU is to be had"
    assert message.link == world.context.settings.edge_url
