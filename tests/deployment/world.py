"""An empty account on this machine, and runs of `up` and `destroy` in it that are killed where a test says.

A run is a process of its own, forked from a server that has loaded the libraries: SIGKILL there is a real one.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.stack import ROOT, free_port
from whisperctl.deployment import changes
from whisperctl.deployment.cloud import TAG, Cloud
from whisperctl.deployment.destroy import Destroy
from whisperctl.deployment.record import Recorder
from whisperctl.deployment.settings import Settings
from whisperctl.deployment.up import Tools, Up
from whisperctl.releases.manifest import Built, Source, build

REGION = "us-east-1"
STACK = "whisperlive-prod"
LONGEST_S = 150.0
QUICK_S = 0.05
"""In place of the seconds between two looks at AWS."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.deployment.preload"])


@dataclass(frozen=True)
class Cut:
    """Where a run ends: before or after the `number`th call of `operation` (AWS's, or `POST` of the API)."""

    operation: str
    when: str = "after"
    number: int = 1
    by: signal.Signals = signal.SIGKILL


@dataclass
class Ran:
    """How a run ended: `report` when it came to its end, else `failure`, a sentence; `said` are its lines."""

    exit_code: int | None
    report: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


@dataclass
class World:
    """The account's endpoint and a folder for files."""

    endpoint: str
    folder: Path
    process: subprocess.Popen[str]

    def up(self, cut: Cut | None = None, record: Path | None = None, **settings: str) -> Ran:
        """One run of `up` with small releases and without the spoken word; `record`: where its record goes."""
        return self._run("up", cut, settings | ({"record": str(record)} if record else {}))

    def destroy(self, cut: Cut | None = None, *, keep: Path | None = None) -> Ran:
        """One run of `destroy`; `keep`: the folder for ledger and logs, None discards them."""
        return self._run("destroy", cut, {"keep": str(keep)} if keep else {})

    def _run(self, verb: str, cut: Cut | None, settings: dict[str, str]) -> Ran:
        out = self.folder / f"run-{time.monotonic_ns()}.json"
        child = _context.Process(
            target=_child, args=(verb, self.endpoint, str(self.folder), str(out), cut, settings)
        )
        child.start()
        child.join(LONGEST_S)
        if child.is_alive():
            child.kill()
            child.join()
            raise AssertionError(f"{verb} did not end: {out.read_text() if out.exists() else 'no word'}")
        said = out.with_suffix(".log")
        lines = said.read_text().splitlines() if said.exists() else []
        held = json.loads(out.read_text()) if out.exists() else {}
        return Ran(child.exitcode, held.get("report", {}), held.get("failure", ""), lines)

    def client(self, service: str) -> Any:
        import boto3

        make: Any = boto3.Session(
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106  the stand-in's
        ).client
        return make(service, endpoint_url=self.endpoint)

    def faults(self, **faults: Any) -> None:
        httpx.post(f"{self.endpoint}/_standin/faults", json=faults, timeout=30).raise_for_status()

    def calls(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.endpoint}/_standin/calls", timeout=30).json()
        return found

    def tagged(self) -> set[str]:
        """What the tagging API, EC2, SSM and IAM know under the stack's tag, terminated machines aside."""
        ec2 = self.client("ec2")
        pages = self.client("resourcegroupstaggingapi").get_paginator("get_resources")
        filters = [{"Key": TAG, "Values": [STACK]}]
        found = {
            one["ResourceARN"]
            for page in pages.paginate(TagFilters=filters)
            for one in page["ResourceTagMappingList"]
        }
        gone = {
            one["InstanceId"]
            for each in ec2.describe_instances()["Reservations"]
            for one in each["Instances"]
            if one["State"]["Name"] == "terminated"
        }
        tag = [{"Name": f"tag:{TAG}", "Values": [STACK]}]
        found |= {one["AllocationId"] for one in ec2.describe_addresses(Filters=tag)["Addresses"]}
        found |= {one["KeyPairId"] for one in ec2.describe_key_pairs(Filters=tag)["KeyPairs"]}
        parameters = [{"Key": f"tag:{TAG}", "Values": [STACK]}]
        listed = self.client("ssm").describe_parameters(ParameterFilters=parameters)["Parameters"]
        found |= {one["Name"] for one in listed}
        iam = self.client("iam")
        for role in iam.list_roles()["Roles"]:
            if {"Key": TAG, "Value": STACK} in iam.list_role_tags(RoleName=role["RoleName"])["Tags"]:
                found.add(role["RoleName"])
        return {one for one in found if one.rpartition("/")[2] not in gone}

    def stack(self) -> dict[str, Any] | None:
        """The stack that is there."""
        found = self.client("cloudformation").describe_stacks()["Stacks"]
        assert len(found) <= 1, found
        return dict(found[0]) if found else None

    def empty(self) -> None:
        """As before any test: no stack, no tag, no file."""
        self.faults()
        if self.stack() is not None or self.tagged():
            assert self.destroy().exit_code == 0
        for path in self.folder.glob("*.json"):
            path.unlink()


