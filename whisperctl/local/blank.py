"""The embedded cloud with blank hosts: machines with systemd, on which nothing of ours is installed yet.

The control plane is whole and serves; what runs on the hosts comes by SSM, as on AWS. The edge answers on its own
address once it is installed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whisperctl.local import LocalOptions, account, bridge, preflight, roottree
from whisperctl.local.nspawn import SystemdHosts, remove_leftovers
from whisperctl.local.processes import ProcessBook, Spawner

if TYPE_CHECKING:
    from whisperctl.local.supervisor import Progress

EDGE_STORAGE = "var/lib/caddy"


def bring_up_blank(
    options: LocalOptions, directory: Path, stack: contextlib.ExitStack, progress: Progress
) -> dict[str, Any]:
    """Start everything; `stack` ends it in reverse order. Returns what stack.json shall hold."""
    from whisperctl.local.supervisor import STAGE, Cloud, wait_for_asleep

    reason = roottree.why_not()
    if reason is not None:
        raise preflight.CannotStart(f"{reason}.")
    for name in bridge.delete_leftovers():
        progress.say(f"deleted the bridge {name} of an earlier run")
    remove_leftovers()
    progress.say("waiting for the hosts' root tree (a minute, the first time)")
    tree = roottree.root_tree(roottree.cache_directory(os.environ))
    network = bridge.Bridge()
    stack.callback(network.close)
    spawner = Spawner(ProcessBook(directory / "processes.json"))
    stack.callback(spawner.close)

    progress.say("waiting for the AWS stand-in, app.py and its gateway")
    cloud = Cloud(options, stack, network.address, network.new_address)
    account.put_environment(os.environ, options, cloud.endpoint.url, "https://edge.invalid")
    store = account.create_table_and_documents(options)
    api_url = f"{cloud.start_gateway(preflight.find_repository() / 'app.py', stack)}/{STAGE}"
    # What hosts are told; without it they would be told what API Gateway says of itself, which speaks TLS.
    os.environ["API_URL"] = api_url
    hosts = SystemdHosts(tree, directory / "hosts", network, spawner, cloud.ec2.stopped_itself)
    cloud.wire(hosts, stack)
    tokens = account.create_tokens(store, cloud.clock.now())
    gpus, edge = account.create_machines(cloud.ec2, options)
    cloud.edge_instance_id = edge
    machine = cloud.ec2.machine(edge)
    assert machine is not None
    # The edge has its address only now; settings are read at the first request, which comes later.
    edge_url = os.environ["EDGE_URL"] = f"https://{machine.private_ip}"
    cloud.triggers.start()
    progress.say("waiting for the first pass of the control plane")
    wait_for_asleep(api_url, tokens["viewer"])
    cloud.calls.clear()
    return {
        "edge_url": edge_url,
        "api_url": api_url,
        "aws_endpoint": cloud.endpoint.url,
        "stack_name": options.stack_name,
        "bucket": account.bucket_name(options),
        "ca_cert": str(directory / "hosts" / edge / "disk" / EDGE_STORAGE / "pki/authorities/local/root.crt"),
        "tokens": tokens,
        "gpu_instance_id": gpus[0],
        "gpu_instance_ids": list(gpus),
        "edge_instance_id": edge,
        "pid": os.getpid(),
    }
