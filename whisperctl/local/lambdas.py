"""Lambda for the real `app.py`: module instances that serve one request at a time, a context, async invocation.

Lambda gives every request under way a container of its own, and Chalice relies on it (it keeps the current request
on the app). So `app.py` is imported as often as requests are under way at once, each under its own module name.
Settings and adapters live in `chalicelib`, which the instances share, as threads of one process do.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from whisperctl.local.clock import Timeline
from whisperctl.local.containers import LambdaKilled, invocation

log = logging.getLogger(__name__)

MOST_INSTANCES = 64
RETRY_DELAYS_S = (60.0, 120.0)
"""Lambda retries a failed asynchronous invocation after one and after two more minutes, then drops it."""
ACCOUNT = "123456789012"


class Context:
    """The attributes of Lambda's context object that code reads.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(self, function: str, region: str, seconds: float, stack: str = "local") -> None:
        self.function_name = f"{stack}-{function}"
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{self.function_name}"
        self.memory_limit_in_mb = 256
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{self.function_name}"
        self.log_stream_name = "local"
        self.identity = None
        self.client_context = None
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class AppPool:
    """Instances of `app.py`. `lease()` waits when all are busy and no more may be made."""

    def __init__(self, path: Path, most: int = MOST_INSTANCES) -> None:
        self._path = path
        self._most = most
        self._made = 0
        self._idle: list[ModuleType] = []
        self._lock = threading.Condition()
        with self.lease():  # so that a broken app.py is found at the start
            pass

    @property
    def made(self) -> int:
        """How many instances there are."""
        return self._made

    @property
    def leased(self) -> int:
        """How many of them serve now."""
        with self._lock:
            return self._made - len(self._idle)

    @contextlib.contextmanager
    def lease(self) -> Iterator[ModuleType]:
        """An instance nobody else uses until the block ends; one that was killed serves no more."""
        instance = self._take()
        killed = False
        try:
            with invocation():
                yield instance
        except LambdaKilled:
            killed = True
            raise
        finally:
            with self._lock:
                if killed:
                    self._made -= 1
                else:
                    self._idle.append(instance)
                self._lock.notify()

    def _take(self) -> ModuleType:
        with self._lock:
            while not self._idle and self._made >= self._most:
                self._lock.wait()
            if self._idle:
                return self._idle.pop()
            self._made += 1
            number = self._made
        try:
            return _import(self._path, f"whisperlive_app_{id(self):x}_{number}")
        except BaseException:
            with self._lock:
                self._made -= 1
                self._lock.notify()
            raise


_import_lock = threading.Lock()


def _import(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    # One at a time: concurrent first imports of the same libraries wait on each other's import locks.
    with _import_lock:
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


class AsyncInvoker:
    """Asynchronous invocations, as EventBridge makes them: at once, in the background, retried twice."""

    def __init__(self, pool: AppPool, timeline: Timeline, region: str, timeout_s: float = 60.0) -> None:
        self._pool = pool
        self._timeline = timeline
        self._region = region
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._under_way = 0

    @property
    def busy(self) -> bool:
        """Whether something is carried out now, or is about to be: an invocation without a delay, or a request."""
        return self._under_way > 0 or self._pool.leased > 0

    def invoke(self, function: str, event: dict[str, Any], delay_s: float = 0.0) -> None:
        """Call the handler `function` of app.py with `event` after `delay_s` on the stand-in clock."""
        self._later(function, event, delay_s, RETRY_DELAYS_S)

    def _later(self, function: str, event: dict[str, Any], delay_s: float, retries: tuple[float, ...]) -> None:
        def begun() -> None:
            with self._lock:
                self._under_way += 1

        def ended() -> None:
            with self._lock:
                self._under_way -= 1

        def attempt() -> None:
            if delay_s:
                begun()
            try:
                with self._pool.lease() as app:
                    handler: Callable[[Any, Any], Any] = getattr(app, function)
                    handler(event, Context(function, self._region, self._timeout_s))
            except (Exception, LambdaKilled):  # whatever a handler raises is a failed invocation to Lambda
                if not retries:
                    log.exception("%s failed for the last time; the event is dropped", function)
                    return
                log.exception("%s failed and is tried again in %g s", function, retries[0])
                self._later(function, event, retries[0], retries[1:])
            finally:
                ended()

        if not delay_s:
            begun()
        self._timeline.after(delay_s, function, attempt)
