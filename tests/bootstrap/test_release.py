"""release.py as SSM runs it: a process of its own under a PREFIX, files over HTTP, every way a step can fail."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.releases import RUNNER, manifest_of, scripts, sha256_of
from tests.waiting import wait_until

MODEL = b"weights " * 50_000


@dataclass
class Bucket:
    """Objects over HTTP, with Range; counts what was asked for."""

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    breaks: dict[str, int] = field(default_factory=dict)
    """Path → after how many bytes the connection breaks, once."""
    url: str = ""

    def plan(self, manifest: dict[str, Any], settings: dict[str, str] | None = None) -> str:
        urls = {one["key"]: f"{self.url}/{one['key']}" for one in manifest["files"]}
        content = {"manifest": manifest, "urls": urls, "settings": settings or {}}
        self.objects[f"/plans/{sha256_of(manifest)}"] = json.dumps(content).encode()
        return f"{self.url}/plans/{sha256_of(manifest)}"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    held = Bucket()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            held.asked.append((self.path, asked))
            body = held.objects.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start : held.breaks.pop(self.path, None)])

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield held
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class HostUnderTest:
    """A blank host under a prefix."""

    prefix: Path
    bucket: Bucket
    target: str = "gpu"

    @property
    def runner(self) -> Path:
        """What SSM's document has fetched."""
        path = self.prefix / "release-by-its-hash.pyz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(RUNNER)
        return path

    @property
    def home(self) -> Path:
        return self.prefix / "opt" / ("edge" if self.target == "edge" else "whisperlive")

    def release(self, files: dict[str, bytes], **more: str) -> str:
        """Upload; the sha256 of the manifest."""
        manifest = manifest_of(files, self.target, **more)
        for one in manifest["files"]:
            self.bucket.objects[f"/{one['key']}"] = files[one["path"]]
        self.bucket.plan(manifest, {"LINK_ROLE": self.target})
        return sha256_of(manifest)

    def start(self, verb: str, sha256: str, *more: str) -> subprocess.Popen[str]:
        arguments = [
            "--target",
            self.target,
            "--release",
            sha256,
            "--plan",
            f"{self.bucket.url}/plans/{sha256}",
            *more,
        ]
        return subprocess.Popen(
            [sys.executable, "-I", str(self.runner), verb, *arguments],
            env={"PATH": os.environ["PATH"], "PREFIX": str(self.prefix)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def step(self, verb: str, sha256: str, *more: str) -> tuple[int, str]:
        process = self.start(verb, sha256, *more)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def deploy(self, sha256: str) -> tuple[int, str]:
        """All steps, until one fails."""
        for verb in ("configure", "fetch", "stage", "activate", "verify", "prune"):
            code, output = self.step(verb, sha256)
            if code:
                return code, f"{verb}: {output}"
        return 0, ""

    def current(self) -> str:
        return (self.home / "current").readlink().name

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "state.json").read_text()))

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file with its inode and time of change."""
        found = (path for path in self.prefix.rglob("*") if path.is_file() or path.is_symlink())
        stats = {str(path.relative_to(self.prefix)): path.lstat() for path in found}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture
def host(tmp_path: Path, bucket: Bucket) -> HostUnderTest:
    return HostUnderTest(tmp_path / "host", bucket)


def gpu(version: str, **faults: str) -> dict[str, bytes]:
    return scripts(**faults) | {"models/tiny/model.bin": MODEL, "bootstrap/version": version.encode()}


def test_a_blank_host_gets_a_release(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"), profile="cpu")
    assert host.deploy(sha) == (0, "")
    assert host.current() == sha[:16]
    assert (host.home / "current/models/tiny/model.bin").read_bytes() == MODEL
    assert (host.home / "current/gpu_bootstrap/release.pyz").read_bytes() == RUNNER
    assert os.access(host.home / "current/bootstrap/install.sh", os.X_OK)
    assert not os.access(host.home / "current/bootstrap/version", os.X_OK)
    env = host.prefix / "etc/whisperlive-edge/host.env"
    assert env.read_text() == "LINK_ROLE=gpu\n"
    assert env.stat().st_mode & 0o777 == 0o640
    assert host.state() == {"good": sha[:16], "previous": None, "pending": None, "settings_changed": False}


def test_the_profile_reaches_the_installer(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"), profile="cpu")
    host.step("fetch", sha)
    assert "staging --profile cpu" in host.step("stage", sha)[1]


def test_the_same_release_again_changes_nothing(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    host.deploy(sha)
    before, asked = host.files(), len(host.bucket.asked)
    assert host.deploy(sha) == (0, "")
    assert host.files() == before
    assert len(host.bucket.asked) == asked + 2  # the plan, by configure and by fetch


def test_what_another_release_has_is_not_downloaded_again(host: HostUnderTest) -> None:
    host.deploy(host.release(gpu("1")))
    host.bucket.asked.clear()
    second = host.release(gpu("2"))
    host.step("fetch", second)
    files = [path for path, _ in host.bucket.asked if path.startswith("/files/")]
    assert len(files) == 1  # bootstrap/version
    assert (host.home / "releases" / second[:16] / "models/tiny/model.bin").read_bytes() == MODEL


def test_a_broken_download_goes_on_where_it_ended(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    path = next(p for p, body in host.bucket.objects.items() if body == MODEL)
    host.bucket.breaks[path] = 100_000
    assert host.step("fetch", sha)[0] == 0
    assert [asked for one, asked in host.bucket.asked if one == path] == ["", "bytes=100000-"]


def test_a_corrupt_file_is_refused_and_repaired_when_it_is_whole_again(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    path = next(p for p, body in host.bucket.objects.items() if body == MODEL)
    host.bucket.objects[path] = b"x" * len(MODEL)
    code, output = host.step("fetch", sha)
    assert code == 65
    assert output.splitlines()[-1].startswith("release: models/tiny/model.bin is corrupt")
    assert host.step("stage", sha)[0] == 70  # never complete, so never installed
    host.bucket.objects[path] = MODEL
    assert host.deploy(sha) == (0, "")
    (host.home / "current/models/tiny/model.bin").write_bytes(b"rotten")
    assert host.step("fetch", sha)[0] == 0
    assert (host.home / "current/models/tiny/model.bin").read_bytes() == MODEL


def test_a_missing_file_is_one_sentence(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    path = next(p for p, body in host.bucket.objects.items() if body == MODEL)
    del host.bucket.objects[path]
    assert host.step("fetch", sha) == (69, "release: models/tiny/model.bin cannot be downloaded: HTTP 404\n")


def test_a_disk_that_is_too_small_is_found_before_it_is_full(host: HostUnderTest) -> None:
    files = gpu("1")
    manifest = manifest_of(files)
    next(one for one in manifest["files"] if one["kind"] == "model")["size"] = 10**15
    host.bucket.plan(manifest)
    code, output = host.step("fetch", sha256_of(manifest))
    assert code == 73
    assert "GB on the disk" in output


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a//b", "", ".ssh/x", "a b", "a\nb"])
def test_no_path_leaves_the_release(host: HostUnderTest, path: str) -> None:
    manifest = manifest_of(gpu("1"))
    manifest["files"][0]["path"] = path
    host.bucket.plan(manifest)
    assert host.step("fetch", sha256_of(manifest))[0] == 65


def test_a_manifest_of_another_hash_or_target_is_refused(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    plan = json.loads(host.bucket.objects[f"/plans/{sha}"])
    plan["manifest"]["files"][0]["size"] += 1
    host.bucket.objects[f"/plans/{sha}"] = json.dumps(plan).encode()
    assert host.step("fetch", sha)[0] == 65
    host.target = "edge"
    other = host.release(gpu("1"))
    host.target = "gpu"
    assert "is for 'edge'" in host.step("fetch", other)[1]


@pytest.mark.parametrize("value", ["a\nB=c", 'a"b', "$(id)", "`id`", "a\\b"])
def test_a_setting_that_a_unit_could_misread_is_refused(host: HostUnderTest, value: str) -> None:
    manifest = manifest_of(gpu("1"))
    host.bucket.plan(manifest, {"LINK_ROLE": value})
    code, output = host.step("configure", sha256_of(manifest))
    assert code == 65
    assert "LINK_ROLE" in output
    assert not (host.prefix / "etc/whisperlive-edge/host.env").exists()


@pytest.mark.parametrize(
    ("faults", "step"),
    [({"activate": "echo the unit does not start; exit 1"}, "activate"), ({"check": "exit 3"}, "verify")],
)
def test_a_bad_release_is_put_back_by_the_host_itself(host: HostUnderTest, faults: dict[str, str], step: str) -> None:
    good = host.release(gpu("1"))
    host.deploy(good)
    bad = host.release(gpu("2", **faults))
    code, output = host.deploy(bad)
    assert code == 71
    assert output.startswith(f"{step}: ")
    assert output.splitlines()[-1].endswith(f"; {good[:16]} serves again")
    assert host.current() == good[:16]
    assert host.state()["good"] == good[:16]
    assert host.deploy(host.release(gpu("3"))) == (0, "")


def test_a_bad_first_release_says_that_nothing_was_before_it(host: HostUnderTest) -> None:
    bad = host.release(gpu("1", check="exit 1"))
    code, output = host.deploy(bad)
    assert code == 72
    assert "no release before it is on this host" in output
    assert host.deploy(host.release(gpu("2"))) == (0, "")


def test_a_stage_that_fails_touches_nothing(host: HostUnderTest) -> None:
    good = host.release(gpu("1"))
    host.deploy(good)
    code, _ = host.deploy(host.release(gpu("2", stage="exit 9")))
    assert code == 70
    assert host.current() == good[:16]


def test_a_previous_release_that_does_not_start_either_is_said(host: HostUnderTest) -> None:
    broken = 'test ! -e "$home/broken"'
    good = host.release(gpu("1", activate=broken))
    host.deploy(good)
    (host.home / "broken").touch()
    code, output = host.deploy(host.release(gpu("2", check="exit 1")))
    assert code == 72
    assert f"{good[:16]}, put back, left with 1 as well" in output


def test_going_back_needs_no_download_and_pruning_keeps_the_one_before(host: HostUnderTest) -> None:
    one, two, three = (host.release(gpu(version)) for version in "123")
    for sha in (one, two, three):
        assert host.deploy(sha) == (0, "")
    held = {path.name for path in (host.home / "releases").iterdir()}
    assert held == {two[:16], three[:16]}
    host.bucket.asked.clear()
    assert host.deploy(two) == (0, "")
    assert [path for path, _ in host.bucket.asked if path.startswith("/files/")] == []
    assert host.state()["previous"] == three[:16]


def test_rollback_takes_back_what_is_on_trial_and_nothing_else(host: HostUnderTest) -> None:
    good = host.release(gpu("1"))
    host.deploy(good)
    new = host.release(gpu("2"))
    assert host.step("rollback", new)[0] == 0
    assert host.current() == good[:16]
    for verb in ("fetch", "stage", "activate"):
        host.step(verb, new)
    assert host.current() == new[:16]
    assert host.step("rollback", new)[0] == 0
    assert host.current() == good[:16]
    host.deploy(new)
    code, output = host.step("rollback", new)
    assert code == 70
    assert "passed its check" in output


def test_a_power_cut_in_the_middle_of_activate_keeps_the_good_one_known(host: HostUnderTest) -> None:
    good = host.release(gpu("1"))
    host.deploy(good)
    cut = host.release(gpu("2", activate="touch $home/switched; sleep 60"))
    host.step("fetch", cut)
    host.step("stage", cut)
    process = host.start("activate", cut)
    wait_until((host.home / "switched").exists, 30, "the switch")
    process.kill()
    assert host.step("prune", good)[0] == 75  # its script is still at work
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert host.current() == cut[:16]
    assert host.state()["pending"] == cut[:16]
    assert host.state()["good"] == good[:16]
    code, output = host.deploy(host.release(gpu("3", check="exit 1")))
    assert (code, host.current()) == (71, good[:16]), output
    assert host.deploy(host.release(gpu("4"))) == (0, "")


def test_two_steps_at_once_and_one_that_comes_too_late(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    host.step("fetch", sha)
    with (host.home / ".release.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, output = host.step("stage", sha)
    assert (code, output) == (75, "release: another release step is at work on this host\n")
    assert host.step("stage", sha, "--until", str(int(time.time()) - 1))[0] == 76
    assert not (host.home / "releases" / sha[:16] / "venv").exists()
    assert host.step("stage", sha, "--until", str(int(time.time()) + 60))[0] == 0


def test_changed_settings_are_told_to_activate_once(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    host.step("configure", sha)
    for verb in ("fetch", "stage"):
        host.step(verb, sha)
    assert "settings changed: 1" in host.step("activate", sha)[1]
    assert "settings changed: no" in host.step("activate", sha)[1]


def test_status_and_usage(host: HostUnderTest) -> None:
    sha = host.release(gpu("1"))
    host.deploy(sha)
    code, output = host.step("status", "")
    assert code == 0
    assert json.loads(output)["current"] == sha[:16]
    assert host.step("stage", "abc") == (64, "release: --release takes the 64 digits of the manifest's sha256\n")
    assert host.step("dance", sha)[0] == 64


def test_the_edge_has_a_home_of_its_own(tmp_path: Path, bucket: Bucket) -> None:
    edge = HostUnderTest(tmp_path, bucket, "edge")
    sha = edge.release(scripts() | {"site/index.html": b"<p>", "caddy/caddy": b"\x7fELF"})
    assert edge.deploy(sha) == (0, "")
    assert os.access(tmp_path / "opt/edge/current/caddy/caddy", os.X_OK)
    assert (tmp_path / "opt/edge/current/edge_bootstrap/release.pyz").exists()
