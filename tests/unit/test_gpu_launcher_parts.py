"""The launcher's small parts: settings, endings, turns, keepalive, the choice of a device."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gpu_bootstrap import closing
from gpu_bootstrap.errors import ConfigurationError, ModelError
from gpu_bootstrap.guard import SILENT_S, Keepalive
from gpu_bootstrap.models import Device, check, choose_device
from gpu_bootstrap.settings import Settings
from gpu_bootstrap.turns import PASSED_OVER, Turns
from tests.waiting import wait_until


class TestSettings:
    def test_defaults(self) -> None:
        settings = Settings.from_env({"WHISPER_MODEL_PATH": "/models/tiny.en"})
        assert (settings.host, settings.port, settings.health_host, settings.health_port) == (
            "0.0.0.0",
            9090,
            "0.0.0.0",
            9091,
        )
        assert (settings.model, settings.max_streams, settings.require_ticket) == ("tiny.en", 4, True)
        assert settings.max_connection_s is None

    def test_models_lie_in_a_folder_or_at_a_path(self) -> None:
        named = {"WHISPER_MODELS_PATH": "/models", "WHISPER_MODEL": "Systran/faster-whisper-base"}
        settings = Settings.from_env(named)
        assert (settings.model, settings.model_path) == ("base", Path("/models/base"))
        settings = Settings.from_env({"WHISPER_MODELS_PATH": "/models", "WHISPER_MODEL_PATH": "/mine"})
        assert (settings.models_path, settings.model_path) == (Path("/models"), Path("/mine"))

    def test_health_listens_where_the_websocket_does(self) -> None:
        assert Settings.from_env({"WHISPER_MODEL_PATH": "x", "WHISPER_HOST": "127.0.0.5"}).health_host == "127.0.0.5"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("WHISPER_MODEL_PATH", ""),
            ("WHISPER_MODEL", "../tiny.en"),
            ("WHISPER_PORT", "0"),
            ("WHISPER_PORT", "http"),
            ("WHISPER_MAX_STREAMS", "-1"),
            ("WHISPER_REQUIRE_TICKET", "maybe"),
            ("WHISPER_DEVICE", "tpu"),
            ("WHISPER_MODEL_SHA256", "abc"),
            ("WHISPER_HANDSHAKE_TIMEOUT_S", "nan"),
            ("WHISPER_MAX_CONNECTION_S", "-5"),
        ],
    )
    def test_a_wrong_value_is_named(self, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=name):
            Settings.from_env({"WHISPER_MODEL_PATH": "x", name: value})


def test_every_reason_fits_a_close_frame_whole() -> None:
    endings = [value for value in vars(closing).values() if isinstance(value, closing.Ending)]
    assert len(endings) > 8
    assert all(ending.fitting_reason() == ending.reason != "" for ending in endings)
    assert len(closing.Ending(1000, "ü" * 100).fitting_reason().encode()) == 122


def test_turns_are_taken_in_the_order_asked_for() -> None:
    turns, order = Turns(), list[int]()
    asked = threading.Semaphore(0)

    def take(number: int) -> None:
        asked.release()
        with turns.take():
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    with turns.take():
        for number, thread in enumerate(threads):
            thread.start()
            asked.acquire()
            wait_until(lambda n=number: turns.waiting > n, 5, "the thread to stand in line")  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_a_turn_that_fails_is_over() -> None:
    turns = Turns()
    with pytest.raises(ValueError), turns.take():
        raise ValueError
    with turns.take():
        pass


def test_live_speech_goes_before_a_backlog_but_not_for_ever() -> None:
    turns, order = Turns(), list[str]()

    def take(name: str, first: bool) -> None:
        with turns.take(first=first):
            order.append(name)

    asked = [("backlog", False), *((f"live {n}", True) for n in range(PASSED_OVER + 2))]
    threads = [threading.Thread(target=take, args=one) for one in asked]
    with turns.take():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda n=number: turns.waiting > n, 5, "the thread to stand in line")  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order.index("backlog") == PASSED_OVER


def test_two_places_are_two_turns_at_once_and_a_backlog_leaves_them_to_who_speaks() -> None:
    turns, order = Turns(2), list[str]()

    def take(name: str, first: bool) -> None:
        with turns.take(first=first):
            order.append(name)

    with turns.take():
        with turns.take():
            assert turns.running == 2
        backlog = threading.Thread(target=take, args=("backlog", False))
        backlog.start()
        wait_until(lambda: turns.waiting == 1, 5, "the backlog to stand in line")
        take("live", True)
        assert order == ["live"], "a place is free, but somebody speaks"
    backlog.join(5)
    assert order == ["live", "backlog"]


class TestKeepalive:
    def test_a_peer_that_speaks_is_left_alone(self) -> None:
        keepalive = Keepalive(0)
        keepalive.heard(SILENT_S)
        assert not keepalive.wants_ping(2 * SILENT_S - 1)

    def test_a_silent_peer_is_asked_and_given_up(self) -> None:
        keepalive, pong = Keepalive(0), threading.Event()
        assert keepalive.wants_ping(SILENT_S)
        keepalive.pinged(SILENT_S, pong)
        assert not keepalive.wants_ping(SILENT_S + 1)
        assert not keepalive.peer_is_gone(2 * SILENT_S - 1)
        assert keepalive.peer_is_gone(2 * SILENT_S)

    def test_a_pong_is_a_sign_of_life(self) -> None:
        keepalive, pong = Keepalive(0), threading.Event()
        keepalive.pinged(SILENT_S, pong)
        pong.set()
        assert not keepalive.wants_ping(2 * SILENT_S)
        assert not keepalive.peer_is_gone(3 * SILENT_S)


class TestModels:
    @pytest.mark.parametrize(
        ("wanted", "compute_type", "devices", "float16", "device"),
        [
            ("auto", None, 0, False, Device("cpu", "int8")),
            ("auto", None, 1, True, Device("cuda", "float16")),
            ("auto", None, 1, False, Device("cuda", "float32")),
            ("cpu", None, 1, True, Device("cpu", "int8")),
            ("cuda", "int8_float16", 1, True, Device("cuda", "int8_float16")),
        ],
    )
    def test_device(self, wanted: str, compute_type: str | None, devices: int, float16: bool, device: Device) -> None:
        assert choose_device(wanted, compute_type, devices, float16) == device

    def test_cuda_without_a_gpu(self) -> None:
        with pytest.raises(ModelError, match="no CUDA device"):
            choose_device("cuda", None, 0, False)

    def test_a_hash_that_is_right(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin").write_bytes(b"")
        check("any", tmp_path, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
