"""Remote commands compared to literals, and patterns that admit nothing a shell would act on."""

from __future__ import annotations

import json
import re

import pytest

from chalicelib.domain.remote import (
    RemoteCommand,
    Runner,
    clients,
    examine,
    logs,
    release_step,
    restart_edge,
    restart_gpu,
    set_upstream,
)
from whisperctl.documents import documents

DOCUMENTS = documents("stack")
PATTERN = DOCUMENTS["stack-set-upstream"]["parameters"]["upstreams"]["allowedPattern"]


def test_commands() -> None:
    assert set_upstream("stack", ["10.0.0.1", "10.0.0.2"]) == RemoteCommand(
        "stack-set-upstream", {"upstreams": ["10.0.0.1 10.0.0.2"]}, "follow the GPU"
    )
    assert set_upstream("stack", []).parameters == {"upstreams": ["--none"]}
    assert restart_gpu("stack") == RemoteCommand("stack-restart-gpu", {}, "restart the service")
    assert restart_edge("stack") == RemoteCommand("stack-restart-edge", {}, "restart Caddy")
    assert logs("stack", "link", 20) == RemoteCommand(
        "stack-logs", {"unit": ["link"], "lines": ["20"], "cursor": ["-"]}, "the log of link"
    )


def test_a_host_is_examined() -> None:
    assert examine("stack", "edge", ["10.0.0.1", "10.0.0.2"]) == RemoteCommand(
        "stack-examine", {"role": ["edge"], "reach": ["10.0.0.1 10.0.0.2"]}, "look at the host"
    )
    assert examine("stack", "gpu").parameters == {"role": ["gpu"], "reach": ["none"]}
    pattern = DOCUMENTS["stack-examine"]["parameters"]["reach"]["allowedPattern"]
    assert re.search(pattern, "10.0.0.1 10.0.0.2")
    assert not re.search(pattern, "10.0.0.1; id")


def test_the_clients_list() -> None:
    assert clients("stack", "add", "198.51.100.0/24", "main office") == RemoteCommand(
        "stack-clients", {"verb": ["add"], "network": ["198.51.100.0/24"], "label": ["main office"]}, "add clients"
    )
    assert clients("stack", "show").parameters == {"verb": ["show"], "network": ["none"], "label": ["-"]}
    parameters = DOCUMENTS["stack-clients"]["parameters"]
    for name, good, bad in (
        ("verb", ["show", "add", "remove", "all"], ["shows", "add\nid", ""]),
        ("network", ["none", "2001:db8::/48", "192.0.2.7"], ["'; id; '", "office", "192.0.2.7\n", "--all", "a b"]),
        ("label", ["-", "main office", "a@b.c"], ["'", "a'b", "$(id)", "a\nb", " a", "-x", "`id`"]),
    ):
        pattern = parameters[name]["allowedPattern"]
        assert all(re.search(pattern, one) for one in good), name
        # Go's $ is the end of the text; Python's would let a last line break pass.
        assert not [one for one in bad if re.search(pattern.replace("$", r"\Z"), one)], name


STEP = release_step(
    "stack",
    verb="fetch",
    target="gpu",
    sha256="ab" * 32,
    runner=Runner("https://b.s3.amazonaws.com/files/cd?X-Amz-Signature=0f&X-Amz-Credential=A%2F1", "cd" * 32),
    until=1_800_000_000.4,
    timeout_s=1800,
    plan="https://b.s3.amazonaws.com/rollouts/r/i-1.json?X-Amz-SignedHeaders=host",
    output="output/r/fetch",
)


def test_a_step_of_a_release() -> None:
    assert (
        RemoteCommand(
            "stack-release",
            {
                "verb": ["fetch"],
                "target": ["gpu"],
                "release": ["ab" * 32],
                "runner": ["https://b.s3.amazonaws.com/files/cd?X-Amz-Signature=0f&X-Amz-Credential=A%2F1"],
                "runnerSha256": ["cd" * 32],
                "plan": ["https://b.s3.amazonaws.com/rollouts/r/i-1.json?X-Amz-SignedHeaders=host"],
                "until": ["1800000000"],
                "timeout": ["1800"],
            },
            "fetch abababababababab",
            "output/r/fetch",
        )
        == STEP
    )


RELEASE = DOCUMENTS["stack-release"]


def test_the_release_document_takes_the_step_and_runs_what_has_the_hash() -> None:
    for name, values in STEP.parameters.items():
        assert re.search(RELEASE["parameters"][name]["allowedPattern"], values[0]), name
    lines = RELEASE["mainSteps"][0]["inputs"]["runCommand"]
    assert lines[-1] == (
        'exec python3 "$program" {{ verb }} --target {{ target }} --release {{ release }} '
        "--plan '{{ plan }}' --until {{ until }}"
    )
    assert RELEASE["mainSteps"][0]["inputs"]["timeoutSeconds"] == "{{ timeout }}"
    assert any("sha256sum --check" in line for line in lines)


@pytest.mark.parametrize("name", ["plan", "runner"])
@pytest.mark.parametrize(
    "value", ["https://x/'; id; '", "https://x y", "https://x\nid", "file:///etc", "https://$(id)"]
)
def test_no_address_leaves_its_quotes(name: str, value: str) -> None:
    assert not re.search(RELEASE["parameters"][name]["allowedPattern"], value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("verb", "stage; id"), ("target", "gpu edge"), ("release", "ab"), ("until", "1e9"), ("timeout", "60 --x")],
)
def test_what_a_step_may_not_be(name: str, value: str) -> None:
    assert not re.search(RELEASE["parameters"][name]["allowedPattern"], value)


def test_documents() -> None:
    assert DOCUMENTS["stack-set-upstream"]["mainSteps"][0]["inputs"]["runCommand"] == [
        "set -eu",
        '"${PREFIX:-}/opt/edge/current/edge_bootstrap/set-upstream.sh" {{ upstreams }}',
    ]
    assert DOCUMENTS["stack-restart-gpu"]["mainSteps"][0]["inputs"]["runCommand"] == [
        "set -eu",
        '"${PREFIX:-}/opt/whisperlive/current/gpu_bootstrap/restart.sh"',
    ]
    for content in DOCUMENTS.values():
        assert content["schemaVersion"] == "2.2"
        assert len(json.dumps(content)) < 64 * 1024
        # The lines too: a placeholder in a setting of the step is one as well.
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
