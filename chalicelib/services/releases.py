"""Releases: one is rolled out at a time to the hosts of a kind, moved on by whoever comes by.

A rollout is a record and a wish. `progress` looks at what became of the step under way, lets the domain decide what
comes next, writes that, and only then sends the next command; it never waits. Ticks, EC2's and SSM's events, the
hosts' reports and everybody who looks at the rollout call it. Two that come at once are told apart by the record's
version: one of them writes, the other leaves.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from chalicelib.domain.machines import MachineState, Observation, Role, View
from chalicelib.domain.remote import CommandResult, RemoteCommand, Runner, release_step
from chalicelib.domain.rollout import (
    LIMITS_S,
    STEPS,
    HostSeen,
    Rollout,
    State,
    Step,
    StepState,
    decide,
    not_taken,
    sent,
)
from chalicelib.domain.times import to_text, to_text_or_none
from chalicelib.domain.wishes import Evidence, Installation
from chalicelib.errors import CommandRefused, Conflict, NotFound, StoreConflict, Unavailable
from chalicelib.ports import Artifacts, Delete, Key, Put, Write
from chalicelib.services.context import Context
from chalicelib.services.control import PROBE_WANTED, Control, data_of, installation_key, load, rollout_from
from chalicelib.services.events import Cause, event
from chalicelib.telemetry import logger

MOVES = 6
"""Most steps that one visitor moves a rollout on."""
ADDRESS_S = 3600
"""How long the addresses in a plan are good, in seconds."""
KEPT_S = 90 * 86400.0
RUNNER = "bootstrap/release.pyz"
NAME = re.compile(r"[0-9a-f]{16}")
_GONE = (MachineState.SHUTTING_DOWN, MachineState.TERMINATED)


def manifest_key(target: str, release: str) -> str:
    return f"releases/{target}/{release}.json"


def latest_key(target: str) -> str:
    """The object that holds the name of the release uploaded last."""
    return f"releases/{target}/latest"


def settings_key(target: str) -> str:
    """The operator's settings for hosts of this kind: KEY=VALUE lines."""
    return f"settings/{target}.env"


def rollout_key(rollout_id: str) -> Key:
    return Key("rollouts", rollout_id)


def installed_key(instance_id: str) -> Key:
    return Key("installed", instance_id)


def begin(
    context: Context, target: Role, release: str | None, force: bool, by: str, api_url: str, cause: Cause
) -> dict[str, Any]:
    """Begin a rollout of `release`, by default the one uploaded last, and move it as far as it goes at once.

    Conflict when one runs already, or when streams are live, a host would be changed and it is not forced; NotFound
    when there is no such release.
    """
    artifacts = _artifacts(context)
    name = release or (artifacts.read(latest_key(target)) or b"").decode().strip()
    if not name:
        raise NotFound(f"No release for {target} hosts was uploaded yet; `whisperctl deploy {target}` builds one.")
    found = artifacts.read(manifest_key(target, name)) if NAME.fullmatch(name) else None
    if found is None:
        raise NotFound(f"There is no release {name[:64]} for {target} hosts in the bucket.")
    context.reconcile(cause)
    control, now = load(context.store), context.clock()
    observation = control.observation(now)
    views = [one for one in _of(observation, target) if one.machine.state not in _GONE]
    if not views:
        raise Conflict(f"No {target} host belongs to this stack.")
    # Those awake first: they serve, and a release that fails there never reaches the others.
    hosts = sorted(views, key=lambda one: (not one.machine.state.awake, one.instance_id))
    rollout = Rollout(
        secrets.token_hex(8),
        target,
        name,
        hashlib.sha256(canonical(json.loads(found))).hexdigest(),
        tuple(one.instance_id for one in hosts),
        by,
        now,
        force,
        context.settings.api_url or api_url,
    )
    if not force and not all(_is_current(context, rollout, view) for view in views):
        _refuse_under_streams(observation)
    try:
        context.store.write(
            Put(rollout_key(rollout.id), data_of(rollout), 0, now + KEPT_S),
            Put(installation_key(target), data_of(_wish(rollout)), 0),
            event(now, cause, "release.begin", name, f"{by} rolls it out to {', '.join(rollout.hosts)}"),
        )
    except StoreConflict:
        running = next((one.id for one in load(context.store).wishes.installations if one.target == target), None)
        raise Conflict(f"A rollout to the {target} hosts runs already.", rollout=running) from None
    progress(context, cause)  # first: what is current already needs no machine awake
    if load(context.store).wishes.installations:
        context.wishes_changed(cause)
    return _described(_held(context, rollout.id)[0])


def _refuse_under_streams(observation: Observation) -> None:
    live = [
        {"instance_id": view.instance_id, "sid": stream.sid}
        for view in observation.gpus
        if view.machine.state is MachineState.RUNNING
        for stream in view.streams()
    ]
    if live:
        words = "one stream is" if len(live) == 1 else f"{len(live)} streams are"
        raise Conflict(f"{words.capitalize()} live; wait for the end, or force it.", streams=live)


