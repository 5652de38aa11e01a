"""What can go wrong for a user of `whisperctl`: one sentence and one exit code each.

CtlError                 1  something failed that no other code names
├── UsageError           2  the command was called wrongly, or a file cannot be used
├── Refused              3  the stack answered, and said no
├── LostAudio            4  some audio was never confirmed by the server
├── NotReachable         5  nobody answered at the address
├── Unproven             6  nothing is broken, and nothing proves that words would come
└── Interrupted        130  Ctrl-C
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any

import click

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "failed",
    2: "usage",
    3: "refused",
    4: "lost audio",
    5: "not reachable",
    6: "not proven",
    130: "Ctrl-C",
}
"""Every exit code there is, and what it means to whoever reads no more than the code."""


def codes(*numbers: int, **meanings: str) -> str:
    """The line of a command's help: `codes(0, 1, one="not in time")` names what 1 means here."""
    named = {0: meanings.get("zero"), 1: meanings.get("one"), 3: meanings.get("three"), 130: meanings.get("ctrl_c")}
    return "Exit codes: " + ", ".join(f"{one} {named.get(one) or EXIT_CODES[one]}" for one in numbers) + "."


class CtlError(click.ClickException):
    """An error shown as `whisperctl: sentence` on stderr; `exit_code` becomes the command's."""

    exit_code = 1
    reported = False
    """True when the command's own JSON said it already."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"whisperctl: {self.message}", file=file or sys.stderr)


class UsageError(CtlError):
    """Wrong use: a missing setting, a file that is not audio."""

    exit_code = 2


class Refused(CtlError):
    """The stack said no: a token or ticket it does not take, a role too low, closed hours, a full GPU."""

    exit_code = 3


class LostAudio(CtlError):
    """The stream ended before the server had confirmed everything that was captured."""

    exit_code = 4


class NotReachable(CtlError):
    """No answer: wrong address, no network, a certificate that cannot be verified."""

    exit_code = 5


class Unproven(CtlError):
    """Nothing is broken, and nothing proves that words would come: the GPU wakes, drains, or is full."""

    exit_code = 6


class Interrupted(CtlError):
    """Ctrl-C, as every shell knows it: 128 and the signal's number."""

    exit_code = 130
