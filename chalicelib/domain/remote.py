"""What runs on hosts over SSM, as data: documents of our own, and the parameters for each call.

Values reach the host as document parameters with an allowedPattern and never as pasted shell text. SSM puts a
parameter where `{{ name }}` stands; the patterns admit no character a shell would act on. `PREFIX` is empty on
real hosts; where several hosts share one machine it points at the host's own root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DELIVERY_TIMEOUT_S = 30
"""How long SSM may take to hand a command over: short, so that one left for a stopped machine does not run at
its next boot. 30 is the least SSM takes."""

_ADDRESS = r"\d{1,3}(\.\d{1,3}){3}"
_ADDRESSES = rf"^(--none|{_ADDRESS}( {_ADDRESS}){{0,15}})$"


@dataclass(frozen=True)
class RemoteCommand:
    """One run of a document: values are lists of strings, as SSM wants them."""

    document: str
    parameters: dict[str, list[str]] = field(default_factory=dict)
    comment: str = ""


def documents(stack_name: str) -> dict[str, dict[str, Any]]:
    """The documents' names and their content (SSM schema 2.2)."""
    return {
        f"{stack_name}-set-upstream": _document(
            "Point the edge at these GPU hosts: addresses separated by single blanks, or --none.",
            ["${PREFIX:-}/opt/edge/current/edge_bootstrap/set-upstream.sh {{ upstreams }}"],
            60,
            {
                "upstreams": {
                    "type": "String",
                    "allowedPattern": _ADDRESSES,
                    "description": "e.g. 10.0.1.20 10.0.1.21",
                }
            },
        ),
        f"{stack_name}-restart-gpu": _document(
            "Restart the transcription service of a GPU host.",
            ["${PREFIX:-}/opt/whisperlive/current/gpu_bootstrap/restart.sh"],
            120,
            {},
        ),
    }


def _document(description: str, lines: list[str], timeout_s: int, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "schemaVersion": "2.2",
        "description": description,
        "parameters": parameters,
        "mainSteps": [
            {
                "action": "aws:runShellScript",
                "name": "run",
                "inputs": {"runCommand": ["set -eu", *lines], "timeoutSeconds": str(timeout_s)},
            }
        ],
    }


def set_upstream(stack_name: str, addresses: Sequence[str]) -> RemoteCommand:
    """Point the edge at these IPv4 addresses, in this order; none of them: forward to nobody."""
    value = " ".join(addresses) or "--none"
    return RemoteCommand(f"{stack_name}-set-upstream", {"upstreams": [value]}, "follow the GPU")


def restart_gpu(stack_name: str) -> RemoteCommand:
    """Restart a GPU host's service."""
    return RemoteCommand(f"{stack_name}-restart-gpu", {}, "restart the service")
