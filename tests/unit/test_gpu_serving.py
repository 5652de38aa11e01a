"""The exchange of models, with models and a loader of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gpu_bootstrap.errors import ModelError, ModelLostError
from gpu_bootstrap.serving import RETURN_AFTER_S, TRY_AGAIN_S, WISH_AFTER_S, Lease, Loaded, Serving, due
from tests.waiting import wait_until

NAMES = ("tiny.en", "base", "broken", "lost")


def loaded(name: str) -> Loaded:
    decoder: Any = f"decoder of {name}"
    return Loaded(name, decoder)


class Host:
    """A `Serving` whose loader waits for `may_load` and fails for the models named so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wished: str | None = None
        self.lost: list[str] = []
        self.loads: list[str] = []
        self.may_load = threading.Event()
        self.may_load.set()
        self.serving = Serving(NAMES, loaded("tiny.en"), self.exchange, lambda: self.now)
        threading.Thread(target=self.serving.run, args=(lambda: self.wished, self.lost.append), daemon=True).start()

    def exchange(self, old: Loaded, name: str) -> Loaded:
        assert self.may_load.wait(10)
        self.loads.append(name)
        if name == "broken":
            raise ModelError("it is broken")
        if name == "lost":
            raise ModelLostError(f"{name} is broken and {old.name} is gone")
        return loaded(name)

    def take(self, asked: str | None, told: Callable[[str, float], None] = lambda _name, _s: None) -> Lease:
        return self.serving.take(asked, told)

    @contextmanager
    def loading_held(self) -> Iterator[None]:
        """While a loader that was asked does not come to an end."""
        self.may_load.clear()
        yield
        self.may_load.set()

    def wait_serving(self, name: str) -> None:
        wait_until(lambda: self.serving.loading is None and self.serving.current.name == name, 5, f"{name} to serve")


@pytest.fixture
def host() -> Host:
    return Host()


def end(lease: Lease) -> None:
    lease.leaving()
    lease.done()


def test_a_stream_that_asks_for_nothing_gets_what_serves(host: Host) -> None:
    lease = host.take(None)
    assert (lease.loaded.name, lease.excuse) == ("tiny.en", "")
    assert host.loads == []


def test_another_model_is_loaded_when_nobody_streams(host: Host) -> None:
    told: list[str] = []
    lease = host.take("base", lambda name, _: told.append(name))
    assert (lease.loaded.name, lease.excuse) == ("base", "")
    assert set(told) == {"base"}


def test_while_a_stream_lives_the_loaded_one_serves_with_a_word_why(host: Host) -> None:
    first = host.take("tiny.en")
    second = host.take("base")
    assert (second.loaded.name, second.excuse) == (
        "tiny.en",
        "the model 'base' cannot be loaded while others stream",
    )
    end(first)
    end(second)
    assert host.take("base").loaded.name == "base"
    assert host.loads == ["base"]


def test_a_model_that_is_not_there(host: Host) -> None:
    lease = host.take("../../etc")
    assert (lease.loaded.name, lease.excuse) == ("tiny.en", "this host does not have the model '../../etc'")


def test_a_model_that_does_not_load_leaves_the_old_one(host: Host) -> None:
    lease = host.take("broken")
    assert (lease.loaded.name, lease.excuse) == ("tiny.en", "the model 'broken' does not load here")
    end(lease)
    assert host.serving.offered() == ["base", "lost", "tiny.en"]
    assert host.take("broken").excuse
    assert host.loads == ["broken"], "it is not tried again at once"
    host.now += TRY_AGAIN_S
    assert "broken" in host.serving.offered()


def test_none_left(host: Host) -> None:
    host.wished = "lost"
    wait_until(lambda: host.lost, 5, "the loss to be said")
    assert host.lost == ["lost is broken and tiny.en is gone"]


def test_the_last_decode_of_a_stream_that_leaves_is_waited_for(host: Host) -> None:
    first = host.take(None)
    first.leaving()
    got: list[Lease] = []
    waiting = threading.Event()
    taker = threading.Thread(target=lambda: got.append(host.take("base", lambda _name, _s: waiting.set())))
    taker.start()
    assert waiting.wait(5)
    assert (host.serving.loading, got) == (None, [])
    first.done()
    taker.join(5)
    assert got[0].loaded.name == "base"


def test_the_first_in_line_has_its_model_and_the_next_is_told(host: Host) -> None:
    """Neither is served by a model that the other one asked away in between."""
    got: dict[str, Lease] = {}
    waiting = {name: threading.Event() for name in ("base", "tiny.en")}
    late = threading.Event()

    def take(name: str) -> None:
        def told(_name: str, _waited_s: float) -> None:
            waiting[name].set()
            if name == "base":
                assert late.wait(10), "the first in line comes back after the second has looked"

        got[name] = host.take(name, told)

    with host.loading_held():
        takers = []
        for name in ("base", "tiny.en"):
            takers.append(threading.Thread(target=take, args=(name,)))
            takers[-1].start()
            assert waiting[name].wait(5)
        assert host.serving.loading == "base"
        assert got == {}
    host.wait_serving("base")
    waiting["tiny.en"].clear()
    assert waiting["tiny.en"].wait(5)
    late.set()
    for taker in takers:
        taker.join(5)
    assert (got["base"].loaded.name, got["base"].excuse) == ("base", "")
    assert (got["tiny.en"].loaded.name, got["tiny.en"].excuse) == (
        "base",
        "the model 'tiny.en' cannot be loaded while others stream",
    )
    assert host.loads == ["base"]


def test_one_who_leaves_the_line_holds_nobody_up(host: Host) -> None:
    class GoneError(Exception):
        pass

    def gone(_name: str, _waited_s: float) -> None:
        raise GoneError

    with host.loading_held(), pytest.raises(GoneError):
        host.take("base", gone)
    host.wait_serving("base")
    assert host.take(None).loaded.name == "base"


def test_the_control_planes_model_is_loaded_when_no_stream_lives(host: Host) -> None:
    lease = host.take(None)
    host.wished = "base"
    host.now += RETURN_AFTER_S
    end(host.take("base"))
    assert host.loads == []
    end(lease)
    host.now += WISH_AFTER_S
    host.wait_serving("base")
    host.wished = None
    host.now += RETURN_AFTER_S
    host.wait_serving("tiny.en")
    assert host.loads == ["base", "tiny.en"]


@pytest.mark.parametrize(
    ("serving", "wished", "idle_s", "model"),
    [
        ("tiny.en", None, 1e6, None),
        ("tiny.en", "base", WISH_AFTER_S, "base"),
        ("tiny.en", "base", WISH_AFTER_S - 1, None),
        ("base", "base", 1e6, None),
        ("base", None, RETURN_AFTER_S - 1, None),
        ("base", None, RETURN_AFTER_S, "tiny.en"),
        ("tiny.en", "large-v3", 1e6, None),
        ("base", "large-v3", RETURN_AFTER_S, "tiny.en"),
    ],
)
def test_due(serving: str, wished: str | None, idle_s: float, model: str | None) -> None:
    offered = ["base", "tiny.en"]
    assert due(serving=serving, wished=wished, default="tiny.en", offered=offered, idle_s=idle_s) == model
