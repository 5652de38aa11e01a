"""Prometheus' view of a running launcher."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from tests.bootstrap.launcher import Launcher, free_port, running, speech


def metrics_of(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)}


def listening(pid: int) -> set[str]:
    """Addresses and ports, in hexadecimal, on which the process listens (proc_net_tcp(5), state 0A)."""
    inodes = {
        target[8:-1]
        for fd in Path(f"/proc/{pid}/fd").iterdir()
        if (target := str(fd.readlink())).startswith("socket:[")
    }
    net = Path(f"/proc/{pid}/net")
    rows = [line.split() for name in ("tcp", "tcp6") for line in (net / name).read_text().splitlines()]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}


def speak(launcher: Launcher) -> None:
    with launcher.connect() as client:
        client.send(speech("short"))
        client.end()
        client.until_closed()


def test_metrics_are_on_loopback_and_count(tmp_path: Path) -> None:
    port = free_port()
    env = {"WHISPER_METRICS_PORT": str(port), "WHISPER_HOST": "0.0.0.0", "WHISPER_MAX_STREAMS": "1"}
    with running(tmp_path, env) as launcher:
        addresses = listening(launcher.process.pid)
        assert f"0100007F:{port:04X}" in addresses
        assert f"00000000:{launcher.port:04X}" in addresses, "the look sees open addresses too"
        assert sum(address.endswith(f":{port:04X}") for address in addresses) == 1
        before = metrics_of(port)
        speak(launcher)
        with launcher.connect("first") as first:
            first.until("SERVER_READY")
            assert metrics_of(port)["launcher_streams"] == 1
            with launcher.connect("second") as second:
                assert second.until_closed()[0] == 1013
        launcher.wait_streams(0)
        after = metrics_of(port)
    assert after["whisperlive_connections_total"] - before["whisperlive_connections_total"] == 2
    assert after['whisperlive_connections_rejected_total{reason="full"}'] == 1
    assert after["whisperlive_transcription_latency_seconds_count"] >= 1
    assert after['whisperlive_segments_emitted_total{completed="true"}'] >= 1
    assert 3 < after["whisperlive_audio_processed_seconds_total"] < 4
    assert after['launcher_decode_seconds{quantile="0.5"}'] <= after['launcher_decode_seconds{quantile="0.95"}']
    assert 0 < after['launcher_final_seconds{quantile="0.95"}'] < 60
    assert after['launcher_status{status="ready"}'] == 1


def test_a_taken_metrics_port_is_one_sentence(tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    with running(tmp_path) as other:
        launcher = Launcher(second, {"WHISPER_METRICS_PORT": str(other.port)})
        assert launcher.process.wait(60) == 1
    assert f"the metrics port {other.port} on 127.0.0.1 is taken" in launcher.errors()
