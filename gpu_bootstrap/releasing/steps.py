"""The steps on this host, fetching aside: each may run twice, and puts the last good release back when it must."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import Any, NoReturn

from .errors import EX_BROKEN, EX_FAILED, EX_PUT_BACK, ReleaseError
from .host import Host, State, write_whole
from .manifest import settings_text


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
