"""An empty AWS account on this machine, in which `whisperctl up` and `destroy` are rehearsed:

    python -m whisperctl.local.empty --state-dir .empty
    AWS_ENDPOINT_URL=… whisperctl up

What a stack makes comes to life as on AWS: its functions' environment is the real `app.py`'s behind the gateway, its
machines are hosts. `--hosts none`: hosts whose every command succeeds and on which nothing runs; `processes`: hosts
that are process groups on this machine, with the real edge, launcher and links; `systemd` (root only): machines of
their own with systemd, blank at first, so that all of `up` is real, the first spoken word too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.services.releases import settings_key
from whisperctl.local import LocalOptions, account, bridge, preflight
from whisperctl.local.bridge import Bridge
from whisperctl.local.ec2 import Machine
from whisperctl.local.nspawn import KEY
from whisperctl.local.processes import ProcessBook, Spawner
from whisperctl.local.ssm import Outcome
from whisperctl.local.supervisor import STAGE, Cloud

if TYPE_CHECKING:
    from whisperctl.local.roles import Plan

READY = "account.json"


class NoHosts:
    """Hosts on which nothing runs: every command succeeds and says so."""

    def boot(self, machine: Machine) -> None: ...

    def shutdown(self, instance_id: str) -> None: ...

    def kill(self, instance_id: str) -> None: ...

    def close(self) -> None: ...

    def instance_of(self, key: str) -> str | None:
        """A host's key is its id: whoever plays a host here reports as it."""
        return key if key.startswith("i-") else None

    def run_script(
        self, instance_id: str, script: str, env: Mapping[str, str], expired: Callable[[], bool]
    ) -> Outcome:
        del script, env, expired
        return Outcome(0, f"{instance_id}: done\n", "")


def bring_up(
    options: LocalOptions, directory: Path, stack: contextlib.ExitStack, resource_seconds: float
) -> dict[str, Any]:
    """Start the account; `stack` ends it. Returns `{aws_endpoint, edge_url, api_url, ca_cert, pid}`."""
    preflight.prepare_directory(directory)
    spawner = Spawner(ProcessBook(directory / "processes.json"))
    stack.callback(spawner.close)
    network = _network(stack) if options.hosts == "systemd" else None
    if network is None:
        cloud = Cloud(options, stack, resource_seconds=resource_seconds)
    else:
        cloud = Cloud(options, stack, network.address, network.new_address, resource_seconds)
    edge_url = f"https://localhost:{options.port}"
    account.put_environment(os.environ, options, cloud.endpoint.url, edge_url)
    api_url = f"{cloud.start_gateway(preflight.find_repository() / 'app.py', stack)}/{STAGE}"
    os.environ["API_URL"] = api_url
    ca_cert = ""
    if network is not None:
        from whisperctl.local import roottree
        from whisperctl.local.nspawn import SystemdHosts

        tree = roottree.root_tree(roottree.cache_directory(os.environ))
        cloud.wire(SystemdHosts(tree, directory / "hosts", network, spawner, cloud.ec2.stopped_itself), stack)
    elif options.hosts == "processes":
        plan = _plan(options, directory, api_url, cloud.dns.address)
        ca_cert = str(plan.ca_cert)
        cloud.start_hosts(plan, directory / "hosts", spawner, stack)
    else:
        cloud.ssm.delivered_after_s = 0.0  # nobody is there for whom the moment would matter
        cloud.wire(NoHosts(), stack)

    def where(made: Any) -> str:
        """The edge's address: of this machine, or its own where it is one."""
        edge = cloud.ec2.machine(made.made["Edge"].physical) if "Edge" in made.made else None
        return edge_url if network is None or edge is None else f"https://{edge.private_ip}"

    def changed(made: Any, environments: Mapping[str, Mapping[str, str]]) -> None:
        """The functions' environment is the app's; where the hosts are, this machine knows better."""
        os.environ.update({key: str(value) for key, value in next(iter(environments.values()), {}).items()})
        os.environ.update({"EDGE_URL": where(made), "API_URL": api_url})
        if "Edge" in made.made:
            cloud.edge_instance_id = made.made["Edge"].physical
        if network is not None and "Bucket" in made.made:
            _tell_of_keys(cloud.stacks.client("s3"), made.made["Bucket"].physical)
        cloud.triggers.start()

    cloud.stacks.on_change = changed
    cloud.stacks.on_delete = lambda _stack: cloud.triggers.stop()
    cloud.stacks.outputs = lambda made: {"ApiUrl": api_url, "EdgeUrl": where(made)}
    return {
        "aws_endpoint": cloud.endpoint.url,
        "edge_url": edge_url,
        "api_url": api_url,
        "ca_cert": ca_cert,
        "pid": os.getpid(),
    }


def _network(stack: contextlib.ExitStack) -> Bridge:
    """The bridge of systemd hosts, until `stack` ends."""
    from whisperctl.local import roottree
    from whisperctl.local.nspawn import remove_leftovers

    reason = roottree.why_not()
    if reason is not None:
        raise preflight.CannotStart(f"{reason}.")
    bridge.delete_leftovers()
    remove_leftovers()
    made = Bridge()
    stack.callback(made.close)
    return made


def _tell_of_keys(s3: Any, bucket: str) -> None:
    """Hosts here have keys in place of AWS's roles: a line of the operator's settings says where."""
    for target in ("edge", "gpu"):
        key = settings_key(target)
        if not s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"):
            s3.put_object(Bucket=bucket, Key=key, Body=f"LINK_KEY_FILE=/{KEY}\n".encode())


def _plan(options: LocalOptions, directory: Path, api_url: str, resolver: str) -> Plan:
    """What hosts that are process groups run."""
    from whisperctl.local.roles import INHERITED, Plan

    return Plan(
        python=sys.executable,
        caddy=preflight.find_caddy(),
        repository=preflight.find_repository(),
        api_url=api_url,
        stage=STAGE,
        edge_port=options.port,
        edge_bind=preflight.loopback(),
        edge_http_port=preflight.free_port(),
        edge_admin_port=preflight.free_port(),
        resolver=resolver,
        storage=directory / "caddy",
        model_path=preflight.find_model(),
        max_streams=options.max_streams,
        require_ticket=options.require_ticket,
        deadman_minutes=options.deadman_minutes,
        inherited={name: os.environ[name] for name in INHERITED if name in os.environ},
    )


def main(arguments: list[str] | None = None) -> int:
    """The command of the module's docstring: prints one JSON object when the account is there, and serves on."""
    parser = argparse.ArgumentParser(prog="python -m whisperctl.local.empty", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=Path(".empty"))
    parser.add_argument("--hosts", choices=("none", "processes", "systemd"), default="processes")
    parser.add_argument("--port", type=int, default=8443, help="HTTPS port of the edge")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="how long CloudFormation takes for one resource"
    )
    parser.add_argument("--boot-seconds", type=float, default=3.0)
    given = parser.parse_args(arguments)
    options = LocalOptions(
        port=given.port,
        state_dir=given.state_dir,
        boot_seconds=given.boot_seconds,
        stop_seconds=given.boot_seconds,
        agent_seconds=given.boot_seconds,
        hosts=given.hosts,
        stack_name="whisperlive-prod",
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    directory = options.state_dir.resolve()
    with contextlib.ExitStack() as stack:
        try:
            about = bring_up(options, directory, stack, given.seconds)
        except preflight.CannotStart as error:
            sys.stderr.write(f"{error}\n")
            return 1
        text = json.dumps(about)
        (directory / READY).write_text(text)
        stack.callback((directory / READY).unlink, missing_ok=True)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
