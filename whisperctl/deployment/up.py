"""`whisperctl up`: five phases, each of which looks at what is there and does what is missing.

Nothing is remembered on this machine: AWS's truth says how far an earlier run came, so a run that was killed
anywhere is gone on with by the next one, on this machine or a colleague's.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from chalicelib.ports import Key, Put
from chalicelib.services.releases import settings_key
from whisperctl.api import Api, ApiProblem
from whisperctl.deployment import bootstrap, changes, package, preflight
from whisperctl.deployment.cloud import Cloud, error_code, plainly
from whisperctl.deployment.progress import Phase, Progress
from whisperctl.deployment.settings import CHOSEN_FOR_YOU, Settings, edge_lines, merged
from whisperctl.errors import CtlError, NotReachable, Refused
from whisperctl.releases.manifest import Built, build
from whisperctl.releases.upload import upload
from whisperctl.stack import StackInfo

if TYPE_CHECKING:
    from chalicelib.aws.store import DynamoStore

PHASES = (
    Phase("package", 60, "packing the control plane, and the bucket that CloudFormation reads from"),
    Phase("stack", 300, "the stack: network, machines, control plane"),
    Phase("releases", 360, "building both releases, and uploading what the bucket lacks"),
    Phase("rollouts", 360, "installing the edge, then the GPU machine"),
    Phase("handover", 120, "the first token, an invite, and the first spoken word"),
)
MARKS = "deployment"
"""Partition of the table in which `up` notes what it has done."""
OWN_TOKEN_MINUTES = 180.0
INVITE_MINUTES = 120.0
FIRST_LABEL = "first operator"
API_PATIENCE_S = 120.0
WHEELS = {"arm64": "aarch64", "x86_64": "x86_64"}


@dataclass
class Tools:
    """What `up` does outside AWS; tests put smaller ones here."""

    gather: Callable[[str, Settings], Built]
    speak: Callable[[StackInfo], dict[str, Any]] | None
    """The check: streams the built-in speech; None leaves it out."""
    package: Callable[[], package.Package] = package.build
    sleep: Callable[[float], None] = time.sleep
    resolve: Callable[[str], set[str]] = lambda name: {str(one[4][0]) for one in socket.getaddrinfo(name, 443)}


@dataclass
class Up:
    """One run. `file` is where the settings are kept; `say` takes lines for the person watching."""

    settings: Settings
    file: Path
    cloud: Cloud
    tools: Tools
    say: Callable[[str], None]
    replace: bool = False
    token_days: float = 365.0
    report: dict[str, Any] = field(default_factory=dict)

    def plan(self) -> changes.Plan:
        """What `run` would change in the stack; makes the bucket of packages and nothing else."""
        account = self.cloud.account()
        seen = self._settled(changes.look(self.cloud, self.settings.stack))
        if seen is None:
            preflight.quota(self.cloud, self.settings, self.say)
        made = self.tools.package()
        url = self._stored(account, made)
        if seen is not None and seen.status in changes.DEAD:
            self.say(f"the stack is {seen.status}: it would be deleted, and made anew")
            resources = made.template["Resources"].items()
            return changes.Plan(
                None, seen.name, tuple(changes.Change("Add", k, v["Type"], False) for k, v in resources)
            )
        proposed = self._propose(seen, made, url)
        if proposed.id is not None:
            changes.drop(self.cloud, proposed.id)
            changes.drop_empty(self.cloud, self.settings.stack)
        return proposed

    def run(self) -> dict[str, Any]:
        """All five phases. The report is what --json prints."""
        progress = Progress(PHASES, self.say)
        self.report |= {
            "stage": self.settings.stage,
            "stack": self.settings.stack,
            "region": self.settings.region,
            "changed": False,
            "phases": progress.report,
        }
        with progress.phase("package") as entry:
            account = self.cloud.account()
            seen = self._settled(changes.look(self.cloud, self.settings.stack))
            if seen is None:
                preflight.quota(self.cloud, self.settings, self.say)
            made = self.tools.package()
            url = self._stored(account, made)
            size = made.archive.stat().st_size
            entry["what"] = f"{size / 1e6:.2f} MB, {len(made.template['Resources'])} resources"
        with progress.phase("stack") as entry:
            seen = self._stack(self._cleared(seen), made, url, entry)
            self._agree(seen)
        self.report["outputs"] = dict(seen.outputs)
        with progress.phase("releases") as entry:
            built = self._releases(seen.outputs, entry)
        with progress.phase("rollouts") as entry:
            rolled = self._rollouts(seen.outputs, built, entry)
        with progress.phase("handover") as entry:
            self._hand_over(seen.outputs, rolled, entry)
            self.report["told"] = self._told()
        return self.report

    # ---- package and stack --------------------------------------------------------------------------------------
    def _settled(self, seen: changes.StackSeen | None) -> changes.StackSeen | None:
        """The stack once whatever an earlier run began in it has ended, well or not."""
        if seen is None or not seen.busy:
            return seen
        if seen.status.startswith("DELETE"):
            raise Refused(f"the stack {seen.name} is being destroyed: wait for `whisperctl destroy` to end")
        self.say(f"      the stack is {seen.status}, as an earlier run left it: following it to its end")
        with contextlib.suppress(changes.StackFailed):
            changes.follow(self.cloud, seen.id, self._line, sleep=self.tools.sleep)
        return changes.look(self.cloud, seen.name)

    def _stored(self, account: str, made: package.Package) -> str:
        bucket = bootstrap.ensure_bucket(self.cloud, self.settings.stack, account)
        text = made.template_text(bucket)
        key = package.template_key(text)
        bootstrap.put_once(self.cloud, bucket, account, made.code_key, made.archive)
        bootstrap.put_once(self.cloud, bucket, account, key, text.encode())
        return bootstrap.template_url(bucket, self.settings.region, key)

    def _cleared(self, seen: changes.StackSeen | None) -> changes.StackSeen | None:
        """Without a stack that a failed first creation left, or that cannot be updated as it is."""
        if seen is None:
            return None
        if seen.status == "DELETE_FAILED":
            raise Refused(
                f"the stack {seen.name} was half destroyed ({seen.reason}): run `whisperctl destroy` first"
            )
        if seen.status == "UPDATE_ROLLBACK_FAILED":
            self.say("      taking the failed update back")
            with plainly():
                self.cloud.client("cloudformation").continue_update_rollback(StackName=seen.id)
            return changes.follow(self.cloud, seen.id, self._line, sleep=self.tools.sleep)
        if seen.status in changes.DEAD:
            self.say(f"      the stack is {seen.status} ({seen.reason}): deleting what is left of it")
            with plainly():
                self.cloud.client("cloudformation").delete_stack(StackName=seen.id)
            changes.follow(self.cloud, seen.id, self._line, sleep=self.tools.sleep)
            return None
        return seen

    def _stack(
        self, seen: changes.StackSeen | None, made: package.Package, url: str, entry: dict[str, Any]
    ) -> changes.StackSeen:
        proposed = self._propose(seen, made, url)
        if proposed.id is None:
            assert seen is not None
            entry["what"] = "nothing to change"
            return seen
        lost = proposed.precious()
        if lost and not self.replace:
            changes.drop(self.cloud, proposed.id)
            named = ", ".join(f"{one.logical} ({one.type})" for one in lost)
            raise Refused(
                f"this would replace or remove {named}: look at `whisperctl up --plan`, then give --replace"
            )
        changes.execute(self.cloud, proposed)
        self.report["changed"] = True
        done = changes.follow(self.cloud, self._id(), self._line, sleep=self.tools.sleep)
        entry["what"] = f"{done.status.lower().replace('_', ' ')}, {len(proposed.changes)} changes"
        return done

    def _id(self) -> str:
        seen = changes.look(self.cloud, self.settings.stack)
        if seen is None:
            raise CtlError(f"the stack {self.settings.stack} is gone")
        return seen.id

    def _propose(self, seen: changes.StackSeen | None, made: package.Package, url: str) -> changes.Plan:
        there = {} if seen is None or seen.status == changes.REVIEW else dict(seen.parameters)
        wanted = merged(self.settings, there)
        if not there:
            chosen = preflight.zones(self.cloud, self.settings)
            types = {"GpuImage": self.settings.get("GpuType"), "EdgeImage": self.settings.get("EdgeType")}
            chosen |= preflight.images(self.cloud, made.template, types)
            wanted = {**{key: chosen[key] for key in CHOSEN_FOR_YOU if key in chosen}, **wanted}
        preflight.check_parameters(made.template, wanted)
        listed: list[dict[str, Any]] = []
        for key in made.template["Parameters"]:
            if key in there and wanted.get(key) == there[key]:
                listed.append({"ParameterKey": key, "UsePreviousValue": True})
            elif key in wanted:
                listed.append({"ParameterKey": key, "ParameterValue": wanted[key]})
        return changes.propose(self.cloud, self.settings.stack, url, listed, sleep=self.tools.sleep)

    def _agree(self, seen: changes.StackSeen) -> None:
        """File and stack have the same from here on."""
        agreed = dict(seen.parameters)
        values = {**self.settings.values, **{k: v for k, v in agreed.items() if k in self.settings.values}}
        if (agreed, values) != (self.settings.agreed, self.settings.values):
            self.settings.agreed, self.settings.values = agreed, values
            self.settings.write(self.file)

    def _line(self, line: str) -> None:
        self.say(f"      {line}")

    # ---- releases and rollouts ----------------------------------------------------------------------------------
    def _releases(self, outputs: Mapping[str, str], entry: dict[str, Any]) -> dict[str, Built]:
        built, sent, size = {}, 0, 0
        bucket, s3 = outputs["BucketName"], self.cloud.client("s3")
        for target in ("edge", "gpu"):
            built[target] = self.tools.gather(target, self.settings)
            done = upload(s3, bucket, built[target], dry_run=False, say=self._line)
            sent, size = sent + done.files, size + done.bytes
        self._edge_settings(outputs)
        self.report["releases"] = {target: one.name for target, one in built.items()}
        entry["what"] = f"{sent} files, {size / 1e6:.1f} MB sent" if sent else "nothing to send"
        self.report["changed"] |= sent > 0
        return built

    def _edge_settings(self, outputs: Mapping[str, str]) -> str:
        """Write `settings/edge.env` where it differs; returns it."""
        s3, place = self.cloud.client("s3"), {"Bucket": outputs["BucketName"], "Key": settings_key("edge")}
        held = read_text(self.cloud, **place)
        lines = edge_lines(self.settings, outputs, held)
        if lines != held:
            with plainly():
                s3.put_object(**place, Body=lines.encode())
            self.report["changed"] = True
        return lines

    def _rollouts(self, outputs: Mapping[str, str], built: Mapping[str, Built], entry: dict[str, Any]) -> bool:
        store = self._store(outputs)
        wanted = {target: self._goal(outputs, target, one) for target, one in built.items()}
        due = [
            target
            for target in ("edge", "gpu")
            if not self._current(store, target, built[target], wanted[target])
        ]
        if not due:
            entry["what"] = "both hosts have these releases"
            return False
        self.report["changed"] = True
        with self._own_token(store) as token:
            stack = StackInfo(outputs["EdgeUrl"], outputs["ApiUrl"], token=token)
            with Api(stack, "operator") as api:
                self._await_api(api)
                for target in due:
                    self._roll_out(api, target, built[target].name)
                    store.write(Put(Key(MARKS, target), {"goal": wanted[target], "at": time.time()}))
        entry["what"] = f"{' and '.join(due)} installed"
        return True

    def _goal(self, outputs: Mapping[str, str], target: str, built: Built) -> dict[str, str]:
        """What decides whether a rollout is due: the release and the settings that go with it."""
        place = {"Bucket": outputs["BucketName"], "Key": settings_key(target)}
        tickets = self.settings.get("RequireTicket")
        return {"release": built.sha256, "settings": read_text(self.cloud, **place), "tickets": tickets}

    def _current(self, store: DynamoStore, target: str, built: Built, goal: Mapping[str, str]) -> bool:
        """Whether an earlier run brought this about and every host of the kind still proves this release."""
        mark = store.get(Key(MARKS, target))
        if mark is None or mark.data.get("goal") != goal:
            return False
        proofs = {one.key.sk: one.data.get("sha256") for one in store.partition("installed")}
        hosts = self._hosts(target)
        return bool(hosts) and all(proofs.get(one) == built.sha256 for one in hosts)

    def _hosts(self, target: str) -> list[str]:
        filters = [
            {"Name": "tag:whisperlive-edge:stack", "Values": [self.settings.stack]},
            {"Name": "tag:whisperlive-edge:role", "Values": [target]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        with plainly():
            pages = self.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
            return [
                str(one["InstanceId"]) for page in pages for r in page["Reservations"] for one in r["Instances"]
            ]

    def _await_api(self, api: Api) -> None:
        """Until the control plane answers: a new stage takes some seconds to be known everywhere."""
        until = time.monotonic() + API_PATIENCE_S
        while True:
            try:
                api.status()
                return
            except (NotReachable, ApiProblem) as error:
                passing = isinstance(error, NotReachable) or error.status in (403, 404, 500, 502, 503, 504)
                if not passing or time.monotonic() > until:
                    raise CtlError(f"the control plane does not answer as it should: {error.message}") from None
                self.tools.sleep(2.0)

    def _roll_out(self, api: Api, target: str, release: str) -> None:
        from whisperctl.commands.deploy import follow

        while True:
            try:
                rollout = api.roll_out(target, release, force=False)
            except ApiProblem as problem:
                running = problem.problem.get("rollout")
                if not running:
                    raise
                self._line(f"a rollout to the {target} runs already, {running}: following it")
                follow(api, api.rollout(str(running)), self.tools.sleep)
                continue
            rollout = follow(api, rollout, self.tools.sleep)
            if rollout["state"] != "succeeded":
                raise CtlError(f"{target}: {rollout['verdict']}")
            self._line(f"{target}: {rollout['verdict']}")
            return

    # ---- hand-over ----------------------------------------------------------------------------------------------
    def _hand_over(self, outputs: Mapping[str, str], rolled: bool, entry: dict[str, Any]) -> None:
        from chalicelib.services.tokens import issue, revoke

        store = self._store(outputs)
        mark = store.get(Key(MARKS, "handed over"))
        if mark is not None and mark.data.get("done") and not rolled:
            entry["what"] = "done by an earlier run"
            return
        self._check_name(outputs)
        self._authority(store)
        with self._own_token(store) as own:
            edge = StackInfo(outputs["EdgeUrl"], f"{outputs['EdgeUrl']}/api", self.report.get("ca_cert"), own)
            if self.tools.speak is not None:
                self.report["check"] = self.tools.speak(edge)
            if mark is not None and mark.data.get("done"):
                entry["what"] = "the first word was heard" if self.tools.speak else "done by an earlier run"
                return
            with plainly():
                if mark is not None and mark.data.get("token"):
                    revoke(
                        store, str(mark.data["token"]), now=time.time()
                    )  # an interrupted run's; nobody has seen it
                token = issue(
                    store, "operator", now=time.time(), minutes=self.token_days * 1440, label=FIRST_LABEL
                )
                store.write(Put(Key(MARKS, "handed over"), {"token": _id(token), "done": False}))
                guest = issue(store, "speaker", now=time.time(), minutes=INVITE_MINUTES, label="first invite")
        self.report |= {"token": token, "invite": f"{outputs['EdgeUrl']}/#token={guest}", "changed": True}
        entry["what"] = "a token and an invite" + ("; the first word was heard" if self.tools.speak else "")

    def _told(self) -> list[str]:
        """By what people are told of failures: e-mail, webhook. Its address, a secret, is not read."""
        named = [{"Key": "Name", "Values": [f"/{self.settings.stack}/webhook"]}]
        with plainly():
            found = self.cloud.client("ssm").describe_parameters(ParameterFilters=named)["Parameters"]
        return (["e-mail"] if self.settings.get("NotifyEmail") else []) + (["webhook"] if found else [])

    def handed_over(self) -> None:
        """The token was shown: no later run makes another."""
        if "token" in self.report:
            store = self._store(self.report["outputs"])
            mark = {"token": _id(self.report["token"]), "done": True, "at": time.time()}
            store.write(Put(Key(MARKS, "handed over"), mark))

    def _check_name(self, outputs: Mapping[str, str]) -> None:
        name = self.settings.get("EdgeDomain")
        if not name:
            return
        try:
            found = self.tools.resolve(name)
        except OSError:
            found = set()
        if outputs["EdgeIp"] not in found:
            raise Refused(
                f"{name} does not lead to the edge yet: give it an A record with {outputs['EdgeIp']}, then run "
                f"`whisperctl up` again"
            )

    def _authority(self, store: DynamoStore) -> None:
        """The edge's own certificate authority into a file, where it has one that browsers do not know."""
        from chalicelib.services.control import load

        if self.settings.certificate != "internal":
            return
        control = load(store)
        pem = next((one.report.ca_pem for one in control.observation(time.time()).edges if one.report), None)
        if not pem:
            raise CtlError("the edge has not reported its certificate authority yet: run `whisperctl up` again")
        path = self.file.with_name(f"{self.settings.stack}-ca.pem")
        path.write_text(pem)
        self.report["ca_cert"] = str(path)

    # ---- the table ----------------------------------------------------------------------------------------------
    def _store(self, outputs: Mapping[str, str]) -> DynamoStore:
        from chalicelib.aws.store import DynamoStore

        clients: Any = SimpleNamespace(dynamodb=self.cloud.client("dynamodb"))
        return DynamoStore(clients, outputs["TableName"])

    @contextlib.contextmanager
    def _own_token(self, store: DynamoStore) -> Iterator[str]:
        """A token for this run; it ends with it, and by itself where the run is killed."""
        from chalicelib.services.tokens import issue, revoke

        with plainly():
            label = f"whisperctl up {secrets.token_hex(3)}"
            token = issue(store, "operator", now=time.time(), minutes=OWN_TOKEN_MINUTES, label=label)
        try:
            yield token
        finally:
            with contextlib.suppress(CtlError), plainly():
                revoke(store, token, now=time.time())


