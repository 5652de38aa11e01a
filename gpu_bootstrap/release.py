#!/usr/bin/env python3
"""A release on this host: fetched, staged, activated, verified, put back, pruned. One step a run.

One file with nothing but the standard library, the same on the GPU host and on the edge: a blank host has only
python3 and curl. SSM's document fetches this file by its hash and runs it; see docs/releases.md.

    HOME/releases/<release>/   bootstrap/ wheels/ models/ (edge: bootstrap/ site/ caddy/), manifest.json written last
    HOME/current               -> releases/<release>, switched by the release's own install.sh
    HOME/state.json            what was proved good, what was before it, what is on trial
    HOME is PREFIX/opt/whisperlive, on the edge PREFIX/opt/edge

Every step may run twice, or again after the power failed in its middle: a lock keeps runs apart, files are complete
or not there, and what is done already is left alone. A release is on trial from `activate` to the end of `verify`;
when either fails, the last good one is put back here and now, without asking anybody.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

EXIT_CODES = """\
exit codes: 0 done or already so, 64 usage, 65 plan, manifest or setting is not as it must be, 69 not to be
downloaded, 70 a script of the release failed and what serves was not touched, 71 it failed and the release before
serves again, 72 it failed and there is none before it or that does not start either, 73 no room on the disk,
75 another run is at work, 76 this command comes too late"""
EX_USAGE, EX_DATA, EX_UNAVAILABLE, EX_FAILED, EX_PUT_BACK, EX_BROKEN, EX_SPACE, EX_BUSY, EX_LATE = (
    64, 65, 69, 70, 71, 72, 73, 75, 76,
)  # fmt: skip

HOMES = {"gpu": "opt/whisperlive", "edge": "opt/edge"}
PACKAGES = {"gpu": "gpu_bootstrap", "edge": "edge_bootstrap"}
"""The name under which a release's bootstrap/ is found by Python and by the SSM documents."""
NAME_LENGTH = 16
"""A release is called by this many digits of its manifest's sha256."""
FETCHERS = 6
ATTEMPTS = 5
PAUSE_S = 1.0
SOCKET_S = 30.0
LOCK_S = 10.0
CHUNK = 1 << 20
MOST_PLAN = 8 << 20
UNPACKED = 3.0
"""Wheels take about this many times their size when they are installed."""
SPARE = 256 << 20
"""Bytes that stay free on the disk."""

_SHA = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f\"'\\$`]{0,1000}")


class ReleaseError(Exception):
    """Ends the run with a sentence and an exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


# ---- pure: manifest, plan, settings ------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """One file of a release: its path in the release's directory, its key in the plan, its hash and bytes."""

    kind: str
    path: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a release is; `data` as it was read."""

    data: Mapping[str, Any]
    files: tuple[File, ...]

    @property
    def profile(self) -> str:
        return str(self.data.get("profile", ""))


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """The bytes whose sha256 names the release: JSON, keys sorted, no blanks, ASCII."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def manifest_of(data: Any, target: str, sha256: str) -> Manifest:
    """The manifest, checked: its hash, its target, and that no path leaves the release. ReleaseError 65."""
    if not isinstance(data, dict) or not isinstance(data.get("files"), list):
        raise ReleaseError(EX_DATA, "the manifest is not an object with a list of files")
    found = hashlib.sha256(canonical(data)).hexdigest()
    if found != sha256:
        raise ReleaseError(EX_DATA, f"the manifest's sha256 is {found[:16]}…, not {sha256[:16]}…")
    if data.get("target") != target:
        raise ReleaseError(EX_DATA, f"the release is for {data.get('target')!r}, this host is {target!r}")
    files = tuple(_file(one) for one in data["files"])
    paths = [one.path for one in files]
    if len(set(paths)) != len(paths):
        raise ReleaseError(EX_DATA, "the manifest names a path twice")
    return Manifest(data, files)


def _file(data: Any) -> File:
    try:
        file = File(str(data["kind"]), data["path"], data["key"], data["sha256"], data["size"])
        fits = _PATH.fullmatch(file.path) and _SHA.fullmatch(file.sha256) and isinstance(file.key, str)
        fits = fits and isinstance(file.size, int) and file.size >= 0
    except (KeyError, TypeError):
        fits = None
    if not fits:
        raise ReleaseError(EX_DATA, f"an entry of the manifest is not one: {str(data)[:200]}")
    return file


def settings_text(settings: Any) -> str:
    """host.env: KEY=VALUE lines, sorted; ReleaseError 65 names the one that is not fit."""
    if not isinstance(settings, dict):
        raise ReleaseError(EX_DATA, "the plan's settings are not an object")
    for key, value in settings.items():
        if not (_KEY.fullmatch(str(key)) and isinstance(value, str) and _VALUE.fullmatch(value)):
            raise ReleaseError(EX_DATA, f"the setting {str(key)[:64]!r} is not a KEY=VALUE that host.env can hold")
    return "".join(f"{key}={settings[key]}\n" for key in sorted(settings))


