"""From blank hosts to words: the operator's command and the hosts' own scripts, with what came over the bridge."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from chalicelib.domain.rollout import STEPS
from tests.hosts.conftest import Installed
from tests.hosts.deploying import deploy
from tests.hosts.streams import awake, kept_connection, open_stream, stream
from tests.hosts.world import World
from tests.stack import ROOT
from tests.waiting import wait_until
from tests.wss import SHORT, word_error_rate
from tests.wss import said as said_in
from whisperctl.documents import documents

pytestmark = pytest.mark.timeout(600)
CADDY = "/opt/edge/current/caddy/caddy"
GPU_SERVICES = ("whisperlive", "whisperlive-link", "whisperlive-readahead", "whisperlive-deadman")
EDGE_SERVICES = ("caddy", "edge-link")
EXPOSURE = re.compile(r"^\| `([a-z-]+)\.service` \| ([0-9.]+) \|", re.M)


def state_of(installed: Installed, host: str) -> str:
    """Files with their times and sizes, and each unit's run, as text to compare."""
    volatile = r"! -name .set-upstream.lock ! -path /etc/hosts"
    files = installed.world.must(host, f"find /opt /etc -xdev {volatile} -printf '%p %T@ %s %m %u\\n' | sort")
    show = "systemctl show -p Id -p InvocationID -p MainPID -p NRestarts"
    units = installed.world.must(host, f"{show} caddy edge-link whisperlive whisperlive-link 2>&1")
    return f"{files}\n{units}"


def commands(world: World) -> list[str]:
    """The SSM commands that were sent, less the probe's question whether an agent is there: it changes nothing."""
    sent = [str(call["parameters"].get("Comment")) for call in world.stack.calls("SendCommand")]
    return [comment for comment in sent if comment != "are you there?"]


def test_words_come_from_a_client_by_the_edge_from_the_gpu_host(installed: Installed) -> None:
    world = installed.world
    report = stream(world)
    assert report["wer"] <= 0.1, report["transcript"]
    assert report["lost_seconds"] == 0


def test_the_same_release_again_changes_nothing_and_cuts_nobody(installed: Installed) -> None:
    """Not asked for at all where it is known to serve; and where every step is forced to run, nothing is touched."""
    world = installed.world
    sends = commands(world)
    for target, name in (("gpu", installed.gpu_name), ("edge", installed.edge_name)):
        rollout = deploy(world, target, "--release", name)["rollout"]
        assert [step["name"] for step in rollout["steps"]] == ["already current"]
    assert commands(world) == sends

    with open_stream(world) as live, kept_connection(world) as ask:
        assert ask() == 200
        before = {host: state_of(installed, host) for host in (installed.gpu, installed.edge)}
        for target, name in (("gpu", installed.gpu_name), ("edge", installed.edge_name)):
            rollout = deploy(world, target, "--release", name, "--force")["rollout"]
            assert rollout["state"] == "succeeded", rollout
            assert [step["name"] for step in rollout["steps"]] == [*STEPS]
            said = {step["name"]: step["output_tail"] for step in rollout["steps"]}
            assert f"unchanged: {name} serves" in said["activate"]
        for host, told in before.items():
            assert sorted(set(state_of(installed, host).splitlines()) ^ set(told.splitlines())) == []
        assert ask() == 200, "Caddy kept the connection"
        live.finish()
    assert live.heard.close_code == 1000
    assert "END" in live.heard.statuses()
    assert word_error_rate(said_in(SHORT), live.heard.text()) <= 0.15


def test_a_machine_that_was_stopped_is_ready_again_without_ssm(installed: Installed) -> None:
    world = installed.world
    world.stack.asleep()
    sent = commands(world)
    report = stream(world)
    assert report["wer"] <= 0.1, report["transcript"]
    assert report["lost_seconds"] == 0
    assert commands(world) == sent


