"""What the tests of the lifecycle look at: phases, the event log, the calls to AWS, sessions, live streams."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.stack import Stack, plain
from tests.waiting import wait_until
from tests.wss import RATE, Heard, dial, frames_of, handshake, listen

LOOK_S = 0.2
FRAME_S = 0.25
DAY_S = 86400.0
LEAP_S = 90.0
"""Less than a host may be silent."""


class Watch:
    """Looks at the status again and again while a block runs; keeps each phase once, in order."""

    def __init__(self, stack: Stack) -> None:
        self.phases: list[str] = []
        self.reasons: list[str] = []
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._stack.tokens['viewer']}"}
        with httpx.Client(timeout=35) as client:
            over = False
            while not over:
                # Once more after the end, or what came last would be missed between two looks.
                over = self._over.wait(LOOK_S)
                answer = client.get(f"{self._stack.api_url}/v1/status", headers=headers)
                if answer.status_code == 200:  # a throttled table answers 503 for a moment
                    seen = answer.json()
                    if self.phases[-1:] != [seen["phase"]]:
                        self.phases.append(seen["phase"])
                    if self.reasons[-1:] != [seen["reason"]]:
                        self.reasons.append(seen["reason"])

    def saw(self, *phases: str) -> None:
        """These phases came in this order, whatever came between; raises AssertionError."""
        left = iter(self.phases)
        assert all(phase in left for phase in phases), (phases, self.phases)

    def said(self, words: str) -> None:
        """A reason held these words; raises AssertionError."""
        assert any(words in reason for reason in self.reasons), (words, self.reasons)


@contextmanager
def watching(stack: Stack) -> Iterator[Watch]:
    watch = Watch(stack)
    watch._thread.start()
    try:
        yield watch
    finally:
        watch._over.set()
        watch._thread.join(40)


class Log:
    """Events and calls since it was made."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._calls = len(stack.calls())
        self._since = self._all()[1]

    def _all(self, since: str = "") -> tuple[list[dict[str, Any]], str]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self._stack.call("GET", f"/v1/events?since={since}").raise_for_status().json()
            if not answer["events"]:
                return found, answer["next"]
            found += answer["events"]
            since = answer["next"]

    def events(self, *actions: str) -> list[dict[str, Any]]:
        found, _ = self._all(self._since)
        return [one for one in found if not actions or one["action"] in actions]

    def acts(self, target: str | None = None) -> list[str]:
        """The engine's own acts on machines, in order."""
        own = ("gpu.start", "gpu.stop", "gpu.drain", "gpu.restart", "gpu.resume", "gpu.start_refused")
        return [one["action"] for one in self.events(*own) if target in (None, one["target"])]

    def reasons(self, action: str) -> list[str]:
        return [one["reason"] for one in self.events(action)]

    def calls(self, operation: str) -> list[dict[str, Any]]:
        return [one for one in self._stack.calls()[self._calls :] if one["operation"] == operation]

    def switched(self, operation: str, *, taken: bool = True) -> list[str]:
        """The machines of all calls that EC2 took (or refused)."""
        return [one["parameters"]["InstanceId"][0] for one in self.calls(operation) if ("error" not in one) == taken]

    def assert_no_double_act(self) -> None:
        """Between two starts of a machine lies a stop, and every call that EC2 took has its one event."""
        for target in {*self.switched("StartInstances"), *self.switched("StopInstances")}:
            acts = self.acts(target)
            for operation, action in (("StartInstances", "gpu.start"), ("StopInstances", "gpu.stop")):
                assert acts.count(action) == self.switched(operation).count(target), (operation, acts)


def open_session(stack: Stack, key: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {stack.tokens['speaker']}"}
    if key is not None:
        headers["Idempotency-Key"] = key
    return plain().post(f"{stack.api_url}/v1/sessions", headers=headers, json={})


def opened(stack: Stack) -> dict[str, Any]:
    answer = open_session(stack)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def look(stack: Stack, session: dict[str, Any]) -> dict[str, Any]:
    """The session as it is now, by its heartbeat: a client that waits sends them too."""
    answer = stack.call("POST", f"/v1/sessions/{session['id']}/heartbeat", role="speaker")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def with_ticket(stack: Stack, session: dict[str, Any], timeout: float = 90) -> dict[str, Any]:
    def ready() -> dict[str, Any] | None:
        seen = look(stack, session)
        return seen if seen["ticket"] else None

    return wait_until(ready, timeout, "a ticket", every=LOOK_S)


def close(stack: Stack, session: dict[str, Any]) -> None:
    assert stack.call("DELETE", f"/v1/sessions/{session['id']}", role="speaker").status_code == 204


def now(stack: Stack) -> str:
    """The stand-in's time, RFC 3339."""
    return str(plain().get(f"{stack.aws_endpoint}/_standin/clock").json()["now"])


def rest(stack: Stack) -> None:
    """No fault, no wish, every GPU asleep."""
    stack.faults()
    stack.call("POST", "/v1/gpu/stop", body={"force": True}).raise_for_status()
    wait_until(lambda: set(states(stack)) == {"stopped"}, 60, "every GPU to sleep", every=LOOK_S)


def states(stack: Stack) -> Sequence[str]:
    """EC2's truth about the GPUs, in the order of stack.gpu_instance_ids."""
    import boto3

    ec2 = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=stack.aws_endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106  the stand-in's
    )
    found = ec2.describe_instances(InstanceIds=stack.gpu_instance_ids)["Reservations"]
    by_id = {one["InstanceId"]: one["State"]["Name"] for batch in found for one in batch["Instances"]}
    return [by_id[instance_id] for instance_id in stack.gpu_instance_ids]


