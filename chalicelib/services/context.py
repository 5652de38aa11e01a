"""What every service is built with."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.domain.rules import Rules
from chalicelib.ports import Clock, Commands, Machines, Store
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

    @property
    def reconciler(self) -> Reconciler:
        settings = self.settings
        ports = (self.store, self.machines, self.commands)
        return Reconciler(*ports, self.rules, settings.stack_name, self.clock, settings.monthly_budget)

    def reconcile(self, cause: Cause) -> None:
        """One pass."""
        self.reconciler.run(cause)

    def wishes_changed(self, cause: Cause) -> None:
        """Count the wishes up and make a pass; call it after the wish is written."""
        self.store.add(WISHES)
        self.reconcile(cause)
