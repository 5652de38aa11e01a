"""Probes: looked at from below, layer by layer, until the first that fails; what came of it is kept.

Every minute a function of its own looks at the layers that cost nothing, and lets a canary speak when one is due:
after a wake, a rollout, a restart, before a booking, every quarter of an hour while awake, and again after one that
failed. Whoever asks (`POST /v1/probe`) gets all layers at once. AWS calls of a probe: a Query, DescribeInstances,
DescribeInstanceInformation; with a canary also one command that does nothing on each host. Nothing here waits for a
machine, or wakes one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.domain.machines import REPORT_FRESH_S, Machine, MachineState, Observation, Role, View
from chalicelib.domain.memory import effective_state
from chalicelib.domain.phases import Overview, Phase, overview
from chalicelib.domain.places import places
from chalicelib.domain.probes import (
    REMEDIES,
    EdgeAnswer,
    Heard,
    Layer,
    LayerName,
    Probe,
    Verdict,
    conclude,
    failed,
    judge_certificate,
    judge_upstreams,
    judge_words,
)
from chalicelib.domain.remote import CommandState, echo, restart_gpu
from chalicelib.domain.repair import Repair, RepairKind, canary_due, followed, repair, worth_keeping
from chalicelib.domain.tickets import CANARY, sign
from chalicelib.errors import CommandRefused, Conflict, MachineRefused, NotFound, StoreConflict, Unavailable
from chalicelib.ports import Dialler, Put
from chalicelib.services import bookings, edge
from chalicelib.services.context import Context
from chalicelib.services.control import PROBE, Control, data_of, load
from chalicelib.services.events import Cause, event
from chalicelib.services.host_link import upstreams
from chalicelib.services.measures import of_probe
from chalicelib.services.probe_views import view as shown
from chalicelib.services.ticket_keys import ensure_keys
from chalicelib.telemetry import logger

BUDGET_S = 25.0
"""A probe takes no longer: API Gateway gives up after 29 s."""
CANARY_S = 15.0
LEAST_CANARY_S = 3.0
COMMAND_S = 8.0
"""What a host may take for a command that does nothing."""
AGENT_S = 180.0
"""After its boot, an agent may take so long to register."""
EDGE_SILENT_S = 90.0
"""A report a minute is the edge's slowest pace."""
JOIN_S = 65.0
"""The edge hears whom to forward to with its next report, and shows it with the one after."""
TICKET_S = 120.0


@dataclass(frozen=True)
class Found:
    """A probe with what only its maker needs."""

    probe: Probe
    control: Control
    host: str = ""
    spoke: bool = False
    silent: bool = False
    """All looks well, and no canary spoke: that says nothing about words."""


