"""A burst of requests on the embedded cloud: a few passes, one start, and nobody's wish is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.app.test_stack_chain import WAKING, close_session, open_session
from tests.stack import Stack

REQUESTS = 50


def test_fifty_requests_at_once_are_a_few_passes(sleeping_stack: Stack) -> None:
    stack = sleeping_stack
    before = len(stack.calls())
    began = time.monotonic()
    with ThreadPoolExecutor(REQUESTS) as pool:
        sessions = list(pool.map(lambda _: open_session(stack), range(REQUESTS)))
    lasted = time.monotonic() - began
    made = [call["operation"] for call in stack.calls()[before:]]
    assert made.count("StartInstances") == 1
    assert len({session["id"] for session in sessions}) == REQUESTS
    # Whose answer comes last on a busy machine may hear that it is awake already.
    assert {session["phase"] for session in sessions} <= {"asleep", *WAKING, "ready"}
    # A pass a second; one that acts looks twice, and host reports and state events ask for passes as well.
    assert made.count("DescribeInstances") <= 2 * (lasted + 2), (lasted, made.count("DescribeInstances"))
    assert {session["id"] for session in sessions} == {
        wish["id"] for wish in stack.status()["wishes"] if wish["kind"] == "session"
    } & {session["id"] for session in sessions}
    stack.wait_phase("ready")
    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(lambda one: close_session(stack, one), sessions))
