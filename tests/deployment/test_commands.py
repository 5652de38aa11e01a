"""`whisperctl init`, `up` and `destroy` in processes of their own against the stand-in: what they print and leave.

`tests/hosts/test_hosts_up.py` runs them where the hosts are real, to a spoken word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deployment.commands import Operator
from tests.deployment.world import STACK, World, empty_account
from whisperctl.commands.up import show

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("an account and its operator")]

INIT = "init --region us-east-1 --profile cpu --model small={folder}/model --budget 20 --email me@example.org --yes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with empty_account(tmp_path_factory.mktemp("account") / "account") as made:
        yield made


@pytest.fixture(scope="module")
def operator_(world: World, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    return Operator(world.endpoint, tmp_path_factory.mktemp("operator"))


@pytest.fixture
def operator(operator_: Operator, world: World) -> Iterator[Operator]:
    operator_.clear()
    yield operator_
    world.faults()
    world.empty()


def init(operator: Operator) -> None:
    operator.done(INIT.format(folder=operator.folder))


def writes(calls: list[dict[str, Any]]) -> list[str]:
    """What changes something, as operations, of the services that no function of the stack writes to."""
    looks = ("Get", "List", "Describe", "Head", "GET ", "HEAD ", "Query", "Filter")
    services = ("cloudformation", "s3", "iam", "logs", "sns")
    ours = [one for one in calls if one["service"] in services]
    return [one["operation"] for one in ours if not one["operation"].startswith(looks)]


def test_from_nothing_to_a_stack_and_back_with_the_commands(operator: Operator, world: World) -> None:
    init(operator)
    held = json.loads((operator.folder / "whisperctl.json").read_text())
    assert (held["stage"], held["region"], held["settings"]["profile"]) == ("prod", "us-east-1", "cpu")

    plan = operator.run("up --plan")
    assert plan.returncode == 0, plan.stderr
    lines = plan.stdout.splitlines()
    assert re.fullmatch(rf"\d+ changes to {STACK}", lines[-1])
    assert all(line.startswith("Add ") for line in lines[:-1])
    assert world.stack() is None, "--plan leaves no stack"
    planned = operator.told("up --plan")
    assert len(planned["changes"]) == len(lines) - 1

    up = operator.run("up --no-check")
    assert up.returncode == 0, up.stderr
    phases = [line for line in up.stderr.splitlines() if line.startswith("[")]
    assert [line[:5] for line in phases] == [f"[{n}/5]" for n in range(1, 6)]
    said = dict(line.split(": ", 1) for line in up.stdout.splitlines() if ": " in line)
    assert said["the operator's token, shown this once"].startswith("wle_")
    assert "/#token=wle_" in said["an invite for a speaker, good for two hours"]
    exported = "\n".join(line for line in up.stdout.splitlines() if line.startswith("export "))
    assert "export AWS_REGION=us-east-1 WHISPERCTL_STAGE=prod" in exported

    # What it says to export is enough for the other commands.
    token = said["the operator's token, shown this once"]
    clients = operator.run("notify webhook", stdin="https://ntfy.sh/t\n", AWS_REGION="us-east-1",
                           WHISPERCTL_STAGE="prod", WHISPERCTL_TOKEN=token)  # fmt: skip
    assert clients.returncode == 0, clients.stderr
    assert f"/{STACK}/webhook" in world.tagged()

    before = len(world.calls())
    again = operator.run("up --no-check")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"{STACK} is as it should be: https://")
    assert again.stdout.endswith("; nothing was changed\n")
    assert writes(world.calls()[before:]) == ["CreateChangeSet", "DeleteChangeSet"]
    assert "nobody is told" not in up.stderr
    told = operator.told("up --no-check")
    assert (told["changed"], told["told"]) == (False, ["e-mail", "webhook"])
    assert operator.done("up --plan") == "nothing to change\n"

    operator.done("init --set LogRetentionDays=90 --yes")
    changed = operator.told("up --plan")["changes"]
    assert changed
    assert {one["action"] for one in changed} == {"Modify"}

    (operator.folder / "whisperctl.json").unlink()
    operator.done("init --from-stack prod --region us-east-1")
    taken = json.loads((operator.folder / "whisperctl.json").read_text())["settings"]
    assert {key: taken[key] for key in held["settings"] if key != "model"} == {
        key: value for key, value in held["settings"].items() if key != "model"
    }
    take_down(operator, world)


def take_down(operator: Operator, world: World) -> None:
    before = len(world.calls())
    plan = operator.run("destroy --plan")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout == "nothing was changed\n"
    assert "a month while the GPU sleeps" in plan.stderr
    assert operator.told("destroy --plan")["monthly"] > 5
    for refused, code in (("destroy", 2), ("destroy --confirm whisperlive-dev", 3)):
        ran = operator.run(refused)
        assert (ran.returncode, ran.stdout) == (code, "")
    assert writes(world.calls()[before:]) == []

    report = operator.told(f"destroy --confirm {STACK} --keep kept-here")
    assert report["left"] == []
    assert report["kept"] == "kept-here"
    assert {"events.jsonl", "ledger.jsonl"} <= {one.name for one in (operator.folder / "kept-here").iterdir()}
    assert (world.stack(), world.tagged()) == (None, set())
    again = operator.run(f"destroy --confirm {STACK}")
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"nothing of {STACK} is left\n"


def test_up_says_where_nobody_is_told_of_failures(capsys: pytest.CaptureFixture[str]) -> None:
    report = {"stack": STACK, "stage": "prod", "region": "us-east-1", "changed": True}
    for told, hint in (([], True), (["webhook"], False)):
        show({**report, "outputs": {"EdgeUrl": "https://e"}, "told": told}, False)
        assert ("whisperctl notify webhook --stage prod" in capsys.readouterr().err) is hint


def test_init_where_nobody_can_be_asked_says_what_is_missing(operator: Operator) -> None:
    ran = operator.run("init")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "whisperctl: --region is missing: an AWS region such as eu-central-1\n"


MISTAKES: dict[str, tuple[str, dict[str, str], int, str]] = {
    "no settings": ("up", {}, 2, "there is no whisperctl.json: run `whisperctl init` first"),
    "no settings to destroy by": ("destroy", {}, 2, "there is no whisperctl.json: run `whisperctl init` first"),
    "a stage without a region": ("destroy --stage prod", {}, 2, "--stage and --region go together"),
    "a region that is none": ("init --region europe --yes", {}, 2, "'europe' is not an AWS region"),
    "a stage that is none": ("init --stage Prod! --region us-east-1 --yes", {}, 2, "is not the name of a stage"),
    "a night that is none": ("init --region us-east-1 --night 22-6 --yes", {}, 2, "--night: "),
    "a setting that is none": ("init --region us-east-1 --set Nope=1 --yes", {}, 2, "--set 'Nope=1'"),
    "a budget and nobody": ("init --region us-east-1 --budget 9 --yes", {}, 2, "--budget needs --email"),
    "a Python that is none": ("init --region us-east-1 --python three --yes", {}, 2, "--python: 'three'"),
    "a colleague's stack that is not there": (
        "init --from-stack prod --region us-east-1", {}, 2, "there is no stack whisperlive-prod to take settings",
    ),
    "a folder that is not there": ("init --region us-east-1 --yes --file none/w.json", {}, 2, "cannot be written"),
    "keep and discard": ("destroy --keep a --discard --stage prod --region us-east-1", {}, 2, "either --keep or --"),
}  # fmt: skip
WITH_SETTINGS: dict[str, tuple[str, dict[str, str], int, str]] = {
    "no credentials": ("up", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 2, "no AWS credentials"),
    "half of the credentials": ("up", {"AWS_SECRET_ACCESS_KEY": ""}, 2, "no AWS credentials"),
    "a profile that is none": ("up", {"AWS_PROFILE": "nobody"}, 2, "no AWS credentials"),
    "AWS is not reached": ("up", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 5, "AWS is not reachable"),
    "an address that is none": ("up", {"AWS_ENDPOINT_URL": "nowhere"}, 2, "AWS_ENDPOINT_URL"),
    "destroy without AWS": ("destroy", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 5, "AWS is not reachable"),
    "a record that cannot be written": ("up --plan --record none/r.json", {}, 2, "cannot be written"),
    "another stage's file": ("init --stage dev --yes", {}, 2, "is of the stage prod: use another --file for dev"),
    "a folder that is there": (f"destroy --confirm {STACK} --keep model", {}, 2, "model is there already"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_sentence_and_a_code(operator_: Operator, what: str) -> None:
    operator_.clear()
    check_mistake(operator_, *MISTAKES[what])


@pytest.mark.parametrize("what", WITH_SETTINGS)
def test_a_mistake_with_settings_is_one_sentence_and_a_code(operator: Operator, what: str) -> None:
    init(operator)
    check_mistake(operator, *WITH_SETTINGS[what])


def check_mistake(operator: Operator, line: str, environment: dict[str, str], code: int, says: str) -> None:
    ran = operator.run(line, **environment)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout == ""
    (sentence,) = [one for one in ran.stderr.splitlines() if one.startswith("whisperctl: ")]
    assert says in sentence, ran.stderr
    told = json.loads(operator.run(f"{line} --json", **environment).stdout)
    assert told["exit_code"] == code
    assert says in told["error"]


@pytest.mark.parametrize(
    ("faults", "code", "says"),
    [
        ({"quota": True}, 3, "this account may run 0 virtual CPUs of GPU machines"),
        (
            {"stacks": [{"resource": "EdgeAddress", "reason": "The maximum number of addresses has been reached."}]},
            1,
            "EdgeAddress (AWS::EC2::EIP): ",
        ),
        ({"throttling": [{"service": "cloudformation", "times": 99}]}, 1, "AWS refused "),
    ],
    ids=["no quota", "no address", "throttled"],
)
def test_what_aws_refuses_is_a_sentence_and_a_code(
    operator: Operator, world: World, faults: dict[str, Any], code: int, says: str
) -> None:
    init(operator)
    world.faults(**faults)
    ran = operator.run("up --no-check")
    assert ran.returncode == code, ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("whisperctl: ")
    assert says in last


def test_a_terminal_that_is_closed_ends_it_and_the_next_run_goes_on(operator: Operator, world: World) -> None:
    """Ctrl-C while CloudFormation works."""
    import signal
    import subprocess
    import sys

    init(operator)
    process = subprocess.Popen(
        [sys.executable, "-m", "whisperctl", "up", "--no-check"],
        cwd=operator.folder,
        env=operator.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "create complete" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=100)
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1].startswith("whisperctl: interrupted; what AWS was told to do goes on there.")
    report = operator.told(f"destroy --confirm {STACK} --discard")
    assert report["left"] == []
    assert (world.stack(), world.tagged()) == (None, set())


def test_a_look_at_the_settings_changes_no_file(operator_: Operator) -> None:
    operator_.clear()
    before = sorted(path.name for path in operator_.folder.iterdir())
    operator_.done("init --list")
    assert operator_.told("init --list")[0]["name"] == "GpuType"
    assert sorted(path.name for path in operator_.folder.iterdir()) == before