def look(context: Context, rollout_id: str, cause: Cause) -> dict[str, Any]:
    """The Rollout as it is now; NotFound."""
    rollout, _ = _held(context, rollout_id)
    if rollout.state is State.RUNNING:
        progress(context, cause)
        rollout, _ = _held(context, rollout_id)
    return _described(rollout)


def progress(context: Context, cause: Cause) -> None:
    """Move every running rollout on, as far as it goes now."""
    for installation in load(context.store).wishes.installations:
        _advance(context, installation.id, cause)


def canonical(manifest: Any) -> bytes:
    """The bytes whose sha256 names a release, as release.py on the host has them too."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _advance(context: Context, rollout_id: str, cause: Cause) -> None:
    for _ in range(MOVES):
        rollout, version = _held(context, rollout_id)
        control, now = load(context.store), context.clock()
        try:
            result = _result(context, rollout)
        except CommandRefused as error:
            logger().warning("SSM does not answer", extra={"code": error.code, "rollout": rollout_id})
            return
        move = decide(rollout, _seen(context, control, rollout, now), result, now)
        if move.rollout == rollout and move.send is None:
            return
        try:
            _write(context, rollout, move.rollout, version, cause, now)
            if move.send is not None:
                # Written before it is sent: whoever comes by meanwhile sees that somebody is at it.
                after = _send(context, move.rollout, move.send, now)
                _write(context, move.rollout, after, version + 1, cause, now)
                if after.step is not None:
                    return  # it takes its time
        except StoreConflict:
            return  # somebody else moves it


def _write(context: Context, before: Rollout, after: Rollout, version: int, cause: Cause, now: float) -> None:
    writes: list[Write] = [Put(rollout_key(after.id), data_of(after), version, after.created_at + KEPT_S)]
    writes += _audit(before, after, cause, now)
    ended, moved = after.state is not State.RUNNING, after.host != before.host
    key = installation_key(after.target)
    if ended:
        writes += [Delete(key), Put(PROBE_WANTED, {"at": now, "why": f"release {after.release} was rolled out"})]
    elif moved:
        writes.append(Put(key, data_of(_wish(after))))
    last = after.steps[-1] if after.steps else None
    if last is not None and last.name == STEPS[0] and before.last_of(last.host) != last:
        writes.append(Delete(installed_key(last.host)))  # from now on nobody can say what is there
    if last is not None and last.name == STEPS[-1] and last.state is StepState.SUCCEEDED:
        proof = {"sha256": after.sha256, "settings": _digest(_settings(context, after, last.host)), "at": now}
        writes.append(Put(installed_key(last.host), proof))
    context.store.write(*writes)
    if ended or moved:
        context.wishes_changed(cause)


def _audit(before: Rollout, after: Rollout, cause: Cause, now: float) -> list[Write]:
    """An event when a release serves on a host, and when the rollout went wrong."""
    found: list[Write] = []
    step = after.steps[-1] if after.steps else None
    done = step is not None and step.name == "verify" and step.state is StepState.SUCCEEDED
    if step is not None and done and before.steps[-1:] != (step,):
        found.append(event(now, cause, "release.activate", step.host, f"{after.release} serves, its check passed"))
    if before.state is State.RUNNING and after.state in (State.ROLLED_BACK, State.FAILED):
        verb = "release.rollback" if after.state is State.ROLLED_BACK else "release.fail"
        found.append(event(now, cause, verb, after.release, after.verdict))
    return found


def _send(context: Context, rollout: Rollout, step: Step, now: float) -> Rollout:
    try:
        return sent(rollout, context.commands.send(step.host, _command(context, rollout, step, now)))
    except CommandRefused as error:
        return not_taken(rollout, error.code, error.message, context.clock())
    except Unavailable as error:
        return not_taken(rollout, "Unavailable", error.detail, context.clock())
    except NotFound as error:
        return not_taken(rollout, "NotFound", error.detail, context.clock())


def _command(context: Context, rollout: Rollout, step: Step, now: float) -> RemoteCommand:
    artifacts = _artifacts(context)
    manifest = _manifest(artifacts, rollout)
    runner = next((one for one in manifest["files"] if one["path"] == RUNNER), None)
    if runner is None:
        raise NotFound(f"the release has no {RUNNER}")
    plan = "none"
    if step.name in ("configure", "fetch"):
        key = f"rollouts/{rollout.id}/{step.host}.json"
        addresses = {one["key"]: artifacts.address(one["key"], ADDRESS_S) for one in manifest["files"]}
        content = {"manifest": manifest, "urls": addresses, "settings": _settings(context, rollout, step.host)}
        artifacts.write(key, json.dumps(content).encode())
        plan = artifacts.address(key, ADDRESS_S)
    limit = LIMITS_S[step.name]
    return release_step(
        context.settings.stack_name,
        verb=step.name,
        target=rollout.target,
        sha256=rollout.sha256,
        runner=Runner(artifacts.address(runner["key"], ADDRESS_S), runner["sha256"]),
        # Twice the time it may take to arrive, so that clocks need not agree to the second.
        until=now + limit + 60,
        timeout_s=limit,
        plan=plan,
        output=f"rollouts/{rollout.id}/output/{step.name}",
    )


def _manifest(artifacts: Artifacts, rollout: Rollout) -> dict[str, Any]:
    found = artifacts.read(manifest_key(rollout.target, rollout.release))
    if found is None:
        raise NotFound(f"the release {rollout.release} is no longer in the bucket")
    manifest: dict[str, Any] = json.loads(found)
    return manifest


def _settings(context: Context, rollout: Rollout, host: str) -> dict[str, str]:
    """What host.env shall hold: the operator's lines, and what only the control plane knows."""
    given = (_artifacts(context).read(settings_key(rollout.target)) or b"").decode()
    pairs = (line.partition("=") for line in given.splitlines() if "=" in line and not line.startswith("#"))
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    known = {"LINK_ROLE": rollout.target.value, "LINK_API_URL": rollout.api_url, "LINK_INSTANCE_ID": host}
    if rollout.target is Role.GPU:
        known["WHISPER_REQUIRE_TICKET"] = "true" if context.settings.require_ticket else "false"
    return settings | {name: value for name, value in known.items() if value}


