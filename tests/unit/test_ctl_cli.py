"""Finding the stack, the power verbs, and that a user's mistake is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.browser.scripted import TOKEN, Scripted, scripted_stack
from whisperctl.api import Api
from whisperctl.cli import VERBS, cli
from whisperctl.commands.power import await_phase
from whisperctl.errors import CtlError, Refused, UsageError
from whisperctl.stack import StackInfo, find_stack
from whisperctl.wer import word_error_rate

ENV = {"WHISPERCTL_TOKEN": TOKEN, "WHISPERCTL_URL": "", "WHISPERCTL_CA": ""}


def call(server: Scripted, *arguments: str, token: str = TOKEN) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--url", server.http_url], env={**ENV, "WHISPERCTL_TOKEN": token})


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_with_an_example_and_exit_codes(verb: str) -> None:
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert "Exit codes:" in result.output


def test_status_in_words_and_as_json() -> None:
    with scripted_stack() as server:
        plain, as_json = call(server, "status"), call(server, "status", "--json")
    assert plain.stdout.startswith("GPU    asleep: nobody wants to speak\n")
    assert json.loads(as_json.stdout)["phase"] == "asleep"


def test_wake_is_accepted() -> None:
    with scripted_stack() as server:
        result = call(server, "wake", "--minutes", "5", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["phase"] == "waking.boot"
    assert server.requests == [("POST", "/v1/gpu/start", {"minutes": 5.0})]


def test_a_role_too_low_is_3() -> None:
    with scripted_stack() as server:
        result = call(server, "stop")
    assert result.exit_code == 3
    assert result.stderr == "whisperctl: This needs the role operator.\n"


def test_mistakes_are_sentences() -> None:
    run = CliRunner().invoke
    for arguments in (["stats"], ["status", "--url", "ftp://x"], ["stream", "x.wav", "--pace", "fast"],
                      ["wake", "--minutes", "-1"], ["status", "--url", "https://x:notaport"]):  # fmt: skip
        result = run(cli, arguments, env=ENV)
        assert result.exit_code == 2, arguments
        assert "Traceback" not in result.output


def test_no_stack_known_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["status", "--state-dir", str(tmp_path)], env=ENV)
    assert result.exit_code == 2
    assert "whisperctl local" in result.stderr


@pytest.mark.parametrize("token", ["tökené", "two\nlines", "a space", "tab\t", "\udcff"])
def test_a_token_that_cannot_be_one_is_2_and_not_shown(token: str) -> None:
    for verb in (["status"], ["stream", "x.wav"], ["wake"]):
        with pytest.raises(UsageError) as refused:
            find_stack({"WHISPERCTL_TOKEN": token, "WHISPERCTL_URL": "https://x.example"})
        assert token not in refused.value.message
        result = CliRunner().invoke(cli, [*verb, "--url", "https://x.example", "--token", token], env=ENV)
        assert result.exit_code == 2
        assert token not in result.output
        assert len(result.stderr.splitlines()) == 1


def test_a_stack_json_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "stack.json").mkdir()
    for folder in (tmp_path, Path("/dev/null")):
        result = CliRunner().invoke(cli, ["status", "--state-dir", str(folder), "--json"], env=ENV)
        assert result.exit_code == 2, folder
        assert "stack.json cannot be read" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        with_url = find_stack({"WHISPERCTL_URL": "https://x.example"}, state_dir=folder)
        assert with_url.edge_url == "https://x.example", "a stack that is named needs no stack.json"


def test_a_token_of_stack_json_that_cannot_be_one_is_not_shown(tmp_path: Path) -> None:
    stack_json(tmp_path)
    path = tmp_path / "stack.json"
    path.write_text(path.read_text().replace('"sp"', '"geheim\\n"'))
    with pytest.raises(UsageError, match="visible ASCII") as refused:
        find_stack({}, state_dir=tmp_path)
    assert "geheim" not in refused.value.message


def stack_json(folder: Path) -> None:
    about = {
        "edge_url": "https://localhost:8443",
        "api_url": "http://127.0.0.1:1234",
        "aws_endpoint": "http://127.0.0.1:4321",
        "ca_cert": "/somewhere/root.crt",
        "tokens": {"operator": "op", "speaker": "sp", "viewer": "vi"},
    }
    (folder / "stack.json").write_text(json.dumps(about))


def test_stack_json_gives_address_tokens_and_authority(tmp_path: Path) -> None:
    stack_json(tmp_path)
    stack = find_stack({}, state_dir=tmp_path)
    assert (stack.edge_url, stack.ca_cert) == ("https://localhost:8443", "/somewhere/root.crt")
    assert [stack.token_for(role) for role in ("viewer", "speaker", "operator")] == ["vi", "sp", "op"]
    assert "op" not in repr(stack).replace(str(tmp_path), "").replace("operator", "")


def test_tokens_of_stack_json_never_go_to_another_address(tmp_path: Path) -> None:
    stack_json(tmp_path)
    stack = find_stack({"WHISPERCTL_URL": "https://elsewhere.example/"}, state_dir=tmp_path)
    assert stack.api_url == "https://elsewhere.example/api"
    assert stack.ca_cert is None
    with pytest.raises(UsageError, match="WHISPERCTL_TOKEN"):
        stack.token_for("viewer")


def test_a_flag_wins_over_the_environment() -> None:
    env = {"WHISPERCTL_URL": "https://a.example", "WHISPERCTL_TOKEN": "env", "WHISPERCTL_CA": "/ca.pem"}
    stack = find_stack(env, url="b.example:8443/#token=x", token="flag")  # noqa: S106 no secret
    assert (stack.edge_url, stack.token_for("operator"), stack.ca_cert) == (
        "https://b.example:8443", "flag", "/ca.pem"
    )  # fmt: skip


def test_a_missing_authority_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="does not exist"):
        StackInfo("https://x", "https://x/api", "/nowhere/ca.pem").tls()
    with pytest.raises(UsageError, match="does not exist"):
        Api(StackInfo("https://x", "https://x/api", "/nowhere/ca.pem", "t"), "viewer")
    Api(StackInfo("https://x", "http://127.0.0.1:1/local", "/nowhere/ca.pem", "t"), "viewer")  # not by the edge


class Phases:
    """An API whose status walks through phases."""

    def __init__(self, *phases: str) -> None:
        self.phases = list(phases)

    def status(self) -> dict[str, str]:
        phase = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        return {"phase": phase, "reason": "because"}


def test_waiting_for_a_phase_ends_when_it_is_there_failed_or_too_late() -> None:
    now = [0.0]

    def wait(*phases: str) -> str:
        api = Phases(*phases)
        return str(await_phase(
            api, "ready", 10, api.status(), lambda: now[0], lambda s: now.__setitem__(0, now[0] + s)  # type: ignore[arg-type]
        )["phase"])  # fmt: skip

    assert wait("waking.boot", "waking.service", "ready") == "ready"
    with pytest.raises(Refused, match="because"):
        wait("waking.boot", "failed")
    with pytest.raises(CtlError, match="not ready after 10 s"):
        wait("waking.boot")


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("The first train leaves at seven.", "the first train leaves at 7", 0.0),
        ("It’s twenty-one dogs!", "it is 20 1 dogs", 0.0),
        ("one two three four", "one two four", 0.25),
        ("a b", "", 1.0),
    ],
)
def test_word_error_rate(said: str, heard: str, rate: float) -> None:
    assert word_error_rate(said, heard) == rate


def test_a_reference_without_a_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="no word"):
        word_error_rate("...", "a")
