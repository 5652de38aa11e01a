"""What every test may use: the running stack, and the rule that CI skips nothing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.stack import Stack, start_stack

# Whoever starts the tests behind a shell's `&` has them ignore Ctrl-C, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NEEDS = {"chromium": "apt-get install chromium"}


def _shared(item: pytest.Item) -> str:
    """What an item shares with others, so that one worker runs them all: hosts, package, the stack, else its file."""
    if "hosts" in item.path.parts:
        return "hosts"
    if "package" in item.path.parts:
        return "package"
    if "stack" in getattr(item, "fixturenames", ()):
        return "stack"
    return str(item.path)


# First, since xdist reads the groups in a hook of the same name.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what this machine cannot run, with the command that would change that; share hosts and the stack."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_shared(item)))
        for program, remedy in NEEDS.items():
            if item.get_closest_marker(program) and shutil.which(program) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs {program}: {remedy}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With REQUIRE_ALL=1 a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("REQUIRE_ALL") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and REQUIRE_ALL=1 allows no skip: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One embedded cloud for all tests that need the whole chain; the GPU may be in any state.

    A test that needs it asleep calls `stack.asleep()` first.
    """
    state = tmp_path_factory.mktemp("stack")
    with start_stack(state) as running:
        yield running


@pytest.fixture
def sleeping_stack(stack: Stack) -> Stack:
    """The shared stack with the GPU asleep and no wish left."""
    stack.asleep()
    return stack


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests were left out; -ra above says what each needs.")