def _id(token: str) -> str:
    import hashlib

    return hashlib.sha256(token.encode()).hexdigest()[:12]


def read_text(cloud: Cloud, **place: str) -> str:
    """A small object's text; empty where there is none."""
    from botocore.exceptions import ClientError

    with plainly():
        try:
            return str(cloud.client("s3").get_object(**place)["Body"].read().decode())
        except ClientError as error:
            if error_code(error) in ("NoSuchKey", "404"):
                return ""
            raise


def build_release(target: str, settings: Settings) -> Built:
    """A release of this checkout for the stack's machines."""
    from whisperctl.commands.deploy import gather

    profile, model = settings.get("profile"), settings.get("model")
    machine = settings.get("GpuType" if target == "gpu" else "EdgeType")
    sources = gather(target, profile, model, WHEELS[preflight.architecture(machine)], (settings.get("python"),), None)
    facts = {"profile": profile, "model": model.partition("=")[0]} if target == "gpu" else {}
    return build(target, sources, **facts)


def manifest_of(cloud: Cloud, bucket: str, target: str) -> dict[str, Any] | None:
    """The manifest of the release uploaded last; None where there is none."""
    from chalicelib.services.releases import latest_key, manifest_key

    name = read_text(cloud, Bucket=bucket, Key=latest_key(target)).strip()
    text = read_text(cloud, Bucket=bucket, Key=manifest_key(target, name)) if name else ""
    return json.loads(text) if text else None