# ---- this host ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """`good` passed its check; `previous` was good before it; `pending` is or was on trial."""

    good: str | None = None
    previous: str | None = None
    pending: str | None = None
    settings_changed: bool = False


class Host:
    """Where things lie on this host, and the few ways in which they change."""

    def __init__(self, target: str, prefix: str, say: Callable[[str], None]) -> None:
        self.target = target
        self.home = Path(prefix or "/") / HOMES[target]
        self.settings = Path(prefix or "/") / "etc" / "whisperlive-edge" / "host.env"
        self.releases = self.home / "releases"
        self.say = say
        self._lock: tuple[int, ...] = ()

    def directory(self, release: str) -> Path:
        return self.releases / release

    def current(self) -> str | None:
        """The release that `current` names."""
        try:
            return (self.home / "current").readlink().name
        except OSError:
            return None

    def complete(self, release: str | None) -> bool:
        return release is not None and (self.directory(release) / "manifest.json").is_file()

    def state(self) -> State:
        try:
            held = json.loads((self.home / "state.json").read_text())
        except (FileNotFoundError, ValueError):
            held = {}
        names = {key: held.get(key) for key in ("good", "previous", "pending")}
        return State(**names, settings_changed=bool(held.get("settings_changed")))

    def keep(self, state: State) -> None:
        if state != self.state():
            write_whole(self.home / "state.json", json.dumps(vars(state), indent=1) + "\n", 0o644)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes this host meanwhile; ReleaseError 75 after LOCK_S."""
        self.releases.mkdir(parents=True, exist_ok=True)
        with (self.home / ".release.lock").open("a") as file:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ReleaseError(EX_BUSY, "another release step is at work on this host") from None
                    time.sleep(0.2)
            self._lock = (file.fileno(),)
            yield

    def script(self, release: str, name: str, *arguments: str, **environment: str) -> int:
        """Run a script of a release's bootstrap; its output is ours. The exit code."""
        directory = self.directory(release)
        program = directory / "bootstrap" / name
        sys.stdout.flush()
        try:
            return subprocess.run(
                ["bash", str(program), *arguments],
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                pass_fds=self._lock,  # a script that outlives us still holds the lock
                check=False,
            ).returncode
        except OSError as error:
            print(f"{program} does not run: {error.strerror}", file=sys.stderr)  # noqa: T201
            return 127


