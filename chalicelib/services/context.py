"""What every service is built with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chalicelib.domain.rules import Rules
from chalicelib.ports import Artifacts, Clock, Commands, Dialler, Machines, Metrics, NoMetrics, Notifier, Store
from chalicelib.services.control import WISHES
from chalicelib.services.events import Cause
from chalicelib.services.reconcile import Reconciler
from chalicelib.settings import Settings


@dataclass(frozen=True)
class Context:
    """The ports, the settings and the clock; built by `wiring.build` and by tests."""

    settings: Settings
    rules: Rules
    store: Store
    machines: Machines
    commands: Commands
    clock: Clock
    wait: Callable[[float], None] = lambda _seconds: None
    """Waits so many seconds by `clock`."""
    artifacts: Artifacts | None = None
    """None where the stack has no bucket."""
    notifiers: Mapping[str, Notifier] = field(default_factory=dict)
    """The channels by which people are told, by name."""
    metrics: Metrics = field(default_factory=NoMetrics)
    dialler: Dialler | None = None
    """None where nobody dials the edge: no probe is made there."""

    @property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            self.store,
            self.machines,
            self.commands,
            self.rules,
            self.settings.stack_name,
            self.clock,
            self.settings.monthly_budget,
            self.wait,
            self.metrics,
        )

    def reconcile(self, cause: Cause, wish: int | None = None) -> None:
        """A pass, unless one that began already sees the wish (see `Reconciler.run`)."""
        self.reconciler.run(cause, wish)

    def wishes_changed(self, cause: Cause) -> None:
        """Count the wishes up and see to it that a pass looks; call it after what changed is written."""
        self.reconcile(cause, self.store.add(WISHES))