@contextlib.contextmanager
def empty_account(folder: Path, *options: str, end_s: float = 30) -> Iterator[World]:
    """`python -m whisperctl.local.empty` until the block ends; without options without hosts, and quick."""
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "stderr.log"
    short = ["--hosts", "none", "--port", str(free_port()), "--seconds", "0.001", "--boot-seconds", "0.05"]
    arguments = ["--state-dir", str(folder / "account"), *(options or short)]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "whisperctl.local.empty", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, errors.read_text()[-3000:]
    try:
        yield World(json.loads(line)["aws_endpoint"], folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(end_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _child(verb: str, endpoint: str, folder: str, out: str, cut: Cut | None, settings: dict[str, str]) -> None:
    """The run itself, in its own process: what a command does, with lines and report in files."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "operator",
            "AWS_SECRET_ACCESS_KEY": "operator",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
    )
    changes.POLL_S = QUICK_S
    path = Path(out)
    with path.with_suffix(".log").open("w", buffering=1) as log:
        cloud = _cloud(cut)
        recorder = Recorder()
        record = settings.pop("record", "")
        if record:
            recorder.hook(cloud._session)
        try:
            if verb == "up":
                report = _up(cloud, Path(folder), settings, lambda line: print(line, file=log))
            else:
                run = Destroy(cloud, STACK, lambda line: print(line, file=log), sleep=_short)
                report = run.run(run.inventory(), Path(settings["keep"]) if "keep" in settings else None)
            path.write_text(json.dumps({"report": report}))
            if record:
                recorder.write(Path(record), REGION)
        except KeyboardInterrupt:
            path.write_text(json.dumps({"failure": "interrupted"}))
            sys.exit(130)
        except Exception as error:  # noqa: BLE001  a failure is a result here
            path.write_text(json.dumps({"failure": f"{error}"}))
            traceback.print_exc(file=log)
            sys.exit(1)


def _up(cloud: Cloud, folder: Path, settings: dict[str, str], say: Any) -> dict[str, Any]:
    path = folder / "whisperctl.json"
    held = Settings.read(path) if path.exists() else Settings("prod", REGION, {})
    held.values |= settings
    held.check()
    held.write(path)
    run = Up(held, path, cloud, Tools(lambda target, _: small_release(folder, target), None, sleep=_short), say)
    report = run.run()
    run.handed_over()
    return report


def small_release(folder: Path, target: str) -> Built:
    """A release of three small files."""
    place = folder / "releases" / target
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for name in ("install.sh", "check.sh", "release.pyz"):
        (place / name).write_text(f"{target} {name}\n")
        found.append(Source("bootstrap", f"bootstrap/{name}", place / name))
    return build(target, found)


def _short(seconds: float) -> None:
    time.sleep(min(seconds, QUICK_S))


def _cloud(cut: Cut | None) -> Cloud:
    from tests.deployment import preload

    if cut is not None:
        preload.on_call(cut.operation, cut.when, cut.number, lambda: os.kill(os.getpid(), cut.by))
    return Cloud(REGION, _session=preload.SESSION)
