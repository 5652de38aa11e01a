"""Cost and estimates."""

from __future__ import annotations

import pytest

from chalicelib.domain.ledger import Span, Wake, cost, estimate


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        (Span("i", "g4dn.xlarge", 0, 7200), 3600),
        (Span("i", "g4dn.xlarge", 4000, 5000), 1000),
        (Span("i", "g4dn.xlarge", 4000, 4010), 60),  # a minute at least
        (Span("i", "g4dn.xlarge", 5000, None), 2200),  # still awake: up to the end asked for
        (Span("i", "g4dn.xlarge", 0, 3600), 0),
        (Span("i", "g4dn.xlarge", 9000, 9500), 0),
    ],
)
def test_seconds_of_a_span_in_a_window(span: Span, seconds: float) -> None:
    assert span.seconds(3600, 7200) == seconds
    assert cost([span], 3600, 7200) == pytest.approx(seconds / 3600 * 0.526, abs=1e-4)


def test_an_unknown_price_is_unknown_and_not_nothing() -> None:
    spans = [Span("i", "g4dn.xlarge", 0, 60), Span("i", "z9.huge", 0, 60)]
    assert cost(spans, 0, 100) is None
    assert cost(spans, 200, 300) == 0.0


def test_an_estimate_is_made_of_wakes_that_took_longer() -> None:
    wakes = [Wake(0, 20, seconds) for seconds in (10.0, 20.0, 30.0, 40.0, 180.0)]
    now = estimate(wakes, 0)
    assert now is not None
    assert (now.p50, now.p90) == (50.0, 144.0)
    late = estimate(wakes, 100)
    assert late is not None
    assert (late.p50, late.p90) == (100.0, 100.0)
    assert estimate(wakes, 300) is None
    assert estimate([], 0) is None
