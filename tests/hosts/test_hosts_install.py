"""From blank hosts to words: the hosts' own scripts, on real systemd, with what came over the bridge only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.conftest import Installed
from tests.stack import ROOT, whisperctl
from tests.waiting import wait_until
from tests.wss import SHORT, Heard, dial, handshake, listen, said, word_error_rate

pytestmark = pytest.mark.timeout(600)
HARDEST = 2.0
"""Exposure that `systemd-analyze security` may find: 0 is none, 10 all."""


def stream(installed: Installed, clip: Path = SHORT) -> dict[str, Any]:
    """A real client speaks through the edge; its report."""
    options = ("--json", "--state-dir", str(installed.world.stack.state_dir), "--ref", said(clip))
    run = whisperctl("stream", str(clip), *options, timeout=150)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def state_of(installed: Installed, host: str) -> str:
    """Files with their times and sizes, and each unit's run, as text to compare."""
    volatile = r"! -name .set-upstream.lock ! -path /etc/hosts"
    files = installed.world.must(host, f"find /opt /etc -xdev {volatile} -printf '%p %T@ %s %m %u\\n' | sort")
    show = "systemctl show -p Id -p InvocationID -p MainPID -p NRestarts"
    units = installed.world.must(host, f"{show} caddy edge-link whisperlive whisperlive-link 2>&1")
    return f"{files}\n{units}"


def install(installed: Installed, host: str, directory: str) -> str:
    stage = f"{directory}/bootstrap/install.sh stage {directory}"
    return installed.world.must(host, f"{stage} && {directory}/bootstrap/install.sh activate {directory}")


def test_words_come_from_a_client_by_the_edge_from_the_gpu_host(installed: Installed) -> None:
    report = stream(installed)
    assert report["wer"] <= 0.1, report["transcript"]
    assert report["lost_seconds"] == 0


def test_the_same_release_again_changes_nothing_and_cuts_nobody(installed: Installed) -> None:
    world = installed.world
    session = world.stack.call("POST", "/v1/sessions", role="speaker", body={"language": "en"}).json()

    def ready() -> dict[str, Any] | None:
        found = dict(world.stack.call("GET", f"/v1/sessions/{session['id']}", role="speaker").json())
        return found if found["ticket"] else None

    found = wait_until(ready, 60, "a place on the GPU", every=0.3)
    heard = Heard()
    with dial(found["ws_url"], found["ticket"], world.stack.ca_cert) as live:
        live.send(handshake())
        listen(live, heard, until="SERVER_READY")
        before = {host: state_of(installed, host) for host in (installed.gpu, installed.edge)}
        assert "unchanged" in install(installed, installed.gpu, installed.gpu_release)
        assert "unchanged" in install(installed, installed.edge, installed.edge_release)
        for host, told in before.items():
            assert sorted(set(state_of(installed, host).splitlines()) ^ set(told.splitlines())) == []
        live.send(b"END_OF_AUDIO")
        listen(live, heard)
    assert heard.close_code == 1000
    assert "END" in heard.statuses()
    world.stack.call("DELETE", f"/v1/sessions/{session['id']}", role="speaker").raise_for_status()


def test_a_machine_that_was_stopped_is_ready_again_without_ssm(installed: Installed) -> None:
    world = installed.world
    world.stack.asleep()
    sent = len(world.stack.calls("SendCommand"))
    report = stream(installed)
    assert report["wer"] <= 0.1, report["transcript"]
    assert report["lost_seconds"] == 0
    assert len(world.stack.calls("SendCommand")) == sent


def test_checks_name_every_layer(installed: Installed) -> None:
    world = installed.world
    awake(installed)
    gpu = world.must(
        installed.gpu, f"{installed.gpu_release}/bootstrap/check.sh {installed.gpu_release}"
    ).splitlines()
    told = {line.split()[0]: line.split()[1] for line in gpu}
    assert told == {
        "disk": "ok", "gpu": "not_needed", "driver": "not_needed", "cuda": "not_needed", "release": "ok",
        "unit:whisperlive": "ok", "unit:whisperlive-link": "ok", "unit:whisperlive-deadman": "ok",
        "port:9091": "ok", "port:9090": "ok", "speech": "ok",
    }  # fmt: skip
    assert word_error_rate(said(SHORT), gpu[-1].partition(": ")[2]) <= 0.1
    edge = world.must(installed.edge, f"{installed.edge_release}/bootstrap/check.sh {installed.edge_release}")
    layers = ("disk", "release", "unit:caddy", "unit:edge-link", "https", "site", "api", "upstreams")
    assert [line.split()[:2] for line in edge.splitlines()] == [[name, "ok"] for name in layers]


def test_a_check_fails_where_no_words_come(installed: Installed) -> None:
    world = installed.world
    awake(installed)
    world.must(installed.gpu, "systemctl stop whisperlive")
    try:
        code, told = world.run(installed.gpu, f"{installed.gpu_release}/bootstrap/check.sh {installed.gpu_release}")
        assert code == 1
        assert "unit:whisperlive failed inactive" in told
        assert re.search(r"^speech failed port 9090 takes no stream", told, re.M)
        assert "disk ok" in told
    finally:
        world.must(installed.gpu, "systemctl start whisperlive")


