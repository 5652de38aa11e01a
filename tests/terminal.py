"""docs/whisperctl.md: every command run in a real terminal on a running stack, and what it shows written down.

    python -m tests.terminal            write docs/whisperctl.md
    python -m tests.terminal --html F   the same runs in colour, to be looked at

tmux is the terminal, of 110 columns: what is written is what stands there in the end, with everything that was
rewritten on the way gone. Needs tmux (apt-get install tmux), and root for the hosts of the account.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.mistakes import MISTAKES, prepare
from tests.stack import ROOT, Stack, start_stack
from tests.waiting import wait_until
from tests.webhooks import receiver
from whisperctl.errors import EXIT_CODES

PAGE = ROOT / "docs" / "whisperctl.md"
COLUMNS, LINES = 110, 60
PROMPT = re.compile(r"(  \w+|AWS region|This cannot .*)( \[.*\])?:")
PATIENCE_S = 150.0


@dataclass(frozen=True)
class Shown:
    """What one command left on the screen, and its exit code."""

    line: str
    screen: list[str]
    code: int
    coloured: str = ""
    """The same with the terminal's control sequences."""


class Terminal:
    """A tmux server of its own; each command runs in a fresh window of it."""

    def __init__(self, folder: Path, environment: dict[str, str], place: Path = ROOT) -> None:
        """`place`: where the commands run; `folder`: for what the terminal itself needs."""
        self._tmux = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        self._environment = environment
        self._folder = folder
        self._place = place
        self._number = 0
        # A server whose last session ends goes away, and whoever comes then finds it half gone.
        self._ask("new-session", "-d", "-s", "keep", "cat")

    def close(self) -> None:
        """End the server and whatever still runs in it."""
        self._ask("kill-server")

    def _ask(self, *words: str) -> str:
        return subprocess.run(
            [*self._tmux, *words], env=self._environment, capture_output=True, text=True, check=True
        ).stdout

    def shown(
        self,
        arguments: list[str],
        line: str,
        *,
        keys: str = "",
        stop_s: float = 0,
        token: str | None = None,
        answers: Sequence[str] = (),
        patience_s: float = PATIENCE_S,
    ) -> Shown:
        """Run whisperctl; `keys` are typed once it asks, `answers` one at each prompt, Ctrl-C comes so many seconds

        after its first word.
        """
        self._number += 1
        name, ended = f"run{self._number}", self._folder / f"code{self._number}"
        environment = self._environment | ({"WHISPERCTL_TOKEN": token} if token else {})
        command = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in environment.items()),
                              sys.executable, "-m", "whisperctl", *arguments])  # fmt: skip
        # The shell outlives Ctrl-C and the command, so that the screen stays to be read.
        script = f"trap : INT; {command}; echo $? >{ended}.new; mv {ended}.new {ended}; exec sleep 3600"
        size = ("-x", str(COLUMNS), "-y", str(LINES))
        self._ask("new-session", "-d", "-s", name, *size, "-c", str(self._place), script)
        try:
            if keys or stop_s:
                wait_until(lambda: self._ask("capture-pane", "-p", "-t", name).strip(), PATIENCE_S, "a first word")
            if keys:
                self._ask("send-keys", "-t", name, "-l", keys)
                self._ask("send-keys", "-t", name, "Enter")
            for number, answer in enumerate(answers, 1):
                wait_until(lambda: self._asks(name) == number, patience_s, f"prompt {number}", every=0.05)  # noqa: B023
                self._ask("send-keys", "-t", name, "-l", answer)
                self._ask("send-keys", "-t", name, "Enter")
            if stop_s:
                time.sleep(stop_s)
                self._ask("send-keys", "-t", name, "C-c")
            wait_until(ended.exists, patience_s, f"the end of {line}", every=0.1)
            all_of_it = ["capture-pane", "-p", "-J", "-S", "-", "-t", name]
            plain, coloured = self._ask(*all_of_it), self._ask(*all_of_it, "-e")
        finally:
            self._ask("kill-session", "-t", name)
        return Shown(line, _lines(plain), int(ended.read_text()), "\n".join(_lines(coloured)))


    def _asks(self, name: str) -> int:
        """How many prompts there were, where the last line is one that waits; else 0."""
        lines = _lines(self._ask("capture-pane", "-p", "-J", "-S", "-", "-t", name))
        return sum(bool(PROMPT.match(one)) for one in lines) if lines and lines[-1].endswith(":") else 0


