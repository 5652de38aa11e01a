"""A small embedded cloud for unit tests: the stand-in on a port, hosts that run nothing but scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from whisperctl.local.calls import CallRecord
from whisperctl.local.clock import StandInClock, Timeline
from whisperctl.local.ec2 import Dwell, Ec2, Machine
from whisperctl.local.faults import Faults
from whisperctl.local.ssm import Outcome, Ssm
from whisperctl.local.standin import StandIn

REGION = "us-east-1"
# One for all tests: a session caches the services' models, which take long to read.
SESSION = boto3.Session(region_name=REGION, aws_access_key_id="local", aws_secret_access_key="local")  # noqa: S106  the stand-in's


class FrozenTime:
    """Real time that stands still: only an advance of the stand-in clock moves it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakePower:
    """Hosts that are a set of instance ids; a shutdown waits for `may_end`."""

    def __init__(self, prefix: Path) -> None:
        self.alive: set[str] = set()
        self.boots: list[Machine] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.prefix = prefix

    def boot(self, machine: Machine) -> None:
        self.alive.add(machine.instance_id)
        self.boots.append(machine)

    def shutdown(self, instance_id: str) -> None:
        if instance_id in self.alive:
            self.may_end.wait()
            self.alive.discard(instance_id)

    def kill(self, instance_id: str) -> None:
        self.alive.discard(instance_id)

    def run_script(
        self,
        instance_id: str,
        script: str,
        env: Mapping[str, str],
        expired: Callable[[], bool],
    ) -> Outcome:
        process = subprocess.Popen(
            ["sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "PREFIX": str(self.prefix), **env},
        )
        while True:
            try:
                out, err = process.communicate(timeout=0.05)
                return Outcome(process.returncode, out, err)
            except subprocess.TimeoutExpired:
                if expired() or instance_id not in self.alive:
                    os.killpg(process.pid, signal.SIGKILL)
                    out, err = process.communicate()
                    return Outcome(None, out, err, timed_out=expired())


class Cloud:
    """The stand-in on a free port. Its clock moves by `advance` only."""

    def __init__(self, prefix: Path, *, boot_s: float = 3.0, stop_s: float = 2.0, agent_s: float = 5.0) -> None:
        from moto.backends import get_backend

        for service in ("ec2", "ssm"):
            get_backend(service)["123456789012"][REGION].reset()
        lock = threading.RLock()
        self.clock = StandInClock(FrozenTime())
        self.timeline = Timeline(self.clock)
        self.faults = Faults()
        self.calls = CallRecord()
        addresses = iter(f"127.9.9.{last}" for last in range(1, 250))
        self.ec2 = Ec2(
            clock=self.clock,
            timeline=self.timeline,
            faults=self.faults,
            dwell=Dwell(boot_s, stop_s),
            region=REGION,
            lock=lock,
            new_address=lambda: next(addresses),
        )
        self.power = FakePower(prefix)
        self.ec2.power = self.power
        self.states: list[tuple[str, str]] = []
        self.ec2.on_state = lambda instance_id, state: self.states.append((instance_id, state))
        self.ssm = Ssm(clock=self.clock, faults=self.faults, ec2=self.ec2, agent_s=agent_s, region=REGION, lock=lock)
        self.ssm.host = self.power
        standin = StandIn(
            clock=self.clock, faults=self.faults, calls=self.calls, ec2=self.ec2, ssm=self.ssm, lock=lock
        )
        self.server = standin.server()

    def close(self) -> None:
        self.power.may_end.set()
        self.timeline.close()
        self.ssm.close()
        self.server.close()

    def client(self, service: str) -> Any:
        make: Any = SESSION.client  # its overloads want literal names
        return make(
            service,
            endpoint_url=self.server.url,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def gpu(self, *, running: bool = False, zone: str = "us-east-1a") -> str:
        return self.ec2.create(
            role="gpu",
            instance_type="g4dn.xlarge",
            zone=zone,
            tags={"whisperlive-edge:stack": "test"},
            running=running,
        )

    def state(self, instance_id: str) -> str:
        found = self.client("ec2").describe_instances(InstanceIds=[instance_id])
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

    def post(self, what: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.server.url}/_standin/{what}", json=body)

    def advance(self, seconds: float) -> None:
        self.post("clock", {"advance_s": seconds}).raise_for_status()
