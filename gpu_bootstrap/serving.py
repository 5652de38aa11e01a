"""Which model serves, and its exchange for another one when no stream lives.

One model serves all streams of a host. A stream takes it at its start and gives it back when its last decode is
over; only between the two does the model change, in a thread of its own. Whoever comes meanwhile stands in line.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gpu_bootstrap import log
from gpu_bootstrap.decoder import Decoder
from gpu_bootstrap.errors import ModelError, ModelLostError

POLL_S = 0.25
WISH_AFTER_S = 5.0
"""Nobody has streamed for so long before a wished model is loaded: a dropped stream finds its own on return."""
RETURN_AFTER_S = 60.0
"""Nobody has streamed and nothing is wished for so long before the default model is loaded again."""
TRY_AGAIN_S = 300.0
"""A model that failed to load is not tried again before."""


@dataclass(frozen=True)
class Loaded:
    """A model that serves: its short name, and the decoder that wraps it."""

    name: str
    decoder: Decoder


class Lease:
    """One stream's hold on the model. `excuse` says why it is not the one it asked for; empty when it is."""

    def __init__(self, serving: Serving, loaded: Loaded, excuse: str) -> None:
        self.loaded = loaded
        self.excuse = excuse
        self._serving = serving

    def leaving(self) -> None:
        """The stream takes nobody's place any more; its last decode may still run."""
        self._serving.leave(self, over=False)

    def done(self) -> None:
        """The stream decodes no more."""
        self._serving.leave(self, over=True)


def due(*, serving: str, wished: str | None, default: str, offered: Collection[str], idle_s: float) -> str | None:
    """The model to load now that no stream lives; None to stay. `wished` is the control plane's word."""
    if wished is not None and wished in offered:
        return wished if wished != serving and idle_s >= WISH_AFTER_S else None
    return default if default != serving and default in offered and idle_s >= RETURN_AFTER_S else None


class Serving:
    """`exchange(old, name)` loads another model in the old one's place; it raises ModelError when the old one
    serves on, ModelLostError when none does. `clock` gives monotonic seconds."""

    def __init__(
        self,
        names: Collection[str],
        first: Loaded,
        exchange: Callable[[Loaded, str], Loaded],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = sorted(names)
        self._default = first.name
        self._current = first
        self._exchange = exchange
        self._clock = clock
        self._changed = threading.Condition()
        self._loading: str | None = None
        self._line: deque[object] = deque()
        self._live: set[Lease] = set()
        self._held: set[Lease] = set()
        self._idle_since = -RETURN_AFTER_S
        self._failed: dict[str, tuple[float, str]] = {}

    @property
    def current(self) -> Loaded:
        """The model that serves; while another one is loaded in its place, the one before."""
        return self._current

    @property
    def loading(self) -> str | None:
        """The model that is being loaded; None while one serves."""
        return self._loading

    def offered(self) -> list[str]:
        """The models that can be asked for: those that are there, less those that failed to load lately."""
        now = self._clock()
        return [name for name in self._names if now >= self._failed.get(name, (now, ""))[0]]

    def take(self, asked: str | None, told: Callable[[str, float], None]) -> Lease:
        """A hold on the model, exchanged for `asked` first if nobody streams.

        `told` is called several times a second while this waits, with the model's name and the seconds so far;
        what it raises ends the waiting.
        """
        began = self._clock()
        me = object()
        with self._changed:
            self._line.append(me)
        try:
            while True:
                with self._changed:
                    lease = self._try(me, asked)
                    waits_for = self._loading or asked or self._current.name
                if lease is not None:
                    return lease
                told(waits_for, self._clock() - began)
                with self._changed:
                    # Whoever stands in line behind others has nothing to look at before its turn.
                    self._changed.wait_for(lambda: self._loading is None and self._line[0] is me, POLL_S)
        finally:
            with self._changed:
                self._line.remove(me)
                self._changed.notify_all()

    def _try(self, me: object, asked: str | None) -> Lease | None:
        if self._loading is not None or self._line[0] is not me:
            return None
        excuse = ""
        if asked is not None and asked != self._current.name:
            excuse = self._excuse(asked)
            if not excuse and not self._held:
                self._loading = asked
                self._changed.notify_all()
            if not excuse:
                return None
        lease = Lease(self, self._current, excuse)
        self._live.add(lease)
        self._held.add(lease)
        return lease

    def _excuse(self, asked: str) -> str:
        if asked not in self._names:
            return f"this host does not have the model {asked[:60]!r}"
        if asked not in self.offered():
            return f"the model {asked!r} does not load here"
        return f"the model {asked!r} cannot be loaded while others stream" if self._live else ""

    def leave(self, lease: Lease, *, over: bool) -> None:
        """What a lease says of itself; saying it twice changes nothing."""
        with self._changed:
            self._live.discard(lease)
            if over and lease in self._held:
                self._held.discard(lease)
                self._idle_since = self._clock()
            self._changed.notify_all()

    def run(self, wished: Callable[[], str | None], lost: Callable[[str], None]) -> None:
        """Exchange models as streams and the control plane ask for them; returns when none is left, after `lost`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._loading is not None, POLL_S)
                if self._loading is None and not self._held and not self._line:
                    self._loading = due(
                        serving=self._current.name,
                        wished=wished(),
                        default=self._default,
                        offered=self.offered(),
                        idle_s=self._clock() - self._idle_since,
                    )
                name, old = self._loading, self._current
            if name is None:
                continue
            try:
                self._become(self._exchange(old, name), None)
            except ModelLostError as error:
                lost(str(error))
                return
            except ModelError as error:
                log.warning("model.refused", model=name, serving=old.name, cause=str(error))
                self._become(old, str(error))

    def _become(self, loaded: Loaded, failure: str | None) -> None:
        with self._changed:
            if failure is not None and self._loading is not None:
                self._failed[self._loading] = (self._clock() + TRY_AGAIN_S, failure)
            self._current = loaded
            self._loading = None
            self._changed.notify_all()
