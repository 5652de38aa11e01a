"""`whisperctl clients`: the networks whose people the edge lets in, kept on the edge and changed over SSM."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path

import click

from chalicelib.domain.remote import clients as clients_command
from whisperctl.aws import find_account
from whisperctl.commands.hosts import INSTANCE, STACK, host_of, run_on
from whisperctl.errors import UsageError, codes
from whisperctl.output import clean, dry_run_option, errors_as_json, planned, print_json, stack_options
from whisperctl.stack import find_stack

CODES = codes(0, 1, 2, 3, 5, one="failed on the edge")
EVERYBODY = {"0.0.0.0/0", "::/0"}
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,39}")


@click.group(epilog=f"Example: whisperctl clients add 198.51.100.0/24 --label office\n\n{CODES}")
def clients() -> None:
    """Say which networks may see the page and stream; the API, which asks for a token, stays open."""


class Edge:
    """The edge host, by SSM."""

    def __init__(
        self, url: str | None, token: str | None, state_dir: Path, stack_name: str | None, instance: str | None
    ) -> None:
        stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
        self._account = find_account(stack, os.environ, name=stack_name)
        self.host = instance or host_of(stack, "edge")

    def run(self, verb: str, network: str = "none", label: str = "-") -> str:
        """The script's output; CtlError with its sentence when it fails."""
        command = clients_command(self._account.stack, verb, network, label)
        return run_on(self._account.client("ssm"), self.host, command)

    def networks(self) -> list[dict[str, str]]:
        """`[{network, label}]`, as they are in force."""
        lines = (line.partition(" ") for line in self.run("show").splitlines() if line)
        return [{"network": network, "label": label} for network, _, label in lines]


@clients.command("list", epilog=f"Example: whisperctl clients list --json\n\n{CODES}")
@STACK
@INSTANCE
@stack_options
@errors_as_json
def list_clients(
    stack_name: str | None, instance: str | None, url: str | None, token: str | None, state_dir: Path, as_json: bool
) -> None:
    """List the networks that are let in, with their labels."""
    _show(Edge(url, token, state_dir, stack_name, instance).networks(), as_json)


@clients.command(epilog=f"Example: whisperctl clients add 198.51.100.0/24 --label office\n\n{CODES}")
@click.argument("network", required=False)
@click.option("--label", help="Whose it is: letters, digits, blanks and . _ @ -, at most 40.")
@click.option("--everybody", is_flag=True, help="Let everybody in; the list is forgotten.")
@dry_run_option
@STACK
@INSTANCE
@stack_options
@errors_as_json
def add(
    network: str | None,
    label: str | None,
    everybody: bool,
    dry_run: bool,
    stack_name: str | None,
    instance: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Let NETWORK in (192.0.2.7, 198.51.100.0/24, 2001:db8::/48). The first one shuts everybody else out."""
    if everybody == (network is not None):
        raise UsageError("give either a NETWORK or --everybody")
    if label is not None and not LABEL.fullmatch(label):
        raise UsageError("--label holds letters, digits, blanks and . _ @ -, at most 40 of them")
    wanted = "" if network is None else checked(network)
    edge = Edge(url, token, state_dir, stack_name, instance)
    if dry_run:
        open_now = {one["network"] for one in edge.networks()} == EVERYBODY
        first = "; everybody else would be shut out" if open_now and wanted else ""
        planned(f"let in {wanted or 'everybody'}{first}", as_json, network=wanted or None, instance_id=edge.host)
        return
    if wanted:
        edge.run("add", wanted, label or "-")
    else:
        edge.run("all")
    _show(edge.networks(), as_json)


@clients.command(epilog=f"Example: whisperctl clients remove 198.51.100.0/24\n\n{CODES}")
@click.argument("network")
@dry_run_option
@STACK
@INSTANCE
@stack_options
@errors_as_json
def remove(
    network: str,
    dry_run: bool,
    stack_name: str | None,
    instance: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Let NETWORK in no longer. Streams that are live stay; the last network cannot be removed."""
    wanted = checked(network)
    edge = Edge(url, token, state_dir, stack_name, instance)
    if dry_run:
        there = wanted in {one["network"] for one in edge.networks()}
        words = f"shut out {wanted}" if there else f"change nothing: {wanted} is not in the list"
        planned(words, as_json, network=wanted, instance_id=edge.host)
        return
    edge.run("remove", wanted)
    _show(edge.networks(), as_json)


def checked(word: str) -> str:
    """The network as the edge writes it; UsageError where it is none, or has host bits and may mean two things."""
    try:
        return str(ipaddress.ip_network(word))
    except ValueError:
        try:
            wider = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise UsageError(f"{clean(word)!r} is not a network such as 192.0.2.7 or 198.51.100.0/24") from None
        raise UsageError(f"{word} is one address of the network {wider}: say which of both is meant") from None


def _show(networks: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        print_json({"clients": networks, "everybody": {one["network"] for one in networks} == EVERYBODY})
        return
    if {one["network"] for one in networks} == EVERYBODY:
        click.echo("everybody is let in")
        return
    for one in networks:
        click.echo(clean(f"{one['network']:<24}  {one['label']}".rstrip()))