def write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all, also when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def sha256_of(path: Path) -> str | None:
    """The hash of a file, None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


# ---- fetch -------------------------------------------------------------------------------------------------------


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


# ---- steps -------------------------------------------------------------------------------------------------------


def configure(host: Host, settings: Any) -> None:
    """Write host.env where it differs."""
    text = settings_text(settings)
    with contextlib.suppress(FileNotFoundError):
        if host.settings.read_text() == text:
            host.say("host.env is as it must be")
            return
    write_whole(host.settings, text, 0o640)
    host.keep(State(**{**vars(host.state()), "settings_changed": True}))
    host.say(f"host.env is written, {len(settings)} settings")


def stage(host: Host, release: str) -> None:
    """Install beside what serves."""
    manifest = _complete(host, release)
    profile = ["--profile", str(manifest["profile"])] if manifest.get("profile") else []
    code = host.script(release, "install.sh", "stage", str(host.directory(release)), *profile)
    if code:
        raise ReleaseError(EX_FAILED, f"stage: install.sh of {release} left with {code}; what serves was not touched")
    host.say(f"{release} is staged")


def activate(host: Host, release: str) -> None:
    """Let the release serve; when it does not start, the last good one serves again."""
    _complete(host, release)
    state, current = host.state(), host.current()
    good = state.good or (current if current != release and state.pending != current else None)
    trial = None if release == current == good else release
    host.keep(State(good, state.previous, trial, state.settings_changed))
    changed = {"SETTINGS_CHANGED": "1"} if state.settings_changed else {}
    code = host.script(release, "install.sh", "activate", str(host.directory(release)), **changed)
    if code:
        _put_back(host, release, f"activate: install.sh of {release} left with {code}")
    if host.current() != release:
        _put_back(host, release, f"activate: install.sh of {release} left with 0, but current is {host.current()}")
    host.keep(State(good, state.previous, trial))
    host.say(f"{release} was current already" if current == release else f"{release} is current, {good} was")


def verify(host: Host, release: str) -> None:
    """Prove with real speech what serves now; when that fails, the last good one serves again."""
    if host.current() != release:
        raise ReleaseError(EX_FAILED, f"verify: {host.current()} is current, not {release}")
    state = host.state()
    code = host.script(release, "check.sh", str(host.directory(release)))
    if code:
        _put_back(host, release, f"verify: check.sh of {release} left with {code}")
    previous = state.previous if state.good in (release, None) else state.good
    host.keep(State(release, previous, None))
    host.say(f"{release} is good")


def rollback(host: Host, release: str) -> None:
    """Take a release back that is, or was about to be, on trial; nothing to do where another one serves."""
    state = host.state()
    if host.current() != release and state.pending != release:
        host.say(f"{host.current() or 'nothing'} serves; {release} needs no rollback")
        return
    if state.good == release:
        raise ReleaseError(EX_FAILED, f"{release} passed its check here; deploy another release to leave it")
    try:
        _put_back(host, release, "asked for")
    except ReleaseError as error:
        if error.code != EX_PUT_BACK:
            raise
        host.say(str(error))


def _put_back(host: Host, release: str, why: str) -> NoReturn:
    state = host.state()
    good = state.good
    if good is None or good == release or not host.complete(good):
        host.keep(State(state.good, state.previous, None if good == release else release, state.settings_changed))
        raise ReleaseError(EX_BROKEN, f"{why}; no release before it is on this host")
    host.say(f"{why}; {good} is put back")
    code = host.script(good, "install.sh", "activate", str(host.directory(good)))
    if code or host.current() != good:
        raise ReleaseError(EX_BROKEN, f"{why}; {good}, put back, left with {code} as well")
    host.keep(State(good, state.previous, None))
    raise ReleaseError(EX_PUT_BACK, f"{why}; {good} serves again")


def prune(host: Host, release: str) -> None:
    """Keep what serves and the one before it; remove every other."""
    state = host.state()
    kept = {name for name in (host.current(), state.good, state.previous, state.pending, release) if name}
    gone = sorted(one.name for one in host.releases.iterdir() if one.is_dir() and one.name not in kept)
    for name in gone:
        # Without its manifest a half removed release is not taken for a whole one.
        (host.directory(name) / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(host.directory(name))
    host.say(f"kept {', '.join(sorted(kept))}" + (f"; removed {', '.join(gone)}" if gone else ""))


def status(host: Host) -> None:
    """One JSON object on stdout."""
    held = sorted(one.name for one in host.releases.iterdir() if host.complete(one.name))
    host.say(json.dumps({"current": host.current(), **vars(host.state()), "releases": held}))


def _complete(host: Host, release: str) -> dict[str, Any]:
    if not host.complete(release):
        raise ReleaseError(EX_FAILED, f"{release} is not on this host: fetch it first")
    manifest: dict[str, Any] = json.loads((host.directory(release) / "manifest.json").read_text())
    return manifest


# ---- the command -------------------------------------------------------------------------------------------------


def run(arguments: list[str], environment: Mapping[str, str], say: Callable[[str], None]) -> int:
    """One step; the exit code."""
    parser = argparse.ArgumentParser(prog="release.py", description=__doc__, epilog=EXIT_CODES)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = ("configure", "fetch", "stage", "activate", "verify", "rollback", "prune", "status")
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("--target", choices=sorted(HOMES), required=True)
    parser.add_argument("--release", metavar="SHA256", default="", help="sha256 of the manifest")
    parser.add_argument("--plan", metavar="URL", default="none", help="with configure and fetch")
    parser.add_argument("--until", metavar="EPOCH", type=float, default=0.0, help="do nothing after this moment")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as ended:
        return EX_USAGE if ended.code else 0
    host = Host(given.target, environment.get("PREFIX", ""), say)
    try:
        if given.verb != "status" and not _SHA.fullmatch(given.release):
            raise ReleaseError(EX_USAGE, "--release takes the 64 digits of the manifest's sha256")
        if given.until and time.time() > given.until:
            raise ReleaseError(EX_LATE, "this command comes too late: nothing was done")
        with host.locked():
            _step(host, given)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    return 0


def _step(host: Host, given: argparse.Namespace) -> None:
    release = given.release[:NAME_LENGTH]
    match given.verb:
        case "configure":
            configure(host, read_plan(_url(given)).get("settings"))
        case "fetch":
            plan = read_plan(_url(given))
            manifest, urls = manifest_of(plan.get("manifest"), host.target, given.release), plan.get("urls")
            fetch(host, manifest, urls if isinstance(urls, dict) else {}, release)
        case "status":
            status(host)
        case verb:
            {"stage": stage, "activate": activate, "verify": verify, "rollback": rollback, "prune": prune}[verb](
                host, release
            )


def _url(given: argparse.Namespace) -> str:
    if given.plan == "none":
        raise ReleaseError(EX_USAGE, f"{given.verb} takes --plan URL")
    return str(given.plan)


def main() -> int:
    return run(sys.argv[1:], os.environ, lambda words: print(words, flush=True))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
