"""What is missing gives one sentence that says what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from whisperctl.local import LocalOptions, account, preflight
from whisperctl.local.preflight import CannotStart


def test_an_old_python_and_a_foreign_system() -> None:
    with pytest.raises(CannotStart, match=r"Python 3\.9 is too old; install Python 3\.11"):
        preflight.check_system((3, 9), "Linux")
    with pytest.raises(CannotStart, match="needs Linux"):
        preflight.check_system((3, 11), "Darwin")
    preflight.check_system((3, 12), "Linux")


def test_no_disk(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"Only 5 MB are free .* --state-dir"):
        preflight.check_disk(tmp_path, lambda _path: 5 * 2**20)
    preflight.check_disk(tmp_path, lambda _path: 2**30)


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} is taken .* --port N"):
            preflight.check_port(port)
    preflight.check_port(port)


def test_a_directory_is_held_by_one_stack(tmp_path: Path) -> None:
    preflight.prepare_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    with preflight.lock_directory(tmp_path), pytest.raises(CannotStart, match=rf"pid {os.getpid()}"):
        preflight.lock_directory(tmp_path)
    preflight.lock_directory(tmp_path).close()


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="--state-dir"):
        preflight.prepare_directory(tmp_path / "file" / "state")


def test_a_missing_model_and_a_missing_caddy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight, "MODEL_PACKAGE", "no_such_package")
    with pytest.raises(CannotStart, match=r"speech model .*make setup"):
        preflight.find_model()
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotStart, match="Caddy"):
        preflight.find_caddy()


def test_no_call_can_reach_an_account_of_the_users() -> None:
    env = {"AWS_PROFILE": "mine", "AWS_SESSION_TOKEN": "secret", "AWS_ENDPOINT_URL_EC2": "https://x", "HOME": "/h"}
    account.put_environment(env, LocalOptions(night="22:00-06:00 UTC"), "http://127.0.0.1:1", "https://localhost:2")
    assert "AWS_PROFILE" not in env
    assert "AWS_SESSION_TOKEN" not in env
    assert "AWS_ENDPOINT_URL_EC2" not in env
    assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert env["EDGE_URL"] == "https://localhost:2"
    assert env["NIGHT"] == "22:00-06:00 UTC"
    assert env["HOME"] == "/h"