def _digest(settings: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _seen(context: Context, control: Control, rollout: Rollout, now: float) -> HostSeen | None:
    observation = control.observation(now)
    view = next((one for one in _of(observation, rollout.target) if one.instance_id == rollout.host), None)
    if view is None or view.machine.state in _GONE:
        return None
    return HostSeen(
        view.machine.state,
        view.memory.running_at,
        view.memory.drain is not None,
        current=rollout.last_of(view.instance_id) is None and _is_current(context, rollout, view),
        streams=_streams([view] if rollout.target is Role.GPU else observation.gpus, now),
    )


def _is_current(context: Context, rollout: Rollout, view: View) -> bool:
    """Whether the host proved this release with these settings good, and has said nothing else since."""
    proof = context.store.get(installed_key(view.instance_id))
    if proof is None or proof.data.get("sha256") != rollout.sha256:
        return False
    said = view.report.release if view.report is not None else None
    settled = proof.data.get("settings") == _digest(_settings(context, rollout, view.instance_id))
    return settled and said in (None, "unknown", rollout.release)


def _streams(views: list[View] | tuple[View, ...], now: float) -> int | None:
    """Live streams on these machines; None when one that has served does not say."""
    awake = [one for one in views if one.machine.state is MachineState.RUNNING]
    if any(one.evidence(now) is Evidence.UNKNOWN and not one.never_served() for one in awake):
        return None
    return sum(len(one.streams()) for one in awake)


def _result(context: Context, rollout: Rollout) -> CommandResult | None:
    step = rollout.step
    return context.commands.result(step.host, step.command_id) if step is not None and step.command_id else None


def _wish(rollout: Rollout) -> Installation:
    host = rollout.host or rollout.hosts[-1]
    return Installation(rollout.id, rollout.target.value, host, rollout.release, rollout.created_at, rollout.by)


def _of(observation: Observation, target: Role) -> tuple[View, ...]:
    return observation.gpus if target is Role.GPU else observation.edges


def _artifacts(context: Context) -> Artifacts:
    if context.artifacts is None:
        raise Conflict("This stack has no bucket for releases: BUCKET_NAME is not set.")
    return context.artifacts


def _held(context: Context, rollout_id: str) -> tuple[Rollout, int]:
    record = context.store.get(rollout_key(rollout_id))
    if record is None:
        raise NotFound(f"There is no rollout {rollout_id[:64]}.")
    return rollout_from(record.data), record.version


def _described(rollout: Rollout) -> dict[str, Any]:
    """The Rollout of the HTTP API."""
    return {
        "id": rollout.id,
        "target": rollout.target.value,
        "release": rollout.release,
        "state": rollout.state.value,
        "hosts": list(rollout.hosts),
        "by": rollout.by,
        "created_at": to_text(rollout.created_at),
        "ended_at": to_text_or_none(rollout.ended_at),
        "steps": [
            {
                "host": one.host,
                "name": one.name,
                "state": one.state.value,
                "seconds": None if one.ended_at is None else round(one.ended_at - one.began_at, 3),
                "output_tail": one.output_tail,
                "waits_for": one.waits_for or None,
                "command_id": one.command_id or None,
            }
            for one in rollout.steps
        ],
        "verdict": rollout.verdict,
    }
