"""The metrics port as CloudWatch's Embedded Metric Format: lines of the log, so that no call is waited for."""

from __future__ import annotations

from collections import defaultdict

from chalicelib.ports import Measure

NAMESPACE = "WhisperLiveEdge"


class EmfMetrics:
    """`chalicelib.ports.Metrics`. The dimension `service` is the stack's name."""

    def __init__(self, stack_name: str) -> None:
        self._stack_name = stack_name

    def emit(self, *measures: Measure) -> None:
        if not measures:
            return
        from aws_lambda_powertools.metrics import EphemeralMetrics

        groups: dict[tuple[str, str] | None, list[Measure]] = defaultdict(list)
        for one in measures:
            groups[one.dimension].append(one)
        for dimension, group in groups.items():
            # One of its own for each line: the shared kind would mix what threads measure at once.
            line = EphemeralMetrics(namespace=NAMESPACE, service=self._stack_name)
            if dimension is not None:
                line.add_dimension(*dimension)
            for one in group:
                line.add_metric(one.name, one.unit.value, one.value)
            line.flush_metrics()
