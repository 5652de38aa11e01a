from __future__ import annotations

import urllib.request

from prometheus_client import CollectorRegistry, generate_latest

from gpu_bootstrap import metrics
from whisperctl.local.preflight import free_port


def report(**changes: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "status": "ready",
        "streams": [{"sid": "a"}, {"sid": "b"}],
        "max_streams": 4,
        "disk_free": 5,
        "decode_s_p50": 0.5,
        "decode_s_p95": 0.75,
        "final_s_p50": None,
        "final_s_p95": None,
    }
    return usual | changes


def lines(**changes: object) -> list[str]:
    registry = CollectorRegistry()
    registry.register(metrics.HostCollector(lambda: report(**changes)))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_the_report_as_metrics() -> None:
    assert lines() == [
        'launcher_status{status="loading"} 0.0',
        'launcher_status{status="ready"} 1.0',
        'launcher_status{status="draining"} 0.0',
        'launcher_status{status="failed"} 0.0',
        "launcher_streams 2.0",
        "launcher_places 4.0",
        "launcher_disk_free_bytes 5.0",
        'launcher_decode_seconds{quantile="0.5"} 0.5',
        'launcher_decode_seconds{quantile="0.95"} 0.75',
    ]


def test_what_was_measured_is_there() -> None:
    assert 'launcher_final_seconds{quantile="0.95"} 1.5' in lines(final_s_p50=1, final_s_p95=1.5)


def test_served_on_loopback_by_http() -> None:
    port = free_port()
    metrics.serve(port, report, CollectorRegistry())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"launcher_streams 2.0" in answer.read()