def awake(installed: Installed) -> None:
    """The GPU host is on and its service ready, whoever stopped it."""
    if installed.world.state(installed.gpu) != "running":
        wait_until(lambda: installed.world.state(installed.gpu) == "stopped", 60, "the host to be off", every=0.2)
        installed.world.start(installed.gpu)
    installed.world.must(installed.gpu, "systemctl start whisperlive")


def test_bad_releases_are_refused_in_a_sentence_and_nothing_live_is_touched(installed: Installed) -> None:
    world = installed.world
    awake(installed)
    good, bad = installed.gpu_release, "/opt/whisperlive/releases/bad"
    serving = "readlink /opt/whisperlive/current; systemctl show -p InvocationID whisperlive"
    before = world.must(installed.gpu, serving)

    def refused(make: str, verb: str = "stage", more: str = "") -> tuple[int, str]:
        world.must(
            installed.gpu, f"rm -rf {bad} && mkdir {bad} && cp -a {good}/bootstrap {bad}/ && cd {bad} && {make}"
        )
        code, told = world.run(installed.gpu, f"{good}/bootstrap/install.sh {verb} {bad} {more}")
        return code, told.splitlines()[-1]

    models = f"cp -a {good}/models {good}/manifest.json ."
    corrupt = "printf x | dd of=models/tiny.en/model.bin conv=notrunc bs=1 seek=5000 status=none"
    assert refused(f"{models}; {corrupt}")[0] == 65
    assert refused(f"{models}; rm models/tiny.en/tokenizer.json")[0] == 65
    assert refused("mkdir models")[0] == 65
    code, told = refused(f"{models}; mkdir wheels; cp {good}/wheels/a*.whl wheels/")
    assert (code, "the packages of" in told) == (70, True)
    assert refused(models, "activate") == (65, f"install: {bad} is not staged")
    assert refused(models, "stage", "--profile gpu") == (64, "install: --profile is cpu or cuda, not gpu")
    assert refused("rm -rf bootstrap") == (65, f"install: {bad} is no release: it has no bootstrap/")
    world.must(installed.gpu, f"rm -rf {bad}")
    assert world.must(installed.gpu, serving) == before


def test_a_release_that_does_not_start_is_told_and_the_one_before_comes_back(installed: Installed) -> None:
    world = installed.world
    awake(installed)
    good, broken = installed.gpu_release, "/opt/whisperlive/releases/broken"
    world.must(installed.gpu, f"rm -rf {broken}; cp -al {good} {broken} && rm {broken}/bootstrap/serve.py")
    world.must(installed.gpu, f"cd {broken}/bootstrap; rm -rf __pycache__; echo 'raise SystemExit(3)' >serve.py")
    code, told = world.run(installed.gpu, f"{broken}/bootstrap/install.sh activate {broken}")
    assert code == 70
    assert told.splitlines()[-1] == "install: whisperlive.service does not come up; its last lines stand above"
    world.must(installed.gpu, f"{good}/bootstrap/install.sh activate {good} && rm -rf {broken}")
    world.must(installed.gpu, f"{good}/bootstrap/check.sh {good}")


def test_units_lint_clean_and_are_hardened(installed: Installed) -> None:
    world = installed.world
    awake(installed)
    units = {
        host: sorted(path.name for path in (ROOT / package / "units").iterdir() if path.suffix != ".conf")
        for host, package in ((installed.gpu, "gpu_bootstrap"), (installed.edge, "edge_bootstrap"))
    }
    for host, names in units.items():
        assert world.must(host, f"systemd-analyze verify {' '.join(names)} 2>&1") == ""
    serving = {
        installed.gpu: ("whisperlive", "whisperlive-link", "whisperlive-readahead", "whisperlive-deadman"),
        installed.edge: ("caddy", "edge-link"),
    }
    for host, told_of in serving.items():
        for name in told_of:
            told = world.must(host, f"systemd-analyze security --no-pager {name}.service | tail -1")
            found = re.search(r"([0-9.]+) (SAFE|OK|MEDIUM|EXPOSED|UNSAFE)", told)
            assert found, told
            assert float(found[1]) <= HARDEST, told


def test_what_serves_can_change_nothing_and_has_no_rights(installed: Installed) -> None:
    world = installed.world
    awake(installed)
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
    awake(installed)
    world.must(
        installed.gpu,
        "setpriv --reuid whisperlive --regid whisperlive --clear-groups "
        "env PATH=/opt/whisperlive/current/bootstrap/poweroff:$PATH systemctl poweroff",
    )
    wait_until(lambda: world.state(installed.gpu) == "stopped", 60, "the host to be off", every=0.2)
    assert world.machine(installed.gpu)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    awake(installed)
