"""What the tests of the lifecycle look at: phases in order, the event log, the calls to AWS, sessions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from tests.stack import Stack
from tests.waiting import wait_until

LOOK_S = 0.2


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
    return httpx.post(f"{stack.api_url}/v1/sessions", headers=headers, json={}, timeout=35)


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
    return str(json.loads(httpx.get(f"{stack.aws_endpoint}/_standin/clock", timeout=10).text)["now"])


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
