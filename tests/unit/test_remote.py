"""Remote commands compared to literals, and patterns that admit nothing a shell would act on."""

from __future__ import annotations

import json
import re

import pytest

from chalicelib.domain.remote import RemoteCommand, documents, restart_gpu, set_upstream

DOCUMENTS = documents("stack")
PATTERN = DOCUMENTS["stack-set-upstream"]["parameters"]["upstreams"]["allowedPattern"]


def test_commands() -> None:
    assert set_upstream("stack", ["10.0.0.1", "10.0.0.2"]) == RemoteCommand(
        "stack-set-upstream", {"upstreams": ["10.0.0.1 10.0.0.2"]}, "follow the GPU"
    )
    assert set_upstream("stack", []).parameters == {"upstreams": ["--none"]}
    assert restart_gpu("stack") == RemoteCommand("stack-restart-gpu", {}, "restart the service")


def test_documents() -> None:
    assert DOCUMENTS["stack-set-upstream"]["mainSteps"][0]["inputs"]["runCommand"] == [
        "set -eu",
        "${PREFIX:-}/opt/edge/current/edge_bootstrap/set-upstream.sh {{ upstreams }}",
    ]
    assert DOCUMENTS["stack-restart-gpu"]["mainSteps"][0]["inputs"]["runCommand"] == [
        "set -eu",
        "${PREFIX:-}/opt/whisperlive/current/gpu_bootstrap/restart.sh",
    ]
    for content in DOCUMENTS.values():
        assert content["schemaVersion"] == "2.2"
        assert len(json.dumps(content)) < 64 * 1024
        used = set(re.findall(r"{{ (\w+) }}", json.dumps(content["mainSteps"])))
        assert used == set(content["parameters"])
        assert all("allowedPattern" in one for one in content["parameters"].values())


@pytest.mark.parametrize("value", ["10.0.0.1", "10.0.0.1 10.0.0.2", "--none"])
def test_what_the_pattern_takes(value: str) -> None:
    assert re.search(PATTERN, value)


@pytest.mark.parametrize(
    "value",
    ["", "10.0.0.1;id", "$(id)", "10.0.0.1 && id", "10.0.0.1  10.0.0.2", "--show", "a.b", "`id`", "10.0.0.1\nid"],
)
def test_what_the_pattern_refuses(value: str) -> None:
    assert not re.search(PATTERN, value)
