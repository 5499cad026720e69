"""What a datapool chooses is what choosing the plain way, all distances each time, would choose."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusepkg.pool import farthest
from fusepkg.pool.choose import OTHERS, choose

CLASSES = ["car", "bus", "tram"]


def plainly(
    candidates: np.ndarray,
    before: np.ndarray,
    min_distance: float,
    at_most: int | None,
    classes: list[str],
    shares: dict[str, float],
    counts_before: dict[str, int],
) -> list[int]:
    """The definition, a step at a time."""
    centres = list(before.astype(np.float64))
    counts, chosen = Counter(counts_before), []
    of = [name if name in shares else OTHERS for name in classes]
    share = {**shares, OTHERS: max(0.0, 1 - sum(shares.values()))}

    def distance(row: int) -> float:
        differences = [candidates[row].astype(np.float64) - centre for centre in centres]
        squares = [float((one * one).sum()) for one in differences]
        return float(np.sqrt(round(min(squares), 12))) if squares else float("inf")

    while at_most is None or len(chosen) < at_most:
        far = {row: distance(row) for row in range(len(candidates)) if row not in chosen and share[of[row]] > 1e-9}
        far = {row: found for row, found in far.items() if found > min_distance}
        if not far:
            break
        total = len(before) + len(chosen) + 1
        group = min({of[row] for row in far}, key=lambda name: (counts[name] - share[name] * total, name))
        row = max((one for one in far if of[one] == group), key=lambda one: (far[one], -one))
        chosen.append(row)
        counts[group] += 1
        centres.append(candidates[row].astype(np.float64))
    return chosen


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[str]]:
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, old, dimension = draw(st.integers(1, 40)), draw(st.integers(0, 8)), draw(st.integers(1, 5))
    if draw(st.booleans()):
        found = numbers.integers(0, 3, (count + old, dimension)).astype(np.float32)  # many alike, many as far
    else:
        found = numbers.normal(size=(count + old, dimension)).astype(np.float32)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    found = (found / np.where(norms > 0, norms, 1)).astype(np.float32)
    return found[:count], found[count:], [CLASSES[one] for one in numbers.integers(0, 3, count)]


@settings(max_examples=60, deadline=None)
@given(
    case=cases(),
    min_distance=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    at_most=st.one_of(st.none(), st.integers(0, 12)),
    shares=st.sampled_from([{}, {"car": 0.5, "bus": 0.5}, {"car": 0.2}, {"car": 0.0, "bus": 0.3, "tram": 0.1}]),
    batch=st.sampled_from([1, 2, 7, 256]),
)
@example(case=(np.zeros((3, 2), np.float32), np.zeros((0, 2), np.float32), ["car"] * 3), min_distance=0.0,
         at_most=None, shares={}, batch=1)  # fmt: skip
def test_against_the_definition(case, min_distance, at_most, shares, batch) -> None:
    candidates, before, classes = case
    counts_before = {"car": len(before)} if "car" in shares else {OTHERS: len(before)}
    original = farthest._BATCH
    farthest._BATCH = batch
    try:
        found = choose(
            candidates,
            before,
            min_distance=min_distance,
            at_most=at_most,
            classes=classes,
            shares=shares,
            counts_before=counts_before,
        )
    finally:
        farthest._BATCH = original
    expected = plainly(candidates, before, min_distance, at_most, classes, shares, counts_before)
    assert [one.row for one in found] == expected
    assert all(one.distance > min_distance for one in found)
