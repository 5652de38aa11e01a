"""The embedded cloud on hosts with systemd, as a test sees and drives it."""

from __future__ import annotations

import contextlib
import functools
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from gpu_bootstrap.hostlink.edge import EDGE_LOOK_S
from tests.stack import Stack, start_stack
from tests.waiting import wait_until
from whisperctl.local.nspawn import entering

BOOT_S = 60.0
STEP_S = 100.0
"""Less than what a host may be silent before the control plane gives it up."""


@dataclass(frozen=True)
class World:
    """A stack whose hosts are machines with systemd; blank until something is installed on them."""

    stack: Stack

    @property
    def gpu(self) -> str:
        return self.stack.gpu_instance_id

    @property
    def edge(self) -> str:
        return self.stack.edge_instance_id

    @property
    def bridge_address(self) -> str:
        """This machine, as hosts see it."""
        return str(urlsplit(self.stack.aws_endpoint).hostname)

    def client(self, service: str) -> Any:
        session = boto3.Session(region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local")  # noqa: S106
        make: Any = session.client
        return make(service, endpoint_url=self.stack.aws_endpoint)

    # EC2

    def machine(self, instance_id: str) -> dict[str, Any]:
        found = self.client("ec2").describe_instances(InstanceIds=[instance_id])
        return dict(found["Reservations"][0]["Instances"][0])

    def state(self, instance_id: str) -> str:
        return str(self.machine(instance_id)["State"]["Name"])

    def address(self, instance_id: str) -> str:
        return str(self.machine(instance_id)["PrivateIpAddress"])

    def start(self, instance_id: str) -> None:
        """Start a machine and wait until programs can be run on it."""
        self.client("ec2").start_instances(InstanceIds=[instance_id])
        wait_until(lambda: self.booted(instance_id), BOOT_S, f"{instance_id} to boot", every=0.1)

    def stop(self, instance_id: str) -> None:
        """Stop a machine and wait until EC2 says so."""
        with contextlib.suppress(ClientError):
            self.client("ec2").stop_instances(InstanceIds=[instance_id])
        wait_until(lambda: self.state(instance_id) == "stopped", BOOT_S, f"{instance_id} to stop", every=0.2)

    # Time

    def now(self) -> float:
        """By the stand-in's clock, in epoch seconds."""
        return datetime.fromisoformat(self.stack.status()["now"]).timestamp()

    def let_pass(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Move the stand-in's clock on, STEP_S at most at a time, each host that is awake reporting in between.

        A jump over more would look like hosts that were silent. `meanwhile` is called before each step.
        """
        end = self.now() + seconds
        while (left := end - self.now()) > 0:
            meanwhile()
            self.stack.advance(min(left, STEP_S))
            told = functools.partial(self._reported_since, self.now())
            wait_until(told, 60, "the hosts' reports", every=0.2)

    def settle(self) -> None:
        """Until what the hosts have said, the edge's look at the GPU hosts included, is of now or later."""
        told = functools.partial(self._reported_since, self.now() + EDGE_LOOK_S)
        wait_until(told, 60, "the hosts' next reports", every=0.2)

    def _reported_since(self, moment: float) -> bool:
        status = self.stack.status()
        awake = [host for host in (status["gpu"], status["edge"]) if host and host["state"] == "running"]
        told = [host["reported_at"] for host in awake]
        return all(one is not None and datetime.fromisoformat(one).timestamp() >= moment for one in told)

    # Inside a host

    def directory(self, instance_id: str) -> Path:
        return self.stack.state_dir / "hosts" / instance_id

    def leader(self, instance_id: str) -> int | None:
        try:
            return int((self.directory(instance_id) / "leader").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def booted(self, instance_id: str) -> bool:
        """Whether systemd starts services there."""
        return self.leader(instance_id) is not None and self.run(instance_id, "systemctl is-active basic.target") == (
            0,
            "active",
        )

    def run(self, instance_id: str, script: str, timeout: float = 170) -> tuple[int, str]:
        """Run a shell script as root on the host; exit code, and stdout with stderr."""
        leader = self.leader(instance_id)
        assert leader is not None, f"{instance_id} is off"
        done = subprocess.run(
            [*entering(leader), "--", "/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )
        return done.returncode, done.stdout.strip()

    def must(self, instance_id: str, script: str, timeout: float = 170) -> str:
        """As `run`, for what must succeed; its output."""
        code, output = self.run(instance_id, script, timeout)
        assert code == 0, f"{script!r} ended with {code} on {instance_id}:\n{output[-4000:]}"
        return output

    def journal(self, instance_id: str, unit: str) -> str:
        return self.run(instance_id, f"journalctl --no-pager -o cat -u {unit} | tail -60")[1]

    # SSM

    def command(self, instance_id: str, document: str, **parameters: str) -> dict[str, Any]:
        """Run a document of the stack and wait for its end; the invocation."""
        ssm = self.client("ssm")
        wait_until(lambda: self._online(instance_id), BOOT_S, f"the agent of {instance_id}", every=0.2)
        sent = ssm.send_command(
            InstanceIds=[instance_id],
            DocumentName=f"local-{document}",
            Parameters={name: [value] for name, value in parameters.items()},
        )["Command"]["CommandId"]

        def ended() -> dict[str, Any] | None:
            try:
                found = ssm.get_command_invocation(CommandId=sent, InstanceId=instance_id)
            except ClientError:
                return None
            return dict(found) if found["Status"] not in ("Pending", "InProgress", "Delayed") else None

        return wait_until(ended, 120, f"{document} on {instance_id}", every=0.2)

    def _online(self, instance_id: str) -> bool:
        found = self.client("ssm").describe_instance_information()["InstanceInformationList"]
        return any(one["InstanceId"] == instance_id and one["PingStatus"] == "Online" for one in found)


@contextlib.contextmanager
def start_world(state_dir: Path, *options: str, **settings: str) -> Iterator[World]:
    """Run the cloud until the block ends. The first run on a machine makes the root tree, which takes a minute."""
    with start_stack(state_dir, "--hosts", "systemd", *options, env=settings) as stack:
        world = World(stack)
        wait_until(lambda: world.booted(world.edge), BOOT_S, "the edge host to boot", every=0.1)
        yield world
