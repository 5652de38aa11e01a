"""EC2's truth about machines, over moto: states take time, wrong transitions are refused, hosts follow the state.

moto keeps the instances (tags, describe, filters); this module owns their state. States and refusals as in
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from whisperctl.local.awsapi import AwsError, AwsRequest, AwsResponse, ec2_response
from whisperctl.local.clock import StandInClock, Timeline
from whisperctl.local.faults import Faults
from whisperctl.local.faultset import BadFaults, PowerEnd

ACCOUNT = "123456789012"
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
ZONE_LETTERS = "abc"
INSTANCE_ID = re.compile(rb"<instanceId>(i-[0-9a-f]+)</instanceId>")
ROLE_TAG = "whisperlive-edge:role"
STUCK_LOOK_S = 1.0
"""How often a stuck stop looks whether it may end."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One instance as it is now. `running_since` is epoch seconds of the stand-in clock, None unless running.

    Not `healthy`: EC2 says running, and nothing runs.
    """

    instance_id: str
    role: str
    type: str
    zone: str
    state: str
    private_ip: str
    running_since: float | None
    healthy: bool = True


class HostPower(Protocol):
    """What EC2 switches on and off."""

    def boot(self, machine: Machine) -> None:
        """Start the host's processes; returns at once."""

    def shutdown(self, instance_id: str) -> None:
        """End them; returns when none is alive (and at once when none is)."""

    def kill(self, instance_id: str) -> None:
        """End them without a farewell, as a loss of power does."""


@dataclass(frozen=True, slots=True)
class Dwell:
    """Seconds of the stand-in clock a transition takes."""

    boot_s: float
    stop_s: float