def ask(context: Context, cause: Cause, timer: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """All layers now, the canary included; the Probe of the HTTP API."""
    dialler = _dialler(context)
    found = _Look(context, dialler, asked=True, timer=timer).run()
    _measure(context, found.probe)
    if not found.silent:
        _keep(context, found, cause)
    return shown(found.probe)


def unreadable(error: Unavailable) -> Unavailable:
    """The same refusal with the layer it is about: without the table nobody can even be let in to ask."""
    if "table" not in error.detail:
        return error
    name = LayerName.TABLE
    return Unavailable(error.detail, **error.data, cause=name.value, remedy=REMEDIES[name])


def look(context: Context, cause: Cause, timer: Callable[[], float] = time.monotonic) -> None:
    """The minute's look: keep what is news, write rehearsals down, repair what can be repaired."""
    found = _Look(context, _dialler(context), asked=False, timer=timer).run()
    health, now = found.control.health, context.clock()
    _measure(context, found.probe)
    if worth_keeping(health, found.probe, spoke=found.spoke, silent=found.silent, now=now):
        _keep(context, found, cause)
    if context.settings.self_repair:
        _mend(context, cause)


def _dialler(context: Context) -> Dialler:
    if context.dialler is None:
        raise Conflict("This control plane dials nobody, so it cannot probe.")
    return context.dialler


class _Waits(Exception):
    """What was looked at is neither well nor broken; the message says why."""


class _Look:
    """One probe. Its layers come in order from `_layers`, each timed; the first that fails ends it."""

    def __init__(self, context: Context, dialler: Dialler, *, asked: bool, timer: Callable[[], float]) -> None:
        self._context = context
        self._dialler = dialler
        self._asked = asked
        self._timer = timer
        self._began = timer()
        self._host = ""
        self._spoke = self._silent = False

    def run(self) -> Found:
        began = self._timer()
        self._control = load(self._context.store)
        self._now = self._context.clock()
        self._rules = self._control.learned(self._context.rules)
        looked = [Layer(LayerName.TABLE, Verdict.OK, "answers", self._ms(began))]
        why = "nobody looked"
        self._observation = self._control.observation(self._now)
        began, layers = self._timer(), self._layers()
        try:
            for layer in layers:
                looked.append(layer if layer.ms else replace(layer, ms=self._ms(began)))
                if layer.verdict is Verdict.FAILED:
                    break
                began = self._timer()
        except _Waits as reason:
            why = str(reason)
        probe = conclude(looked, why)
        return Found(probe, self._control, self._host, self._spoke, self._silent)

    def _ms(self, began: float) -> float:
        return round((self._timer() - began) * 1000, 1)

    def _left(self) -> float:
        return BUDGET_S - (self._timer() - self._began)

    def _layers(self) -> Iterator[Layer]:
        try:
            described = self._context.machines.describe()
        except MachineRefused as error:
            yield failed(LayerName.MACHINE, f"EC2 does not answer ({error.code})", remedy=_EC2_MUTE)
            return
        self._observation = self._seen(described)
        if not self._observation.gpus and any(machine.role is Role.GPU for machine in described):
            raise _Waits("the machines are new, and no pass has taken them in yet")
        glance = overview(self._observation, self._control.wishes, self._rules, self._now)
        gpu = glance.view
        asleep = glance.phase is Phase.ASLEEP
        self._host = gpu.instance_id if gpu is not None else ""
        yield self._machine(glance)
        if not asleep and (gpu is None or gpu.machine.state is not MachineState.RUNNING):
            raise _Waits(f"the GPU is {glance.phase.value}: {glance.reason}")
        # Asked before the agents: an edge that is gone as a whole is the edge's failure, not its agent's.
        began = self._timer()
        answer = self._dialler.ask_edge(self._context.settings.edge_url, self._authority())
        asking_ms = self._ms(began)
        speaks = self._asked or (gpu is not None and bool(self._due(gpu)))
        began = self._timer()
        agent = self._agent(gpu, answer, speaks=speaks and not asleep)
        yield replace(agent, ms=self._ms(began))
        yield Layer(LayerName.REPORT, Verdict.ASLEEP, "asleep") if asleep or gpu is None else self._report(gpu)
        yield replace(self._edge(answer), ms=asking_ms)
        yield self._certificate(answer)
        yield self._upstream(gpu, asleep=asleep)
        if asleep or gpu is None:
            for name in (LayerName.UPGRADE, LayerName.READY, LayerName.CANARY):
                yield Layer(name, Verdict.ASLEEP, "asleep")
            return
        self._may_speak(gpu)
        yield from self._canary()

    def _seen(self, described: list[Machine]) -> Observation:
        """EC2's word of now on what the table remembers."""
        views = []
        for machine in described:
            memory = self._control.memories.get(machine.instance_id)
            if memory is not None:
                state = effective_state(machine.state, memory.intent, self._now)
                report = self._control.reports.get(machine.instance_id)
                views.append(View(replace(machine, state=state), memory, report))
        return Observation.of(views)

    def _authority(self) -> str | None:
        reports = [one.report for one in self._observation.edges if one.report is not None]
        return next((one.ca_pem for one in reports if one.ca_pem), None)

    def _machine(self, glance: Overview) -> Layer:
        name, gpu = LayerName.MACHINE, glance.view
        if gpu is None:
            return failed(name, glance.reason, remedy=f"{(glance.remedy or '').capitalize()}.")
        state, refusal = gpu.machine.state, gpu.memory.refusal
        where = f"{gpu.instance_id} ({gpu.machine.type}, {gpu.machine.zone}) is {state.value}"
        if glance.phase is Phase.ASLEEP:
            return Layer(name, Verdict.ASLEEP, f"{where}; {glance.reason}")
        if state in (MachineState.SHUTTING_DOWN, MachineState.TERMINATED):
            return failed(name, where)
        if state is MachineState.STOPPED and refusal is not None and self._now < refusal.until:
            return failed(name, refusal.message, remedy=_NO_START)
        return Layer(name, Verdict.OK, where)

    def _agent(self, gpu: View | None, answer: EdgeAnswer, *, speaks: bool) -> Layer:
        name, words = LayerName.AGENT, []
        hosts = [gpu] if gpu is not None and gpu.machine.state is MachineState.RUNNING else []
        if not answer.problem:
            hosts += [one for one in self._observation.edges if one.machine.state is MachineState.RUNNING]
        try:
            connected = self._context.commands.connected([one.instance_id for one in hosts])
            for one in hosts:
                since = one.memory.running_at or one.memory.state_since
                if one.instance_id not in connected and self._now - since >= AGENT_S:
                    return failed(name, f"the agent of {one.machine.role.value} {one.instance_id} is not connected")
                words.append(f"{one.machine.role.value} {'connected' if one.instance_id in connected else 'not yet'}")
            if speaks:
                problem = self._try_commands([one for one in hosts if one.instance_id in connected])
                if problem:
                    return failed(name, problem, remedy=_COMMANDS_FAIL)
        except CommandRefused as error:
            return failed(name, f"SSM does not answer: {error}", remedy=_COMMANDS_FAIL)
        if gpu is not None and gpu.machine.state is not MachineState.RUNNING:
            words.append("gpu asleep")
        return Layer(name, Verdict.OK, ", ".join(words) or "no host is running")

    def _try_commands(self, hosts: list[View]) -> str:
        """Run a command that does nothing on each; what went wrong, "" when nothing did."""
        command = echo(self._context.settings.stack_name)
        waiting = {one.instance_id: self._context.commands.send(one.instance_id, command) for one in hosts}
        end = self._timer() + COMMAND_S
        while waiting:
            for instance_id, command_id in list(waiting.items()):
                result = self._context.commands.result(instance_id, command_id)
                state = result.state if result is not None else CommandState.UNDER_WAY
                if state is CommandState.SUCCEEDED:
                    del waiting[instance_id]
                elif state is not CommandState.UNDER_WAY and result is not None:
                    output = f": {' '.join(result.output.split())[-200:]}" if result.output.strip() else ""
                    return f"a command on {instance_id} {_went(state)} (exit code {result.exit_code}){output}"
            if waiting and self._timer() >= end:
                return f"a command on {next(iter(waiting))} did not end within {COMMAND_S:g} s"
            if waiting:
                self._context.wait(0.25)
        return ""

    def _report(self, gpu: View) -> Layer:
        name, now, report = LayerName.REPORT, self._now, gpu.current()
        if report is None:
            mute = gpu.mute_since()
            if mute is None or now - mute < self._rules.mute_s:
                raise _Waits("the machine boots")
            return failed(name, f"it runs for {(now - mute) / 60:.0f} minutes and never reported", remedy=_NEVER)
        age = now - report.received_at
        if age > REPORT_FRESH_S:
            return failed(name, f"no report for {age:.0f} s (expected within {REPORT_FRESH_S:g} s)", remedy=_SILENT)
        if report.status == "failed":
            words = report.cause or "the host says that its service failed"
            return failed(name, words, remedy=_NO_MODEL if "model" in words else None)
        if report.status == "ready" and gpu.memory.drain is None:
            streams = f"{len(report.streams)} of {report.max_streams} streams"
            return Layer(name, Verdict.OK, f"ready, {report.model} on {report.device}, {streams}, {age:.0f} s old")
        since = self._control.health.waiting_since
        if report.status == "loading" and since is not None:
            waited = now - max(since, gpu.memory.running_at or since)
            if waited >= self._rules.mute_s:
                return failed(name, f"{report.cause or 'the model is being loaded'}, for {waited / 60:.0f} minutes")
        raise _Waits("the GPU drains" if gpu.memory.drain else f"the service is {report.status}")

    def _edge(self, answer: EdgeAnswer) -> Layer:
        name = LayerName.EDGE
        if not self._observation.edges:
            return failed(name, "no machine of this stack is tagged with the role edge", remedy=_NO_EDGE)
        if answer.problem:
            states = ", ".join(f"{one.instance_id} is {one.machine.state.value}" for one in self._observation.edges)
            return failed(name, f"{answer.problem}; {states}")
        return Layer(name, Verdict.OK, f"answers within {answer.seconds * 1000:.0f} ms")

    def _certificate(self, answer: EdgeAnswer) -> Layer:
        if answer.certificate_problem:
            return failed(LayerName.CERTIFICATE, answer.certificate_problem)
        good, words = judge_certificate(answer.certificate_days)
        return Layer(LayerName.CERTIFICATE, Verdict.OK, words) if good else failed(LayerName.CERTIFICATE, words)

    def _upstream(self, gpu: View | None, *, asleep: bool) -> Layer:
        name, now = LayerName.UPSTREAM, self._now
        reports = [one.report for one in self._observation.edges if one.report is not None]
        latest = max((one.received_at for one in reports), default=None)
        if latest is None or now - latest > EDGE_SILENT_S:
            since = "never reported" if latest is None else f"has not reported for {now - latest:.0f} s"
            return failed(name, f"the edge {since}, so nobody knows whom it forwards to", remedy=_EDGE_SILENT)
        if asleep or gpu is None:
            return Layer(name, Verdict.ASLEEP, "asleep")
        held = {host for one in reports for host in one.upstreams}
        ready = {str(one["host"]) for one in upstreams(self._observation, now)}
        if held and held <= ready:
            return Layer(name, Verdict.OK, judge_upstreams(sorted(held), sorted(held))[1])
        moments = [one for view in self._observation.gpus for one in _moments(view)]
        if now - max(moments, default=0.0) < JOIN_S:
            raise _Waits("the edge has not heard yet whom to forward to")
        return failed(name, judge_upstreams(sorted(held), sorted(ready))[1])

    def _due(self, gpu: View) -> str:
        rehearsal = bool(bookings.due_for_rehearsal(self._context))
        health, wanted = self._control.health, self._control.canary_wanted
        return canary_due(health, gpu, self._now, rehearsal=rehearsal, wanted=wanted)

    def _may_speak(self, gpu: View) -> None:
        """Raises _Waits when no canary is due, or no place is free for one."""
        if not self._asked and not self._due(gpu):
            self._silent = True
            raise _Waits("no canary is due")
        now, wishes = self._now, self._control.wishes
        live = wishes.live_sessions(now, self._observation.streaming(now))
        taken = len(places(self._observation, live, now))
        ready = [one.fresh(now) for one in self._observation.gpus]
        offered = sum(one.max_streams for one in ready if one is not None and one.status == "ready")
        alone = {one.sid for view in self._observation.gpus for one in view.streams()} - {one.id for one in live}
        if taken + len(alone) >= offered:
            self._silent = True
            raise _Waits("every place is taken; a canary takes none from anybody")

    def _canary(self) -> Iterator[Layer]:
        settings, control = self._context.settings, self._control
        key = control.keys.signing(self._now) or ensure_keys(self._context.store, self._now).signing(self._now)
        assert key is not None
        ticket = sign(key, f"{CANARY}{secrets.token_hex(8)}", self._now + TICKET_S)
        url = f"{settings.ws_url}/canary" if settings.require_ticket else settings.ws_url
        self._spoke = True
        seconds = max(LEAST_CANARY_S, min(CANARY_S, self._left()))
        heard = self._dialler.speak(url, ticket, self._authority(), seconds)
        if heard.close_code in _COME_BACK:
            raise _Waits(f"the host {heard.problem}")
        yield from _spoken(heard, self._dialler.said, settings.canary_seconds)


_COME_BACK = (1012, 1013)
"""A drain, or every place taken meanwhile: nothing is broken."""
_TICKET_REFUSED = 4401
_EC2_MUTE = "See whether the role may describe instances, and whether EC2 has trouble: whisperctl doctor."
_NO_START = (
    "whisperctl status says when EC2 is asked again; name other machine types in GPU_TYPES, or raise the quota."
)
_COMMANDS_FAIL = (
    "Restarts, repairs and releases go over SSM: look at the host's agent and disk (whisperctl shell), and whether "
    "the stack's documents are there: whisperctl doctor."
)
_NEVER = "It is stopped and started once by itself; if that did not help, look at its console output, or replace it."
_SILENT = "Its link is silent: whisperctl logs gpu; if it does not come back, whisperctl restart gpu."
_NO_MODEL = "The model does not load: deploy the release again (whisperctl deploy gpu), or the one before."
_NO_EDGE = "Deploy the stack, or tag the edge's machine."
_EDGE_SILENT = "Its link is silent: whisperctl logs edge; then whisperctl restart edge."
_NEW_KEYS = (
    "The host holds other ticket keys than the control plane: they come with the host link's answers. whisperctl "
    "restart gpu; if it comes back, whisperctl logs gpu."
)


def _spoken(heard: Heard, said: str, longest_s: float) -> Iterator[Layer]:
    upgraded = heard.upgrade_s is not None and heard.close_code != _TICKET_REFUSED
    if heard.upgrade_s is None or not upgraded:
        yield failed(LayerName.UPGRADE, heard.problem, remedy=_NEW_KEYS if heard.close_code else None)
        return
    upgrade_ms = round(heard.upgrade_s * 1000, 1)
    yield Layer(LayerName.UPGRADE, Verdict.OK, "the ticket is taken", upgrade_ms)
    if heard.ready_s is None:
        yield failed(LayerName.READY, heard.problem)
        return
    ready_ms = round((heard.ready_s - heard.upgrade_s) * 1000, 1)
    yield Layer(LayerName.READY, Verdict.OK, f"SERVER_READY after {heard.ready_s:.1f} s", ready_ms)
    if heard.final_s is None:
        yield failed(LayerName.CANARY, heard.problem)
        return
    right, share = judge_words(said, heard.words)
    took = f"first word after {heard.first_word_s or 0:.1f} s, the last {heard.final_s:.1f} s after the end"
    if not right:
        yield failed(LayerName.CANARY, f"{share:.0%} of the words came back: {heard.words[:120]!r}")
    elif heard.final_s > longest_s:
        yield failed(LayerName.CANARY, f"the words came late: {took}")
    else:
        yield Layer(LayerName.CANARY, Verdict.OK, f"{share:.0%} of the words, {took}")


def _moments(view: View) -> list[float]:
    """When something last changed about a machine that changes whom the edge is to forward to."""
    memory = view.memory
    found = (memory.state_since, memory.running_at, memory.ready_at, memory.restarted_at)
    return [one for one in found if one is not None]


def _went(state: CommandState) -> str:
    return "was never taken" if state is CommandState.LOST else state.value


def _measure(context: Context, probe: Probe) -> None:
    if not probe.asleep and not probe.waiting:
        context.metrics.emit(*of_probe(probe.cause))


def _keep(context: Context, found: Found, cause: Cause) -> None:
    """Write the probe down, and the rehearsals that a canary's words were. Who comes second leaves it."""
    now = context.clock()
    health = followed(
        found.control.health, found.probe, host=found.host, trigger=cause.trigger, spoke=found.spoke, now=now
    )
    try:
        context.store.write(Put(PROBE, data_of(health), expect=found.control.version(PROBE)))
    except StoreConflict:
        logger().info("another probe came between", extra={"trigger": cause.trigger})
    if not (found.spoke and found.probe.ok):
        return
    for booking_id in bookings.due_for_rehearsal(context):
        try:
            bookings.rehearsed(context, booking_id, cause)
        except NotFound:
            continue  # taken back meanwhile


def _mend(context: Context, cause: Cause) -> None:
    """Try what is to be tried. It is written down before it is done, so that nothing is ever tried twice."""
    control, now = load(context.store), context.clock()
    control = _with_outcomes(context, control)
    health = control.health
    # Looked at anew: a canary that waits in vain takes longer than a report stays fresh.
    observation = control.observation(now)
    wanted = repair(health, observation.gpus, observation.edges, now)
    if wanted is None:
        return
    tried = replace(health, repairs=(*health.repairs, wanted))
    verb = f"repair.{wanted.kind.value}"
    try:
        context.store.write(
            Put(PROBE, data_of(tried), expect=control.version(PROBE)),
            event(now, cause, verb, wanted.instance_id, wanted.reason),
        )
    except StoreConflict:
        return  # somebody else looks after it
    try:
        done = replace(wanted, command_id=_sent(context, wanted, observation, cause))
    except CommandRefused as error:
        done = replace(wanted, went=f"SSM refused it: {error}")
        context.store.write(event(context.clock(), cause, f"{verb}_refused", wanted.instance_id, str(error)))
    _remember(context, done)


def _sent(context: Context, wanted: Repair, observation: Observation, cause: Cause) -> str:
    if wanted.kind is RepairKind.RESTART:
        return context.commands.send(wanted.instance_id, restart_gpu(context.settings.stack_name))
    return edge.send(context, wanted.instance_id, upstreams(observation, context.clock()), cause)


def _with_outcomes(context: Context, control: Control) -> Control:
    """The control with what became of the repairs' commands, for the sentence a person gets."""
    open_ones = [one for one in control.health.repairs if one.command_id and not one.went]
    for one in open_ones:
        try:
            result = context.commands.result(one.instance_id, one.command_id)
        except CommandRefused:
            return control
        if result is not None and result.state is not CommandState.UNDER_WAY:
            _remember(context, replace(one, went=_went(result.state)))
    return load(context.store) if open_ones else control


def _remember(context: Context, done: Repair) -> None:
    """What became of a repair; a probe that comes between is read again."""
    for _ in range(4):
        control = load(context.store)
        repairs = tuple(done if (one.kind, one.at) == (done.kind, done.at) else one for one in control.health.repairs)
        try:
            context.store.write(
                Put(PROBE, data_of(replace(control.health, repairs=repairs)), expect=control.version(PROBE))
            )
        except StoreConflict:
            continue
        return