def test_checks_name_every_layer(installed: Installed) -> None:
    """As the rollouts from blank hosts ended."""
    gpu, edge = (_layers(installed.proof[target]) for target in ("gpu", "edge"))
    told = {line.split()[0]: line.split()[1] for line in gpu}
    assert told == {
        "disk": "ok", "gpu": "not_needed", "driver": "not_needed", "cuda": "not_needed", "release": "ok",
        "unit:whisperlive": "ok", "unit:whisperlive-link": "ok", "unit:whisperlive-deadman": "ok",
        "port:9091": "ok", "port:9090": "ok", "speech": "ok",
    }  # fmt: skip
    assert word_error_rate(said_in(SHORT), gpu[-1].partition(": ")[2]) <= 0.1
    layers = ("disk", "release", "unit:caddy", "unit:edge-link", "https", "site", "api", "upstreams")
    assert [line.split()[:2] for line in edge] == [[name, "ok"] for name in layers]


def _layers(proof: str) -> list[str]:
    """The check's lines, a layer each; the rollout's own verdict follows them."""
    *layers, verdict = proof.splitlines()
    assert verdict.endswith(" is good")
    return layers


def test_a_check_fails_where_no_words_come(installed: Installed) -> None:
    world = installed.world
    awake(world)
    world.must(installed.gpu, "systemctl stop whisperlive")
    try:
        code, told = world.run(installed.gpu, f"{installed.gpu_release}/bootstrap/check.sh {installed.gpu_release}")
        assert code == 1
        assert "unit:whisperlive failed inactive" in told
        assert re.search(r"^speech failed port 9090 takes no stream", told, re.M)
        assert "disk ok" in told
    finally:
        world.must(installed.gpu, "systemctl start whisperlive")


def test_bad_releases_are_refused_in_a_sentence_and_nothing_live_is_touched(installed: Installed) -> None:
    world = installed.world
    awake(world)
    good, bad = installed.gpu_release, "/opt/whisperlive/releases/bad"
    serving = "readlink /opt/whisperlive/current; systemctl show -p InvocationID whisperlive"
    before = world.must(installed.gpu, serving)

    def refused(make: str, verb: str = "stage", more: str = "") -> tuple[int, str]:
        world.must(
            installed.gpu, f"rm -rf {bad} && mkdir {bad} && cp -a {good}/bootstrap {bad}/ && cd {bad} && {make}"
        )
        code, told = world.run(installed.gpu, f"{good}/bootstrap/install.sh {verb} {bad} {more}")
        return code, told.splitlines()[-1]

    models = f"cp -al {good}/models {good}/manifest.json ."
    corrupt = "printf x | dd of=models/tiny.en/model.bin conv=notrunc bs=1 seek=5000 status=none"
    assert refused(f"cp -a {good}/models {good}/manifest.json .; {corrupt}")[0] == 65
    assert refused(f"{models}; rm models/tiny.en/tokenizer.json")[0] == 65
    assert refused("mkdir models")[0] == 65
    # Another lock, or the packages that are here already would do.
    other = f"{models}; echo '# another' >>bootstrap/lock-cpu.txt; mkdir wheels; cp {good}/wheels/a*.whl wheels/"
    code, told = refused(other)
    assert (code, "the packages of" in told) == (70, True)
    assert refused(models, "activate") == (65, f"install: {bad} is not staged")
    assert refused(models, "stage", "--profile gpu") == (64, "install: --profile is cpu or cuda, not gpu")
    assert refused("rm -rf bootstrap") == (65, f"install: {bad} is no release: it has no bootstrap/")
    world.must(installed.gpu, f"rm -rf {bad}")
    assert world.must(installed.gpu, serving) == before


def test_units_and_caddyfile_lint_clean(installed: Installed) -> None:
    world = installed.world
    awake(world)
    units = {
        host: sorted(path.name for path in (ROOT / package / "units").iterdir() if path.suffix != ".conf")
        for host, package in ((installed.gpu, "gpu_bootstrap"), (installed.edge, "edge_bootstrap"))
    }
    for host, names in units.items():
        assert world.must(host, f"systemd-analyze verify {' '.join(names)} 2>&1") == ""
    caddyfile = "/opt/edge/current/bootstrap/Caddyfile"
    caddy = f"set -a; . /etc/whisperlive-edge/host.env; cd /tmp; HOME=/tmp EDGE_STORAGE=/tmp/caddy {CADDY}"
    for tls in ("tls_internal", "tls_acme"):
        said = world.must(
            installed.edge, f"EDGE_TLS={tls}; {caddy} validate --adapter caddyfile --config {caddyfile} 2>&1"
        )
        assert said.endswith("Valid configuration")
        assert '"level":"warn"' not in said
    assert world.run(installed.edge, f"{CADDY} fmt --diff {caddyfile}")[0] == 0, "it is formatted as Caddy does"


