"""The one place where real adapters are built.

`build` makes a Context from settings; `context` is the one a Lambda container (or one process of the embedded
cloud) shares, built on the first request from the environment as it is then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from chalicelib.ports import Clock, Notifier
from chalicelib.services.context import Context
from chalicelib.services.control import rules_of
from chalicelib.settings import Settings, SettingsError
from chalicelib.telemetry import logger

if TYPE_CHECKING:
    from chalicelib.aws.clients import Clients

_lock = threading.Lock()
_clock: Clock = time.time
_wait: Callable[[float], None] = time.sleep
_built: dict[Settings, Context] = {}


def use_clock(clock: Clock, wait: Callable[[float], None] = time.sleep) -> None:
    """Let everything that is asked from now on take its time from `clock` (epoch seconds), and wait by `wait`."""
    global _clock, _wait
    _clock, _wait = clock, wait


def now() -> float:
    """The wiring's clock."""
    return _clock()


def build(settings: Settings, clock: Clock = now) -> Context:
    """The services' context on real adapters; clients are made when first needed."""
    from chalicelib.aws.artifacts import S3Artifacts
    from chalicelib.aws.clients import Clients
    from chalicelib.aws.commands import SsmCommands
    from chalicelib.aws.machines import Ec2Machines
    from chalicelib.aws.metrics import EmfMetrics
    from chalicelib.aws.store import DynamoStore
    from chalicelib.net.dialler import NetDialler

    clients = Clients(settings.region)
    return Context(
        settings=settings,
        rules=rules_of(settings),
        store=DynamoStore(clients, settings.table_name),
        machines=Ec2Machines(clients, settings.stack_name),
        commands=SsmCommands(clients, settings.bucket_name),
        clock=clock,
        wait=lambda seconds: _wait(seconds),
        dialler=NetDialler(),
        artifacts=S3Artifacts(clients, settings.bucket_name) if settings.bucket_name else None,
        notifiers=_notifiers(clients, settings),
        metrics=EmfMetrics(settings.stack_name),
    )


def _ready(made: Context) -> None:
    from chalicelib.aws.store import DynamoStore

    if isinstance(made.store, DynamoStore):
        made.store.prepare()


def _notifiers(clients: Clients, settings: Settings) -> dict[str, Notifier]:
    from chalicelib.aws.notifier import SnsNotifier, WebhookNotifier, parameter

    found: dict[str, Notifier] = {}
    if settings.topic_arn:
        found["topic"] = SnsNotifier(clients, settings.topic_arn)
    if settings.webhook_parameter:
        found["webhook"] = WebhookNotifier(parameter(clients, settings.webhook_parameter))
    return found


def context() -> Context:
    """The shared context for the environment's settings."""
    settings = Settings.from_env(os.environ)
    with _lock:
        if settings not in _built:
            _built[settings] = build(settings)
        return _built[settings]


def warm(env: Mapping[str, str] = os.environ) -> None:
    """In a Lambda that is being made: the context, the first client and the logger, which every first call needs.

    While a container is made it has a whole processor, afterwards the third of one that its memory buys. Settings
    that are wrong are left to the first call, which can say so.
    """
    if "AWS_LAMBDA_FUNCTION_NAME" not in env:
        return
    with contextlib.suppress(SettingsError):
        _ready(context())
    logger()


def reset() -> None:
    """Forget what was built, for tests whose AWS changes under them."""
    with _lock:
        _built.clear()
