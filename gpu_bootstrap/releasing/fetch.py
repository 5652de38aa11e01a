"""Bring a release's files to this host, each with its hash."""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .errors import EX_DATA, EX_SPACE, EX_UNAVAILABLE, ReleaseError
from .host import PACKAGES, Host, sha256_of, write_whole
from .manifest import File, Manifest

FETCHERS = 6
ATTEMPTS = 5
PAUSE_S = 1.0
SOCKET_S = 30.0
CHUNK = 1 << 20
MOST_PLAN = 8 << 20
UNPACKED = 3.0
"""Wheels take about this many times their size when they are installed."""
SPARE = 256 << 20
"""Bytes that stay free on the disk."""


def read_plan(url: str) -> dict[str, Any]:
    """`{manifest, urls, settings}`; ReleaseError 69 or 65."""
    try:
        plan = json.loads(_persistently(lambda: _open(url, 0).read(MOST_PLAN), "the plan"))
    except ValueError as error:
        raise ReleaseError(EX_DATA, f"the plan is not JSON: {error}") from error
    if not isinstance(plan, dict):
        raise ReleaseError(EX_DATA, "the plan is not an object")
    return plan


def fetch(host: Host, manifest: Manifest, urls: Mapping[str, str], release: str) -> None:
    """Bring every file of the manifest here, each with its hash; manifest.json last."""
    directory = host.directory(release)
    text = json.dumps(manifest.data, indent=1, sort_keys=True) + "\n"
    here = directory / "manifest.json"
    missing = [one for one in manifest.files if sha256_of(directory / one.path) != one.sha256]
    if not missing and host.complete(release) and here.read_text() == text:
        host.say(f"{release} is here already, {len(manifest.files)} files with their hashes")
        return
    _link_known(host, release, missing)
    missing = [one for one in missing if sha256_of(directory / one.path) != one.sha256]
    _check_room(host, manifest, missing, release)
    # Two paths with the same bytes are downloaded once and linked.
    single = {one.sha256: one for one in missing}
    with ThreadPoolExecutor(FETCHERS) as pool:
        list(pool.map(lambda one: _bring(directory, one, urls), single.values()))
    for one in missing:
        if sha256_of(directory / one.path) != one.sha256:
            _put(directory / single[one.sha256].path, directory / one.path)
    for one in manifest.files:
        _make_runnable(directory / one.path, one)
    link = directory / PACKAGES[host.target]
    if not link.is_symlink():
        link.symlink_to("bootstrap")
    write_whole(here, text, 0o644)
    size = sum(one.size for one in single.values())
    host.say(f"{release}: {len(single)} files downloaded, {size / 1e6:.1f} MB; {len(manifest.files)} in all")


def _link_known(host: Host, release: str, missing: list[File]) -> None:
    """Files that another release on this host has are linked from there: a model need not come twice."""
    known: dict[str, Path] = {}
    for other in host.releases.iterdir():
        if other.name != release and host.complete(other.name):
            listed = json.loads((other / "manifest.json").read_text())["files"]
            known |= {one["sha256"]: other / one["path"] for one in listed}
    for one in missing:
        source = known.get(one.sha256)
        if source is not None and sha256_of(source) == one.sha256:
            _put(source, host.directory(release) / one.path)


def _put(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(path)


def _check_room(host: Host, manifest: Manifest, missing: list[File], release: str) -> None:
    unpacked = 0.0
    if not (host.directory(release) / "venv").exists():
        unpacked = UNPACKED * sum(one.size for one in manifest.files if one.kind == "wheels")
    needed = sum(one.size for one in missing) + unpacked + SPARE
    free = shutil.disk_usage(host.releases).free
    if free < needed:
        words = f"{release} needs {needed / 1e9:.1f} GB on the disk of {host.home}, {free / 1e9:.1f} GB are free"
        raise ReleaseError(EX_SPACE, words)


def _bring(directory: Path, file: File, urls: Mapping[str, str]) -> None:
    """Download one file, going on where an earlier try ended."""
    url = urls.get(file.key)
    if url is None:
        raise ReleaseError(EX_DATA, f"the plan has no address for {file.path}")
    path = directory / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")

    def once() -> None:
        done = part.stat().st_size if part.exists() else 0
        if done > file.size:
            part.unlink()
            done = 0
        if done < file.size:
            with _open(url, done) as answer:
                goes_on = answer.status == http.client.PARTIAL_CONTENT
                with part.open("ab" if goes_on else "wb") as out:
                    shutil.copyfileobj(answer, out, CHUNK)
        found = part.stat().st_size if part.exists() else 0
        if not found and not file.size:
            part.touch()
        elif found < file.size:
            raise ConnectionError(f"{found} of {file.size} bytes came")
        if sha256_of(part) != file.sha256:
            part.unlink()
            if done:
                raise ConnectionError("what an earlier try had left was not of this file")
            raise ReleaseError(EX_DATA, f"{file.path} is corrupt: its sha256 is not {file.sha256[:16]}…")

    _persistently(once, file.path)
    part.replace(path)


def _open(url: str, start: int) -> Any:
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  SSM's pattern admits http and https only
    return urllib.request.urlopen(request, timeout=SOCKET_S)  # noqa: S310


def _persistently(act: Callable[[], Any], what: str) -> Any:
    """Try again with growing pauses; ReleaseError 69 when it is of no use."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return act()
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
            if error.code in (403, 404):
                hint = "; its address has expired or the bucket refuses" if error.code == 403 else ""
                raise ReleaseError(EX_UNAVAILABLE, f"{what} cannot be downloaded: {reason}{hint}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise ReleaseError(EX_SPACE, f"the disk is full at {what}") from error
            reason = str(getattr(error, "reason", error))
        if attempt < ATTEMPTS:
            time.sleep(PAUSE_S * attempt)
    raise ReleaseError(EX_UNAVAILABLE, f"{what} cannot be downloaded: {reason} ({ATTEMPTS} tries)")


def _make_runnable(path: Path, file: File) -> None:
    with path.open("rb") as content:
        mode = 0o755 if file.kind == "caddy" or content.read(2) == b"#!" else 0o644
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