def test_units_are_as_hardened_as_the_manual_says(installed: Installed) -> None:
    """The exposure of each service, by systemd's own judgement: 0 is none, 10 all."""
    world = installed.world
    awake(world)
    stated = {name: float(score) for name, score in EXPOSURE.findall((ROOT / "docs" / "hosts.md").read_text())}
    found = {}
    for host, names in ((installed.gpu, GPU_SERVICES), (installed.edge, EDGE_SERVICES)):
        for name in names:
            told = world.must(host, f"systemd-analyze security --no-pager {name}.service | tail -1")
            score = re.search(r"([0-9.]+) (SAFE|OK|MEDIUM|EXPOSED|UNSAFE)", told)
            assert score, told
            found[name] = float(score[1])
    assert stated.keys() == found.keys()
    assert {name: score for name, score in found.items() if score > stated[name]} == {}, found


def test_scripts_and_documents_pass_the_shells_linter(tmp_path: Path) -> None:
    """Those of both hosts, and what SSM's documents run."""
    for name, document in documents("s").items():
        (step,) = document["mainSteps"]
        lines = "\n".join(step["inputs"]["runCommand"])
        # As SSM does: what stands for a parameter becomes a word.
        (tmp_path / f"{name}.sh").write_text("#!/bin/sh\n" + re.sub(r"\{\{ *(\w+) *\}\}", r"\1", lines) + "\n")
    packages = [ROOT / package for package in ("gpu_bootstrap", "edge_bootstrap")]
    scripts = [path for package in packages for path in package.glob("*.sh")]
    scripts += [*(ROOT / "gpu_bootstrap" / "poweroff").iterdir(), *tmp_path.glob("*.sh")]
    # SC2194, SC2050: a parameter that was put in is a constant.
    command = ["shellcheck", "--exclude=SC2194,SC2050", *map(str, scripts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_what_serves_can_change_nothing_and_has_no_rights(installed: Installed) -> None:
    world = installed.world
    awake(world)
    for host, unit, user in ((installed.gpu, "whisperlive", "whisperlive"), (installed.edge, "caddy", "caddy")):
        pid = world.must(host, f"systemctl show -P MainPID {unit}")
        status = world.must(host, f"cat /proc/{pid}/status")
        assert re.search(r"^NoNewPrivs:\s1$", status, re.M)
        assert re.search(r"^Seccomp:\s2$", status, re.M)
        assert int(re.search(r"^CapEff:\s(\w+)$", status, re.M)[1], 16) == (0 if user == "whisperlive" else 1 << 10)  # type: ignore[index]
        assert world.must(host, f"stat -c %U /proc/{pid}") == user
        for place in ("/opt/x", "/etc/x", "/usr/x", "/var/x"):
            assert "Read-only file system" in world.run(host, f"nsenter -t {pid} -m touch {place}")[1]
    assert "No such" in world.run(installed.gpu, "ls /dev/sda /dev/mem")[1]


def test_the_links_user_powers_the_host_off_by_asking(installed: Installed) -> None:
    """The way of the dead man's switch, which runs without the right to do it."""
    world = installed.world
    awake(world)
    world.must(
        installed.gpu,
        "setpriv --reuid whisperlive --regid whisperlive --clear-groups "
        "env PATH=/opt/whisperlive/current/bootstrap/poweroff:$PATH systemctl poweroff",
    )
    wait_until(lambda: world.state(installed.gpu) == "stopped", 60, "the host to be off", every=0.2)
    assert world.machine(installed.gpu)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
