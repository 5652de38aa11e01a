"""What every command keeps: its help, its options, its exit codes, and a sentence for every mistake."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from chalicelib.aws.store import table_definition
from tests.browser.scripted import TOKEN, scripted_stack
from tests.mistakes import MISTAKES, OPERATORS_TOKEN_NEEDED, Mistake, prepare
from tests.stack import free_port
from tests.unit.local_cloud import Cloud
from whisperctl.aws import find_account
from whisperctl.cli import VERBS, cli
from whisperctl.errors import EXIT_CODES, UsageError
from whisperctl.output import Waiting, clean
from whisperctl.stack import STAGE, find_stack

ROOT = Path(__file__).resolve().parents[2]
NO_STACK = {"local", "simulate", "completion"}
"""Commands that touch no deployed stack, and so take no --stage."""
FILED = {"init", "up", "destroy"}
"""Commands that go by the stack's file of settings, which names the stage; all three change something."""
LOOKS_ONLY = {
    "status", "events", "cost", "simulate", "logs", "token list", "clients list", "completion", "probe", "doctor",
}  # fmt: skip
"""Commands that change nothing, and so take no --dry-run."""
ENV = {"WHISPERCTL_TOKEN": TOKEN, "WHISPERCTL_URL": "", "WHISPERCTL_STAGE": "", "WHISPERCTL_CA": "", "TABLE_NAME": ""}


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below, groups too, by what is typed after `whisperctl`."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


EVERY = dict(walk(cli))
LEAVES = {path: one for path, one in EVERY.items() if not isinstance(one, click.Group)}


def options(command: click.Command) -> set[str]:
    return {name for one in command.params for name in one.opts}


@pytest.mark.parametrize("path", list(EVERY))
def test_help_has_an_example_and_the_exit_codes(path: str) -> None:
    shown = CliRunner().invoke(cli, [*path.split(), "--help"])
    assert shown.exit_code == 0
    flat = " ".join(shown.output.split())
    assert re.search(rf"Examples?: whisperctl {path}", flat), shown.output
    named = re.search(r"Exit codes: (.*?)\.(\s|$)", flat)
    assert named, shown.output
    numbers = [int(one) for one in re.findall(r"(?:^|, )(\d+) ", named[1])]
    assert numbers[0] == 0
    assert set(numbers) <= set(EXIT_CODES), named[1]


@pytest.mark.parametrize("path", list(LEAVES))
def test_each_takes_json_a_stage_and_a_dry_run(path: str) -> None:
    command, verb = LEAVES[path], path.split()[0]
    assert "--json" in options(command)
    if verb in FILED:
        assert "--dry-run" in options(command)
        return
    assert ("--stage" in options(command)) == (verb not in NO_STACK)
    assert ("--dry-run" in options(command)) == (path not in LOOKS_ONLY)


@pytest.mark.parametrize("path", list(LEAVES))
def test_each_option_says_what_it_is_for(path: str) -> None:
    for one in LEAVES[path].params:
        if isinstance(one, click.Option) and one.name not in ("task", "period", "idle_minutes", "generate"):
            assert one.help or isinstance(one.type, click.Choice | click.types.FloatRange), one.name