def until(stack: Stack, hour: float) -> None:
    """Move the stand-in's clock forward to this hour (UTC); not at all where it passed less than an hour ago."""
    at = datetime.fromisoformat(now(stack))
    wanted = at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=hour)
    ahead = (wanted - at).total_seconds()
    if not -3600 < ahead <= 0:
        stack.advance(ahead % DAY_S)


def go_on(stack: Stack, hour: float) -> None:
    """To this hour in leaps over which no host counts as silent; after each every host has reported again."""
    while True:
        at = datetime.fromisoformat(now(stack))
        left = hour * 3600 - (at.hour * 3600 + at.minute * 60 + at.second)
        if left <= 0:
            return
        stack.advance(min(left, LEAP_S))
        wait_until(lambda: stack.phase() in ("ready", "draining"), 60, "a report after the leap", every=LOOK_S)


class Speaker:
    """A live stream: whoever uses it as a context speaks silence at its own pace until the server closes."""

    def __init__(self, stack: Stack, session: dict[str, Any]) -> None:
        self.session, self.heard = session, Heard()
        self._connection = wait_until(lambda: self._dial(stack), 30, "the edge to connect to the GPU", every=LOOK_S)
        self._connection.send(handshake())
        listen(self._connection, self.heard, until="SERVER_READY")
        assert self.heard.close_code is None, (self.heard.close_code, self.heard.close_reason)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._speak)]

    def _dial(self, stack: Stack) -> ClientConnection | None:
        """None while the edge has nobody to connect to: its resolver follows its hosts file within seconds."""
        try:
            return dial(self.session["ws_url"], self.session["ticket"], stack.ca_cert)
        except InvalidStatus as refused:
            if refused.response.status_code not in (502, 503):
                raise
            return None

    def __enter__(self) -> Speaker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._connection.close()
        for thread in self._threads:
            thread.join(30)

    def _listen(self) -> None:
        listen(self._connection, self.heard, timeout=600)
        self._over.set()

    def _speak(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while not self._over.wait(FRAME_S):
                self.say(np.zeros(int(FRAME_S * RATE), dtype="<f4"))

    def say(self, samples: NDArray[np.float32]) -> None:
        """Send speech in one burst."""
        for frame in frames_of(samples):
            self._connection.send(frame)

    def notice(self, timeout: float = 60) -> dict[str, Any]:
        """The first NOTICE, which must come while the stream lives."""

        def told() -> dict[str, Any] | None:
            found = [one for one in self.heard.messages if one.get("status") == "NOTICE"]
            return found[0] if found else None

        return wait_until(told, timeout, "a NOTICE in the stream")

    def closed(self, timeout: float = 90) -> tuple[int | None, str]:
        """The close code and its reason, once the server has closed."""
        wait_until(self._over.is_set, timeout, "the server to close")
        return self.heard.close_code, self.heard.close_reason


def serving(stack: Stack) -> str:
    """The machine that streams, by its own report as the status shows it."""
    gpu = wait_until(lambda: (found := stack.status()["gpu"]) and found["active_streams"] and found, 60, "a stream")
    return str(gpu["instance_id"])


def recovered(stack: Stack, how: str) -> float:
    """Seconds from the death of a GPU under a live stream until a stream of the same session lives on another one.

    `how` as the fault `power` takes it: "failed", EC2 says so by an event; "lost", EC2 goes on saying running. Real
    seconds, the stand-in's boot included.
    """
    session = with_ticket(stack, opened(stack))
    with Speaker(stack, session):
        first = serving(stack)
        died = time.monotonic()
        stack.faults(power=[{"instance": first, "how": how}])

        def elsewhere() -> dict[str, Any] | None:
            seen = look(stack, session)
            return seen if seen["ticket"] and seen["upstream_epoch"] > session["upstream_epoch"] else None

        again = wait_until(elsewhere, 120, "a ticket for another host", every=LOOK_S)
        with Speaker(stack, again):
            seconds = time.monotonic() - died
            assert serving(stack) != first or how == "failed", "EC2 may start a stopped machine again"
    close(stack, session)
    return seconds
