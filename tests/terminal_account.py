"""`init`, `up` and `destroy` in a terminal, in an empty account whose machines are hosts with systemd here."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.stack import ROOT
from tests.terminal import Shown, Terminal
from whisperctl.releases.sources import this_machine

PATIENCE_S = 900.0
EDGES = {"x86_64": "t3.micro", "aarch64": "t4g.micro"}
ASKED = ("eu-central-1", "", "g4dn.xlarge g5.xlarge", "", "", "", "", "speech.example.org", "", "192.0.2.7",
         "22:00-6 Berlin", "22:00-06:00 Europe/Berlin", "", "", "", "")  # fmt: skip
"""What is typed at each question of `init`; the night is wrong the first time."""


class Rehearsal:
    """An account, and a terminal whose commands see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place = folder / "operator"
        self._place.mkdir(parents=True)
        self._runs: list[tuple[str, Shown]] = []

    def __enter__(self) -> Self:
        arguments = ["--state-dir", str(self._folder / "state"), "--hosts", "systemd"]
        self._account = subprocess.Popen(
            [sys.executable, "-m", "whisperctl.local.empty", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._account.stdout is not None
        line = self._account.stdout.readline()
        assert line, "the account did not come up"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ}
        said = {"TERM": "tmux-256color", "LC_ALL": "C.UTF-8", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT)}
        keys = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "operator", "AWS_CONFIG_FILE": "/dev/null"}
        environment = kept | said | keys | {"AWS_ENDPOINT_URL": json.loads(line)["aws_endpoint"]}
        self._terminal = Terminal(self._folder, environment, self._place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._terminal.close()
        self._account.send_signal(signal.SIGTERM)
        self._account.wait(120)

    def _run(self, about: str, line: str, *answers: str, code: int = 0) -> None:
        found = self._terminal.shown(
            shlex.split(line), f"whisperctl {line}", answers=answers, patience_s=PATIENCE_S
        )
        if found.code != code:
            raise AssertionError(f"{line}: {found.code} and not {code}: {found.screen}")
        self._runs.append((about, found))
        print(f"{found.code}  whisperctl {line}", file=sys.stderr)  # noqa: T201

    def play(self) -> list[tuple[str, Shown]]:
        """Each command once, in the order of a first day."""
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        edge = EDGES[this_machine()]
        self._run("Without settings there is nothing to bring up.", "up", code=2)
        self._run("What the stack shall be like: `init` asks.", "init --file talk.json", *ASKED)
        self._run(
            "The same without questions; here with what this machine's hosts have.",
            f"init --region us-east-1 --profile cpu --python {python} --certificate internal "
            f"--set EdgeType={edge} --yes",
        )
        self._run("What `up` would change.", "up --plan")
        self._run("All of it, to the first spoken word.", "up")
        self._run("Once more: nothing is to be done.", "up")
        self._run("What `destroy` would delete, and what it costs a month.", "destroy --dry-run")
        self._run("Gone, after its name was typed.", "destroy", "whisperlive-prod")
        self._run("And nothing is left.", "destroy --confirm whisperlive-prod")
        return self._runs
