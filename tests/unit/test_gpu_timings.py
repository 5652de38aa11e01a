from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from gpu_bootstrap.timings import REMEMBERED, Arrivals, Lately


def lately(*seconds: float) -> Lately:
    measured = Lately()
    for one in seconds:
        measured.add(one)
    return measured


class TestLately:
    def test_nothing_is_known_before_the_first(self) -> None:
        assert lately().percentile(50) is None

    def test_nearest_rank(self) -> None:
        ten = lately(*(float(number) for number in range(10, 0, -1)))
        assert [ten.percentile(percent) for percent in (0, 50, 90, 95, 100)] == [1.0, 5.0, 9.0, 10.0, 10.0]

    def test_the_old_is_forgotten(self) -> None:
        assert lately(1000.0, *[1.0] * REMEMBERED).percentile(100) == 1.0

    @given(st.lists(st.floats(0, 100), min_size=1, max_size=REMEMBERED))
    def test_the_half_lies_on_either_side_of_the_median(self, seconds: list[float]) -> None:
        found = lately(*seconds).percentile(50)
        assert found is not None
        assert abs(found - statistics.median_low(seconds)) <= 0.0005


class TestArrivals:
    def test_a_second_came_with_the_first_frame_that_reached_it(self) -> None:
        arrivals = Arrivals()
        for received, now in ((0.1, 10.0), (0.2, 11.0), (0.3, 12.0)):
            arrivals.note(received, now)
        assert [arrivals.when(second) for second in (0.05, 0.1, 0.15, 0.3)] == [10.0, 10.0, 11.0, 12.0]

    def test_beyond_the_end_it_is_the_last(self) -> None:
        arrivals = Arrivals()
        arrivals.note(0.1, 10.0)
        assert arrivals.when(0.10001) == 10.0
        assert arrivals.when(5) == 10.0

    def test_nothing_came(self) -> None:
        assert Arrivals().when(0) is None
