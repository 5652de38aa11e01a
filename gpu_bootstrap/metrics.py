"""Prometheus metrics on loopback: WhisperLive's own names and the launcher's, in one place.

WhisperLive's own metrics server listens on every address without authentication, so it is not started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LOOPBACK = "127.0.0.1"
STATUSES = ("loading", "ready", "draining", "failed")
QUANTILES = {"0.5": "p50", "0.95": "p95"}
Report = Callable[[], Mapping[str, object]]


def serve(port: int, report: Report, registry: CollectorRegistry = REGISTRY) -> None:
    """Serve `/metrics` on loopback only; raises OSError when the port is taken."""
    registry.register(HostCollector(report))
    start_http_server(port, addr=LOOPBACK, registry=registry)


class HostCollector(Collector):
    """The host's report, read when it is asked for."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def describe(self) -> list[Metric]:
        return []  # so that registering asks for no report

    def collect(self) -> Iterator[Metric]:
        report = self._report()
        status = GaugeMetricFamily("launcher_status", "1 for the status this host has", labels=["status"])
        for name in STATUSES:
            status.add_metric([name], float(report["status"] == name))
        yield status
        streams = report["streams"]
        assert isinstance(streams, list)
        yield GaugeMetricFamily("launcher_streams", "Streams that have a place", value=len(streams))
        yield _gauge("launcher_places", "Streams that this host serves at once", report["max_streams"])
        yield _gauge("launcher_disk_free_bytes", "Bytes free on the system disk", report["disk_free"])
        yield _quantiles("launcher_decode_seconds", "Seconds a decode took, of the last 200", report, "decode_s")
        yield _quantiles(
            "launcher_final_seconds", "Seconds from a word's last sample to its final text, of the last 200", report,
            "final_s",
        )  # fmt: skip


def _gauge(name: str, help_text: str, value: object) -> Metric:
    assert isinstance(value, int | float)
    return GaugeMetricFamily(name, help_text, value=value)


def _quantiles(name: str, help_text: str, report: Mapping[str, object], field: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=["quantile"])
    for quantile, suffix in QUANTILES.items():
        value = report[f"{field}_{suffix}"]
        if isinstance(value, int | float):
            family.add_metric([quantile], value)
    return family
