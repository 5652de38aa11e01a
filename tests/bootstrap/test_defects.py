"""Every known defect: there in stock WhisperLive, gone in ours, by the same look at two real processes.

`make defects` writes what was seen into docs/defects.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.defects.probe import Probe
from bench.defects.rows import ROWS, look
from bench.servers import Server, running


@pytest.fixture(scope="module")
def stock() -> Iterator[Server]:
    with running("stock") as server:
        yield server


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with running("ours") as server:
        yield server


def test_every_row_of_the_list_has_its_probe() -> None:
    assert [row.row for row in ROWS] == [*"12345", "5b", *"6789", *(str(number) for number in range(10, 18))]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.row, marks=[pytest.mark.slow] if row.slow else []) for row in ROWS]
)
def test_stock_has_it_and_ours_has_not(row: Probe, stock: Server, ours: Server) -> None:
    in_ours = look(row, "ours", ours)
    assert not in_ours.present, f"ours: {row.defect}: {in_ours.evidence}"
    in_stock = look(row, "stock", stock)
    assert in_stock.present, f"stock no longer has it, or the probe is blind: {row.defect}: {in_stock.evidence}"
