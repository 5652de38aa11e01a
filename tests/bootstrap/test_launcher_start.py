"""Starting the launcher: what it says while it loads, and when it cannot serve."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bootstrap.launcher import Launcher, running
from tests.waiting import wait_until


@contextmanager
def started(folder: Path, env: dict[str, str]) -> Iterator[Launcher]:
    launcher = Launcher(folder, env)
    try:
        yield launcher
    finally:
        launcher.stop()


def failed_report(launcher: Launcher) -> dict[str, Any]:
    def failed() -> dict[str, Any] | None:
        report = launcher.health()
        return report if report and report["status"] == "failed" else None

    return wait_until(failed, 30, "the health to say failed") or {}


def test_health_is_there_before_the_model_and_the_port_after(tmp_path: Path) -> None:
    with started(tmp_path, {}) as launcher:
        first = wait_until(launcher.health, 20, "the health server")
        assert first is not None
        assert first["status"] == "loading"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", launcher.port), timeout=2)
        launcher.wait_ready()
        socket.create_connection(("127.0.0.1", launcher.port), timeout=2).close()
        report = launcher.health() or {}
        assert report.pop("disk_free") > 0
        assert report == {
            "status": "ready",
            "release": "test",
            "model": "tiny.en",
            "models": ["tiny.en"],
            "device": "cpu",
            "streams": [],
            "max_streams": 4,
            "decode_s_p50": None,
            "decode_s_p95": None,
            "decoded_s_ago": None,
            "final_s_p50": None,
            "final_s_p95": None,
        }
        assert launcher.logged("model.ready")[0]["import_s"] > 0


def test_the_first_word_needs_no_loading(tmp_path: Path) -> None:
    with running(tmp_path) as launcher:
        began = time.monotonic()
        with launcher.connect() as client:
            client.until("SERVER_READY")
        assert time.monotonic() - began < 0.5


def test_a_model_of_the_wrong_hash(tmp_path: Path) -> None:
    with started(tmp_path, {"WHISPER_MODEL_SHA256": "0" * 64}) as launcher:
        report = failed_report(launcher)
        assert "not the expected one" in report["cause"]
        assert launcher.process.wait(timeout=20) == 1
        assert launcher.errors().splitlines()[-1] == report["cause"]


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"WHISPER_MODEL_PATH": "/nowhere"}, "the model 'tiny.en' cannot be read: /nowhere/model.bin: No such file"),
        ({"WHISPER_MODEL": "large-v3"}, "no sha256 is known for the model 'large-v3': set WHISPER_MODEL_SHA256"),
    ],
)
def test_a_model_that_is_not_there(tmp_path: Path, env: dict[str, str], sentence: str) -> None:
    with started(tmp_path, env) as launcher:
        assert sentence in failed_report(launcher)["cause"]
        assert launcher.process.wait(timeout=20) == 1
        assert sentence in launcher.errors()


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    sha256 = hashlib.sha256(b"not a model").hexdigest()
    with started(tmp_path, {"WHISPER_MODEL_PATH": str(tmp_path), "WHISPER_MODEL_SHA256": sha256}) as launcher:
        assert "does not load" in failed_report(launcher)["cause"]


def test_a_taken_port(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        with started(tmp_path, {"WHISPER_PORT": port}) as launcher:
            sentence = f"the WebSocket port {port} on 127.0.0.1 is taken by another program"
            assert sentence in failed_report(launcher)["cause"]
            assert launcher.process.wait(timeout=20) == 1
            assert sentence in launcher.errors()


def test_a_taken_health_port(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        with started(tmp_path, {"WHISPER_HEALTH_PORT": port}) as launcher:
            assert launcher.process.wait(timeout=20) == 1
            assert f"the health port {port} on 127.0.0.1 is taken" in launcher.errors()


def test_a_wrong_setting(tmp_path: Path) -> None:
    with started(tmp_path, {"WHISPER_MAX_STREAMS": "many"}) as launcher:
        assert launcher.process.wait(timeout=20) == 2
        assert launcher.errors() == "WHISPER_MAX_STREAMS must be a whole number from 1 to 64, not 'many'\n"


def test_sigterm_while_loading_ends_at_once(tmp_path: Path) -> None:
    with started(tmp_path, {}) as launcher:
        wait_until(launcher.health, 20, "the health server")
        began = time.monotonic()
        assert launcher.stop() == 0
        assert time.monotonic() - began < 2
