"""How long reads have waited, told in classes."""

from __future__ import annotations

import pytest

from fusepkg.fetch.waits import BOUNDS_S, Waits


@pytest.mark.parametrize(
    ("seconds", "p50", "p99"),
    [
        ([], None, None),
        ([0.0], 0.001, 0.001),
        ([0.001, 0.0011], 0.001, 0.002),
        ([0.015] * 98 + [3.0, 4.0], 0.02, 5.0),
        ([1000.0], None, None),
    ],
)
def test_percentiles(seconds: list[float], p50: float | None, p99: float | None) -> None:
    waits = Waits()
    for one in seconds:
        waits.add(one)
    facts = waits.as_dict()
    assert (facts["p50_s"], facts["p99_s"]) == (p50, p99)
    assert sum(waits.counts) == len(seconds)
    assert facts["sum_s"] == pytest.approx(sum(seconds))
    assert len(waits.counts) == len(BOUNDS_S) + 1
