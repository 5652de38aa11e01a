"""`whisperctl probe` against a scripted API: what is printed, and the exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.browser.scripted import TOKEN, Scripted, scripted_stack
from whisperctl.cli import cli
from whisperctl.commands.power import last_probe


def layer(name: str, verdict: str, detail: str = "well", remedy: str | None = None) -> dict[str, Any]:
    return {"name": name, "verdict": verdict, "ms": 12, "detail": detail, "remedy": remedy}


GREEN = {"ok": True, "cause": None, "layers": [layer("machine", "ok"), layer("canary", "ok", "100% of the words")]}
ASLEEP = {"ok": True, "cause": None, "layers": [layer("machine", "asleep"), layer("canary", "asleep")]}
BROKEN = {
    "ok": False,
    "cause": "edge",
    "layers": [
        layer("machine", "ok"),
        layer("edge", "failed", "it does not answer", "Look at the edge."),
        layer("canary", "not_reached", "behind edge"),
    ],
}
WAKING = {"ok": False, "cause": None, "layers": [layer("machine", "ok"), layer("canary", "not_reached", "it boots")]}
UNREADABLE = {"title": "Service Unavailable", "status": 503, "detail": "The table does not answer (Throttling)."}


class Probed(Scripted):
    """Answers POST /v1/probe as told."""

    found: tuple[int, dict[str, Any]] = (200, GREEN)

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        if (method, path) == ("POST", "/v1/probe"):
            return self.found
        return super().answer(method, path, authorization, body)


def run(found: dict[str, Any], *options: str, status: int = 200) -> Result:
    script = Probed()
    script.found = (status, found)
    env = {"WHISPERCTL_TOKEN": TOKEN, "WHISPERCTL_CA": ""}
    with scripted_stack(script) as server:
        return CliRunner().invoke(cli, ["probe", "--url", server.http_url, *options], env=env)


@pytest.mark.parametrize(
    ("found", "status", "code", "words"),
    [
        (GREEN, 200, 0, "green: whoever speaks now gets words"),
        (ASLEEP, 200, 0, "asleep, and all that is awake is well"),
        (BROKEN, 200, 1, "whisperctl: edge: it does not answer. Look at the edge."),
        (WAKING, 200, 6, "whisperctl: not proven: it boots"),
        ({**UNREADABLE, "cause": "table", "remedy": "See DynamoDB."}, 503, 1, "table: The table does not answer"),
        (UNREADABLE, 503, 3, "The table does not answer"),
    ],
)
def test_one_sentence_and_an_exit_code(found: dict[str, Any], status: int, code: int, words: str) -> None:
    said = run(found, status=status)
    assert (said.exit_code, words in said.output) == (code, True), said.output
    assert "\x1b" not in said.output, "no colours into a file"


def test_each_layer_is_a_line() -> None:
    lines = run(BROKEN).stdout.splitlines()
    assert [one.split()[:2] for one in lines] == [["machine", "ok"], ["edge", "FAILED"], ["canary", "-"]]
    assert "12 ms" in lines[1]


def test_json_is_the_probe_itself() -> None:
    said = run(BROKEN, "--json")
    assert json.loads(said.stdout) == BROKEN
    assert said.exit_code == 1
    table = run({**UNREADABLE, "cause": "table", "remedy": "See DynamoDB."}, "--json", status=503)
    assert json.loads(table.stdout)["cause"] == "table"


def test_the_status_says_what_the_last_probe_found() -> None:
    kept: dict[str, Any] = {"at": "T", "failing_since": None, "repairs": []}
    assert last_probe(GREEN | kept) == "green at T"
    assert last_probe(ASLEEP | kept) == "asleep and well at T"
    assert last_probe(WAKING | kept) == "not proven at T"
    tried = {"failing_since": "S", "repairs": [{"kind": "restart", "at": "R"}]}
    assert last_probe(BROKEN | kept | tried) == "edge FAILED since S: it does not answer; tried: restart at R"