def test_the_verbs_are_those_of_their_modules() -> None:
    assert set(VERBS) == {path.split()[0] for path in EVERY if path}


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a stack with a table, whose API is scripted."""
    folder = tmp_path_factory.mktemp("state")
    prepare(folder)
    cloud = Cloud(folder)
    cloud.client("dynamodb").create_table(**table_definition("local"))
    with scripted_stack() as server:
        about = {"edge_url": server.http_url, "api_url": server.http_url, "aws_endpoint": cloud.server.url}
        (folder / "stack.json").write_text(json.dumps({**about, "tokens": {"operator": TOKEN}}))
        yield folder
    cloud.client("dynamodb").delete_table(TableName="local")
    cloud.close()


@pytest.mark.parametrize("mistake", [*MISTAKES, OPERATORS_TOKEN_NEEDED], ids=lambda one: one.name)
def test_a_mistake_is_one_sentence_and_a_code(mistake: Mistake, state_dir: Path) -> None:
    url = json.loads((state_dir / "stack.json").read_text())["edge_url"]
    typed = mistake.typed.format(url=url, folder=state_dir).split()
    state = ["--state-dir", str(state_dir)] if len(typed) > 1 and "--state-dir" not in typed else []
    result = CliRunner().invoke(cli, [*typed, *state], env=ENV)
    assert result.exit_code == mistake.code, result.output
    assert mistake.says in result.stderr
    assert "Traceback" not in result.output
    sentences = [one for one in result.stderr.splitlines() if not one.startswith(("Usage:", "Try ")) and one]
    assert len(sentences) == 1, result.stderr


def test_an_error_of_our_own_is_a_sentence_too() -> None:
    broken = "c.VERBS['status'] = ('whisperctl.nowhere', '')"
    code = f"import whisperctl.cli as c, whisperctl.__main__ as m; {broken}; m.main()"
    for debug in ("", "1"):
        env = {**os.environ, "WHISPERCTL_DEBUG": debug}
        run = subprocess.run(
            [sys.executable, "-c", code, "status"], env=env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        assert ("Traceback" in run.stderr) == bool(debug)
        assert "whisperctl: this is a fault of whisperctl itself: ModuleNotFoundError" in run.stderr


def test_a_reader_that_leaves_is_no_fault() -> None:
    command = f"{sys.executable} -m whisperctl completion bash | head -n 1"
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stderr == ""


def test_completion_knows_verbs_options_and_values() -> None:
    def completed(*words: str) -> list[str]:
        env = {**os.environ, "_WHISPERCTL_COMPLETE": "bash_complete"}
        env |= {"COMP_WORDS": " ".join(["whisperctl", *words]), "COMP_CWORD": str(len(words))}
        run = subprocess.run(
            [sys.executable, "-m", "whisperctl"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        return [line.partition(",")[2] for line in run.stdout.splitlines()]

    assert completed("sta") == ["status"]
    assert completed("logs", "g") == ["gpu"]
    assert "--watch" in completed("status", "--w")
    assert completed("token", "re") == ["revoke"]


def test_dry_runs_change_nothing(tmp_path: Path) -> None:
    clip = ROOT / "whisperctl" / "speech" / "check.wav"
    with scripted_stack() as server:
        at = ["--url", server.http_url, "--dry-run"]
        for typed in (["wake"], ["stop"], ["book", "--minutes", "9"], ["restart", "gpu"], ["refresh"], ["invite"],
                      ["stream", str(clip)]):  # fmt: skip
            result = CliRunner().invoke(cli, [*typed, *at], env=ENV)
            assert result.exit_code == 0, (typed, result.output)
            assert result.stdout.startswith("would "), typed
            assert result.stdout.endswith("; nothing was changed\n")
            told = CliRunner().invoke(cli, [*typed, *at, "--json"], env=ENV)
            assert json.loads(told.stdout)["dry_run"] is True
    assert [one for one in server.requests if one[0] != "GET"] == []
    free = ["local", "--dry-run", "--port", str(free_port()), "--state-dir", str(tmp_path / "new")]
    assert CliRunner().invoke(cli, free).exit_code == 0
    assert not (tmp_path / "new").exists()


def test_waiting_counts_on_a_terminal_and_is_lines_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, live = io.StringIO(), Terminal()
    for out in (plain, live):
        waiting = Waiting(out)
        for phase, elapsed, left in (
            ("waking.boot", 0.0, 40.0),
            ("waking.boot", 1.0, 39.0),
            ("waking.service", 9, 5),
        ):
            waiting.show(phase, elapsed, left)
        waiting.done()
    assert plain.getvalue() == (
        "[  0.0 s] the machine starts, about 40 s left\n[  9.0 s] the speech model loads, about 5 s left\n"
    )
    assert live.getvalue().count("\r\033[K") == 3
    assert live.getvalue().count("\n") == 2


def test_what_comes_from_elsewhere_cannot_steer_a_terminal() -> None:
    assert clean("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"


def test_a_stage_is_a_stack_of_its_own_and_goes_before_the_environments_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = {"EdgeUrl": "https://speech.example.org", "BucketName": "b"}
    monkeypatch.setattr("whisperctl.aws.outputs", lambda name: said if name == "whisperlive-prod" else {})
    env = {"WHISPERCTL_TOKEN": "t", "WHISPERCTL_STAGE": "prod"}
    found = find_stack(env, state_dir=tmp_path)
    assert (found.edge_url, found.stack_name, found.bucket) == ("https://speech.example.org", "whisperlive-prod", "b")
    assert find_account(found, env).stack == "whisperlive-prod"
    elsewhere = {**env, "WHISPERCTL_URL": "https://dev.example.org"}
    assert find_stack(elsewhere, state_dir=tmp_path).edge_url == "https://dev.example.org"
    with click.Context(cli) as context:
        context.meta[STAGE] = "prod"
        assert find_stack(elsewhere, state_dir=tmp_path).edge_url == "https://speech.example.org"
        context.meta[STAGE] = "local"
        with pytest.raises(UsageError, match="no stack is known"):
            find_stack(elsewhere, state_dir=tmp_path)
        context.meta[STAGE] = "other"
        with pytest.raises(UsageError, match="names no EdgeUrl"):
            find_stack(env, state_dir=tmp_path)
