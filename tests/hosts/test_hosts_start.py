"""From systemd starting the unit to ready: not much longer than what must be done takes by itself."""

from __future__ import annotations

import json
import statistics
import sys

import pytest

from tests.hosts.conftest import Installed
from tests.hosts.streams import awake
from tests.hosts.world import World

pytestmark = [pytest.mark.timeout(600), pytest.mark.endurance]
RATIO = 1.3
RUNS = 3

# By the service's own interpreter, user and environment; seconds from this program's first line.
ALONE = """\
import json, time
began = time.monotonic()
from gpu_bootstrap import models, torch_stub
import ctranslate2
torch_stub.install(ctranslate2.get_cuda_device_count, lambda: False)
from whisper_live.backend import faster_whisper_backend
from gpu_bootstrap import decoder, host, server, serving
imported = time.monotonic()
from gpu_bootstrap.settings import Settings
import os
settings = Settings.from_env(os.environ)
models.load(settings.model_path, models.choose_device(settings.device, settings.compute_type, 0, False))
ended = time.monotonic()
print(json.dumps({"import": imported - began, "load_and_warm": ended - imported, "all": ended - began}))
"""


def alone(world: World) -> dict[str, float]:
    """Import, load and warm, with nothing else on the host."""
    world.must(world.gpu, f"cat >/run/alone.py <<'END'\n{ALONE}END")
    properties = ("User=whisperlive", "WorkingDirectory=/opt/whisperlive/current", "Environment=HF_HUB_OFFLINE=1")
    files = ("/opt/whisperlive/current/release.env", "/etc/whisperlive-edge/host.env")
    options = " ".join([f"-p {one}" for one in (*properties, *(f"EnvironmentFile={file}" for file in files))])
    python = "/opt/whisperlive/current/venv/bin/python -c 'exec(open(\"/run/alone.py\").read())'"
    said = world.must(world.gpu, f"systemd-run --quiet --pipe --wait {options} {python}")
    return {name: float(value) for name, value in json.loads(said.splitlines()[-1]).items()}


def started(world: World) -> float:
    """Seconds from systemd starting the unit to ready."""
    world.must(world.gpu, "systemctl stop whisperlive && systemctl start whisperlive")
    show = "systemctl show --value -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic whisperlive"
    moments = [int(line) for line in world.must(world.gpu, show).split()]
    return (max(moments) - min(moments)) / 1e6


def test_ready_comes_not_much_later_than_import_load_and_warm_alone(installed: Installed) -> None:
    """Both on warm files, in turns; medians, since other programs share the machine."""
    world = installed.world
    awake(world)
    world.must(world.gpu, "systemctl stop whisperlive")
    alone(world)
    units, alones = [], []
    for _ in range(RUNS):
        world.must(world.gpu, "systemctl stop whisperlive")
        alones.append(alone(world))
        units.append(started(world))
    reference = statistics.median(one["all"] for one in alones)
    ratio = statistics.median(units) / reference
    told = "; ".join(f"{unit:.2f} s, alone {one['all']:.2f} s" for unit, one in zip(units, alones, strict=True))
    share = {name: round(statistics.median(one[name] for one in alones), 2) for name in ("import", "load_and_warm")}
    sys.stdout.write(f"unit to ready: {told}; ratio {ratio:.2f}; alone {share}\n")
    sys.stdout.write(world.journal(world.gpu, "whisperlive") + "\n")
    assert ratio <= RATIO, f"{ratio:.2f}: {told}"