class Ec2:
    """The instances of one account and region. `lock` is the one all calls into moto are made under."""

    def __init__(
        self,
        *,
        clock: StandInClock,
        timeline: Timeline,
        faults: Faults,
        dwell: Dwell,
        region: str,
        lock: threading.RLock,
        new_address: Callable[[], str],
    ) -> None:
        from moto.backends import get_backend

        self._backend: Any = get_backend("ec2")[ACCOUNT][region]
        self._clock = clock
        self._timeline = timeline
        self._faults = faults
        self._dwell = dwell
        self._region = region
        self._lock = lock
        self._new_address = new_address
        self._running_since: dict[str, float] = {}
        self._transition: dict[str, int] = {}
        self._transitions = itertools.count(1)
        self._public = itertools.count(1)
        self._dead: set[str] = set()
        self._forced: set[str] = set()
        self._history: dict[str, list[tuple[float, str]]] = {}
        self.power: HostPower | None = None
        """Set once, by the wiring, before the first machine starts."""
        self.on_state: Callable[[str, str], None] = lambda _instance_id, _state: None
        """Told every change: instance id and new state."""

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(f"{self._region}{letter}" for letter in ZONE_LETTERS)

    def machines(self) -> list[Machine]:
        """Every instance that is not terminated."""
        with self._lock:
            return [self._machine(i) for i in self._instances() if i.state != "terminated"]

    def machine(self, instance_id: str) -> Machine | None:
        """One instance, None if there never was such a one."""
        with self._lock:
            return next((self._machine(i) for i in self._instances() if i.id == instance_id), None)

    def create(self, *, role: str, instance_type: str, zone: str, tags: dict[str, str], running: bool) -> str:
        """Put a machine there, as the template would have: running at once, or stopped. Returns its id."""
        with self._lock:
            reservation = self._backend.run_instances(
                "ami-00000000",
                1,
                user_data=b"",
                security_group_names=[],
                instance_type=instance_type,
                is_instance_type_default=False,
                placement=zone,
                tags={"instance": {**tags, ROLE_TAG: role}},
            )
            instance = reservation.instances[0]
            self._adopt(instance)
            if running:
                self._begin_start(instance, dwell_s=0)
            else:
                self._set(instance, "stopped", tell=False)
            return str(instance.id)

    def handle(self, request: AwsRequest) -> AwsResponse | None:
        """Answer what moto would answer wrongly; None leaves the call to moto."""
        match request.operation:
            case "StartInstances":
                return self._start(request)
            case "StopInstances":
                return self._stop(request)
            case "TerminateInstances":
                return self._terminate(request)
            case "RebootInstances":
                return self._reboot(request)
            case "RunInstances":
                zone = str(request.parameters.get("Placement", {}).get("AvailabilityZone", self.zones[0]))
                self._faults.refuse_start(str(request.parameters.get("InstanceType", "m1.small")), zone, self.zones)
                return None
            case "DescribeInstanceStatus":
                return self._statuses(request)
            case "ModifyInstanceAttribute":
                self._may_modify(request)
                return None
            case _:
                return None

    def after_moto(self, request: AwsRequest, response: AwsResponse) -> None:
        """Take over what moto has just made."""
        if request.operation == "RunInstances" and response.status == 200:
            with self._lock:
                for instance in self._named([found.decode() for found in INSTANCE_ID.findall(response.body)]):
                    self._adopt(instance)
                    self._begin_start(instance)

    @contextlib.contextmanager
    def as_seen(self, request: AwsRequest) -> Iterator[None]:
        """Let moto show the states of a while ago, where the fault asks for it: reads are eventually consistent."""
        late_s = self._faults.now.stale.seconds
        if request.service != "ec2" or request.operation != "DescribeInstances" or not late_s:
            yield
            return
        from moto.ec2.models.instances import InstanceState

        with self._lock:
            moment = self._clock.now() - late_s
            true = {instance.id: (instance, instance._state) for instance in self._instances()}
            for instance_id, (instance, _state) in true.items():
                past = self._history.get(instance_id, [])
                seen = next((state for at, state in reversed(past) if at <= moment), past[0][1] if past else None)
                if seen is not None:
                    instance._state = InstanceState(seen, CODES[seen])
            try:
                yield
            finally:
                for instance, state in true.values():
                    instance._state = state

    def end_power(self, ends: Sequence[PowerEnd]) -> None:
        """Take the power of running machines away, now; raises BadFaults, and does nothing, if one does not run."""
        with self._lock:
            for end in ends:
                machine = self.machine(end.instance)
                if machine is None or machine.state != "running":
                    state = "unknown" if machine is None else machine.state
                    raise BadFaults(f"power needs a running machine, and {end.instance} is {state}.")
        for end in ends:
            if end.how == "off":
                self.stopped_itself(end.instance)
                continue
            with self._lock:
                self._dead.add(end.instance)
            self._host_power().kill(end.instance)
            if end.how == "failed":
                with self._lock:
                    (instance,) = self._named([end.instance])
                    if instance.state == "running":
                        self._begin_stop(instance, "Server.InternalError", "An internal error occurred")

    def stopped_itself(self, instance_id: str) -> None:
        """The host powered itself off (InstanceInitiatedShutdownBehavior=stop)."""
        with self._lock:
            (instance,) = self._named([instance_id])
            if instance.state == "running":
                self._begin_stop(instance, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")

    def _start(self, request: AwsRequest) -> AwsResponse:
        with self._lock:
            instances = self._named(_ids(request))
            for instance in instances:
                if instance.state in ("stopping", "shutting-down", "terminated"):
                    raise _wrong_state(instance.id, "started")
                if instance.state == "stopped":
                    self._faults.refuse_start(instance.instance_type, instance.placement.zone, self.zones)
            before = [instance.state for instance in instances]
            for instance in instances:
                if instance.state == "stopped":
                    self._begin_start(instance)
            return _changes("StartInstances", instances, before)

    def _stop(self, request: AwsRequest) -> AwsResponse:
        with self._lock:
            instances = self._named(_ids(request))
            for instance in instances:
                if instance.state in ("pending", "shutting-down", "terminated"):
                    raise _wrong_state(instance.id, "stopped")
            before = [instance.state for instance in instances]
            for instance in instances:
                if request.parameters.get("Force") == "true":
                    self._forced.add(instance.id)
                if instance.state == "running":
                    self._begin_stop(instance, "Client.UserInitiatedShutdown", "User initiated")
            return _changes("StopInstances", instances, before)

    def _terminate(self, request: AwsRequest) -> AwsResponse:
        with self._lock:
            instances = self._named(_ids(request))
            before = [instance.state for instance in instances]
            for instance in instances:
                if instance.state not in ("shutting-down", "terminated"):
                    self._leave(instance, "shutting-down", "terminated")
            return _changes("TerminateInstances", instances, before)

    def _reboot(self, request: AwsRequest) -> AwsResponse:
        with self._lock:
            instances = self._named(_ids(request))
            for instance in instances:
                if instance.state != "running":
                    raise _wrong_state(instance.id, "rebooted")
            for instance in instances:
                self._timeline.after(0, f"reboot of {instance.id}", _bound(self._reboot_host, instance.id))
        return ec2_response("RebootInstances", "<return>true</return>")

    def _reboot_host(self, instance_id: str) -> None:
        self._host_power().shutdown(instance_id)
        with self._lock:
            (instance,) = self._named([instance_id])
            if instance.state == "running":
                self._dead.discard(instance_id)
                self._running_since[instance_id] = self._clock.now()
                self._host_power().boot(self._machine(instance))

    def _statuses(self, request: AwsRequest) -> AwsResponse:
        """The status checks of the running machines that are asked for; all of them where none is named."""
        wanted = _ids(request)
        with self._lock:
            named = {instance.id for instance in self._named(wanted)} if wanted else None
            shown = [
                one
                for one in self.machines()
                if one.state == "running" and (named is None or one.instance_id in named)
            ]
        return ec2_response("DescribeInstanceStatus", f"<instanceStatusSet>{_checks(shown)}</instanceStatusSet>")

    def _may_modify(self, request: AwsRequest) -> None:
        changes_type = "InstanceType" in request.parameters or request.parameters.get("Attribute") == "instanceType"
        with self._lock:
            (instance,) = self._named([str(request.parameters.get("InstanceId", ""))])
            if changes_type and instance.state != "stopped":
                raise AwsError(
                    "IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state."
                )

    def _begin_start(self, instance: Any, dwell_s: float | None = None) -> None:
        instance.launch_time = datetime.fromtimestamp(self._clock.now(), UTC).replace(tzinfo=None)
        instance.nics[0].public_ip = f"203.0.113.{next(self._public) % 254 + 1}"
        instance._reason = ""
        self._dead.discard(instance.id)
        self._forced.discard(instance.id)
        dwell_s = self._dwell.boot_s if dwell_s is None else dwell_s
        self._later(instance, "pending", dwell_s, self._finish_start)

    def _finish_start(self, instance_id: str, transition: int) -> None:
        with self._lock:
            (instance,) = self._named([instance_id])
            if self._transition[instance_id] != transition:
                return
            self._running_since[instance_id] = self._clock.now()
            if self._faults.impairs(instance_id):
                self._dead.add(instance_id)
            else:
                # The host first: whoever sees `running` finds its processes alive.
                self._host_power().boot(self._machine(instance, state="running"))
            self._set(instance, "running")

    def _begin_stop(self, instance: Any, code: str, why: str) -> None:
        from moto.ec2.models.instances import StateReason

        instance._reason = f"{why} ({self._clock.utc():%Y-%m-%d %H:%M:%S} GMT)"
        instance.state_reason = StateReason(f"{code}: {why} shutdown", code)
        self._leave(instance, "stopping", "stopped")

    def _leave(self, instance: Any, passing: str, final: str) -> None:
        self._running_since.pop(instance.id, None)

        def finish(instance_id: str, transition: int) -> None:
            if final == "stopped" and self._faults.holds(instance_id) and instance_id not in self._forced:
                again = _bound(finish, instance_id, transition)
                self._timeline.after(STUCK_LOOK_S, f"stuck stop of {instance_id}", again)
                return
            # Not before the last process is gone, however short the dwell: stopped means nothing runs.
            self._host_power().shutdown(instance_id)
            with self._lock:
                (gone,) = self._named([instance_id])
                if self._transition[instance_id] == transition:
                    gone.nics[0].public_ip = None
                    if final == "terminated":
                        self._delete_disks(gone)
                    self._set(gone, final)

        self._timeline.after(0, f"shutdown of {instance.id}", _bound(self._host_power().shutdown, instance.id))
        self._later(instance, passing, self._dwell.stop_s, finish)

    def _delete_disks(self, instance: Any) -> None:
        """A terminated machine takes the disks with it that are to be deleted on termination."""
        for device in list(instance.block_device_mapping):
            disk = instance.block_device_mapping[device]
            if disk.delete_on_termination and disk.volume_id in self._backend.volumes:
                self._backend.detach_volume(disk.volume_id, instance.id, device)
                self._backend.delete_volume(disk.volume_id)

    def _later(self, instance: Any, passing: str, seconds: float, finish: Callable[[str, int], None]) -> None:
        transition = self._transition[instance.id] = next(self._transitions)
        self._set(instance, passing)
        self._timeline.after(seconds, f"end of {passing} of {instance.id}", _bound(finish, instance.id, transition))

    def _set(self, instance: Any, state: str, tell: bool = True) -> None:
        from moto.ec2.models.instances import InstanceState

        instance._state = InstanceState(state, CODES[state])
        self._history.setdefault(instance.id, []).append((self._clock.now(), state))
        if tell:
            self.on_state(instance.id, state)

    def _adopt(self, instance: Any) -> None:
        address = self._new_address()
        nic = instance.nics[0]
        nic.private_ip_address = address
        nic.public_ip = None
        for entry in nic.private_ip_addresses:
            if entry.get("Primary"):
                entry["PrivateIpAddress"] = address

    def _host_power(self) -> HostPower:
        if self.power is None:
            raise RuntimeError("no hosts are wired to EC2")
        return self.power

    def _instances(self) -> Iterable[Any]:
        for reservation in self._backend.reservations.values():
            yield from reservation.instances

    def _named(self, instance_ids: list[str]) -> list[Any]:
        known = {instance.id: instance for instance in self._instances()}
        missing = [instance_id for instance_id in instance_ids if instance_id not in known]
        if missing or not instance_ids:
            listed = ", ".join(missing)
            message = (
                f"The instance ID '{listed}' does not exist"
                if len(missing) < 2
                else (f"The instance IDs '{listed}' do not exist")
            )
            raise AwsError("InvalidInstanceID.NotFound", message)
        return [known[instance_id] for instance_id in instance_ids]

    def _machine(self, instance: Any, state: str | None = None) -> Machine:
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        return Machine(
            instance_id=instance.id,
            role=tags.get(ROLE_TAG, ""),
            type=instance.instance_type,
            zone=instance.placement.zone,
            state=state or instance.state,
            private_ip=instance.private_ip,
            running_since=self._running_since.get(instance.id),
            healthy=instance.id not in self._dead,
        )


def _checks(machines: Iterable[Machine]) -> str:
    items = ""
    for machine in machines:
        word, passed = ("ok", "passed") if machine.healthy else ("impaired", "failed")
        details = f"<details><item><name>reachability</name><status>{passed}</status></item></details>"
        items += (
            f"<item><instanceId>{machine.instance_id}</instanceId><availabilityZone>{machine.zone}</availabilityZone>"
            f"<instanceState><code>{CODES[machine.state]}</code><name>{machine.state}</name></instanceState>"
            f"<systemStatus><status>ok</status></systemStatus><instanceStatus><status>{word}</status>{details}</instanceStatus></item>"
        )
    return items


def _bound(action: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: action(*arguments)


def _ids(request: AwsRequest) -> list[str]:
    return [str(instance_id) for instance_id in request.parameters.get("InstanceId", [])]


def _wrong_state(instance_id: str, wanted: str) -> AwsError:
    return AwsError(
        "IncorrectInstanceState", f"The instance '{instance_id}' is not in a state from which it can be {wanted}."
    )


def _changes(operation: str, instances: list[Any], before: list[str]) -> AwsResponse:
    items = "".join(
        f"<item><instanceId>{instance.id}</instanceId>"
        f"<currentState><code>{CODES[instance.state]}</code><name>{instance.state}</name></currentState>"
        f"<previousState><code>{CODES[previous]}</code><name>{previous}</name></previousState></item>"
        for instance, previous in zip(instances, before, strict=True)
    )
    return ec2_response(operation, f"<instancesSet>{items}</instancesSet>")