def _lines(text: str) -> list[str]:
    """Without the empty lines below."""
    lines = [line.rstrip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


@dataclass
class Script:
    """The commands of the page, run in order; what one printed may be used by a later one."""

    stack: Stack
    folder: Path
    runs: list[tuple[str, Shown]] = field(default_factory=list)

    def __post_init__(self) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        said = {"TERM": "tmux-256color", "LC_ALL": "C.UTF-8", "COLORTERM": "truecolor", "SHELL": "/bin/sh"}
        self.terminal = Terminal(self.folder, kept | said)

    def run(self, about: str, line: str, *, keys: str = "", stop_s: float = 0) -> Shown:
        """Run `whisperctl LINE` on this stack and keep it under this sentence."""
        words = shlex.split(line)
        needs_state = words[0] not in ("simulate", "completion", "local")
        arguments = [*words, *(["--state-dir", str(self.stack.state_dir)] if needs_state else [])]
        found = self.terminal.shown(arguments, f"whisperctl {line}", keys=keys, stop_s=stop_s)
        self.runs.append((about, found))
        print(f"{found.code}  whisperctl {line}", file=sys.stderr)  # noqa: T201
        return found

    def play(self) -> None:
        """Every command once, in an order that makes sense to a reader."""
        run = self.run
        run("What the GPU does, why, and what comes next.", "status")
        run("Wake it for ten minutes, and wait until somebody can speak.", "wake --minutes 10 --wait")
        run("The same, followed live; here until Ctrl-C.", "status --watch", stop_s=4)
        run("Stream a file; `--mic` streams the microphone.", "stream tests/speech/short.wav")
        run("Would whoever speaks now get words?", "probe")
        run("Is all well, from the account to the browser? On a terminal all of it is shown.", "doctor")
        run("The last lines of a host's log; `-f` follows.", "logs edge --unit link --lines 3")
        run("What would open a shell; without `--dry-run` it does.", "shell edge --dry-run")
        run("Restart the service; streams finish first.", "restart gpu")
        run("Point the edge at the GPU hosts anew.", "refresh")
        booked = run(
            "Book ahead; it wakes in time.", "book --start 2027-01-05T19:00:00+01:00 --minutes 90 --note Concert"
        )
        booking = booked.screen[0].split()[0]
        run("What is booked.", "bookings")
        run("Try a change before it is made: every command that changes something takes `--dry-run`.",
            f"bookings --cancel {booking} --dry-run")  # fmt: skip
        run("A link for a speaker, and its code to be scanned.", f"invite --booking {booking}")
        run("Take the booking back.", f"bookings --cancel {booking}")
        run("A token for a program.", "token add speaker --minutes 120 --label 'Monday talk'")
        listed = run("Tokens are listed by id; they themselves are not known.", "token list")
        token = next(line.split()[0] for line in listed.screen if "Monday talk" in line)
        run("", f"token revoke {token}")
        run("A new key for sessions' tickets.", "token rotate-keys --dry-run")
        run("Who may see the page and stream.", "clients list")
        run("The first network shuts everybody else out.", "clients add 127.0.0.0/8 --label 'this machine'")
        run("", "clients add ::1/128")
        run("", "clients remove ::1/128")
        run("", "clients add --everybody")
        with receiver() as hook:
            run("People are told by a webhook; its address is a secret and is typed, not named.",
                "notify webhook", keys=hook.url)  # fmt: skip
            run("", "notify test")
            run("", "notify webhook --off")
        run("Drain the GPU and put it to sleep.", "stop --reason 'end of the meeting' --wait")
        run("What was done, by whom and why.", "events")
        run("What it cost, and what was saved.", "cost --period day")
        run("What other settings would cost, on a trace of sessions.", "simulate --generate office --days 3")
        run("What a release would upload.", "deploy edge --dry-run")
        run("The shell completes verbs, options and values.", "completion bash")
        run("Could the whole stack run here?", "local --dry-run --port 9443")

    def mistakes(self) -> Iterator[tuple[str, Shown]]:
        """Typical mistakes, each with its sentence."""
        prepare(self.folder)
        for one in MISTAKES:
            words = one.typed.format(url=self.stack.edge_url, folder=self.folder)
            arguments = shlex.split(words)
            if len(arguments) > 1 and "--state-dir" not in arguments:
                arguments += ["--state-dir", str(self.stack.state_dir)]
            found = self.terminal.shown(arguments, f"whisperctl {words}", token=self.stack.tokens["operator"])
            if found.code != one.code:
                raise AssertionError(f"{one.name}: {found.code} and not {one.code}: {found.screen}")
            yield one.name, found


HEAD = """# whisperctl

One command for the operator. This page is made by `make terminal`, which runs each command in a terminal on a running
stack and writes down what stands on the screen; tokens are left out.

## Which stack

| set | means |
|---|---|
| nothing | the stack that `whisperctl local` runs here: `.local/stack.json` has its address and tokens |
| `--stage prod`, `WHISPERCTL_STAGE` | the stack `whisperlive-prod` in AWS; its address is asked of CloudFormation |
| `--url`, `WHISPERCTL_URL` | this address |
| `WHISPERCTL_TOKEN` | the right to act there; better than `--token`, which other users of the machine can read |
| `WHISPERCTL_CA` | the edge's own certificate authority, where it has no public certificate |

`--stage` goes before `WHISPERCTL_URL`; a token of `stack.json` never goes to another address. Commands that look
into the account (`token`, `logs`, `shell`, `restart edge`, `clients`, `notify`, `deploy`, `doctor`) use your AWS
credentials.

Every command has `--help` with an example, `--json` (one document on stdout, errors too), and where it changes
something `--dry-run`. Results go to stdout, everything else to stderr; colours, counting and the QR code appear on a
terminal only.

## Exit codes

| code | means |
|---|---|
"""
ACCOUNT = """
## From an empty account and back

Run in a [rehearsal's account](first-deploy.md), whose machines are real hosts with systemd on this machine: the
commands, the releases, what is installed and the spoken word are real, AWS is the stand-in.
"""
MANY = re.compile(r"\s*\d+\s+(create|delete) complete|\s+(uploading) |(Add)  ")
COMPLETION = """
Completion: `whisperctl completion bash > ~/.local/share/bash-completion/completions/whisperctl`, or
`whisperctl completion zsh > "${fpath[1]}/_whisperctl"`, or
`whisperctl completion fish > ~/.config/fish/completions/whisperctl.fish`.
"""


def page(script: Script, mistakes: list[tuple[str, Shown]], account: Sequence[tuple[str, Shown]]) -> str:
    """The whole page."""
    out = [HEAD, *(f"| {code} | {words} |\n" for code, words in EXIT_CODES.items()), ACCOUNT]
    for about, one in account:
        out += [f"\n{about}\n", "\n```\n$ ", one.line, "\n", *(f"{line}\n" for line in shortened(one.screen))]
        out += ["```\n", f"\nExit code {one.code}.\n" if one.code else ""]
    out.append("\n## Each command\n")
    for about, one in script.runs:
        out += [f"\n{about}\n" if about else "", "\n```\n$ ", one.line, "\n"]
        lines = one.screen if "completion" not in one.line else [*one.screen[:4], "…"]
        if "invite" in one.line:  # the code holds the token
            lines = ["(the code)" if set(line) & set("█▀▄") else line for line in lines]
            lines = [line for at, line in enumerate(lines) if line != "(the code)" or lines[at - 1] != line]
        out += [f"{line}\n" for line in lines]
        out += ["```\n", f"\nExit code {one.code}.\n" if one.code else ""]
    out += [COMPLETION, "\n## Mistakes\n\nEach is one sentence and an exit code.\n"]
    for name, one in mistakes:
        out += [f"\n{name[0].upper()}{name[1:]}: code {one.code}.\n\n```\n$ {one.line}\n"]
        out += [f"{line}\n" for line in one.screen] + ["```\n"]
    return veiled("".join(out), script)


def veiled(text: str, script: Script) -> str:
    """Without what is of this run only and helps nobody: tokens, folders, ports, this machine's name."""
    text = text.replace(str(script.folder), "~").replace(str(script.stack.state_dir), ".local")
    text = text.replace(str(ROOT), "~/whisperlive-edge")
    text = re.sub(r"wle_[A-Za-z0-9_-]{20,}", "wle_…", text)
    text = re.sub(r"localhost:\d{4,5}", "localhost:8443", text)
    return re.sub(r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:8080", text)


def shortened(lines: Sequence[str]) -> list[str]:
    """Of many lines of one kind (a resource, a file that is sent) the first two and the last."""
    kept: list[str] = []
    for at, line in enumerate(lines):
        kind = _kind(line)
        near = [_kind(one) for one in (*lines[max(0, at - 2) : at], *lines[at + 1 : at + 2])]
        if kind and len(near) == 3 and all(one == kind for one in near):
            kept += [] if kept[-1] == "…" else ["…"]
        else:
            kept.append(line)
    return kept


def _kind(line: str) -> str:
    """The words that lines of one kind have in common; empty where it is the only one."""
    found = MANY.match(line)
    return found[1] or found[2] or found[3] if found else ""


def picture(runs: list[Shown]) -> str:
    """All runs as one HTML page, in the terminal's colours."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for one in runs:
        console.print(Text(f"$ {one.line}", style="bold cyan"))
        console.print(Text.from_ansi(one.coloured), "")
    return console.export_html(theme=MONOKAI)


def rehearse(folder: Path) -> list[tuple[str, Shown]]:
    """The commands that bring a stack into an empty account and out of it, in a terminal."""
    from tests.terminal_account import Rehearsal

    with Rehearsal(folder / "account") as rehearsal:
        return rehearsal.play()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="whisperctl-page-"))
    try:
        with start_stack(folder / "state") as stack:
            script = Script(stack, folder)
            try:
                mistakes = list(script.mistakes())
                script.play()
            finally:
                script.terminal.close()
            account = rehearse(folder)
            text = page(script, mistakes, account)
        PAGE.write_text(text)
        if options.html:
            options.html.write_text(picture([one for _, one in [*account, *script.runs, *mistakes]]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
