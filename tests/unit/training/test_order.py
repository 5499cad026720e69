from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.errors import UsageError
from fusepkg.training.order import UNEVEN, Order


@given(
    count=st.integers(1, 50), world=st.integers(1, 8), shuffle=st.booleans(), uneven=st.sampled_from(UNEVEN),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_ranks_share_an_epoch(count: int, world: int, shuffle: bool, uneven: str, epoch: int) -> None:
    ranks = [Order(count, shuffle, 7, rank, world, uneven).epoch(epoch) for rank in range(world)]
    given_out = Counter(number for rank in ranks for number in rank)
    sizes = {len(rank) for rank in ranks}
    if uneven == "keep":
        assert given_out == Counter(range(count))
    elif uneven == "drop":
        assert sizes == {count // world}
        assert all(times == 1 for times in given_out.values())
    else:
        assert sizes == {-(-count // world)}
        assert set(given_out) == set(range(count))


def test_an_order_is_the_same_everywhere_and_another_in_each_epoch() -> None:
    assert list(Order(8, shuffle=True, seed=3).epoch(0)) == [3, 7, 2, 5, 1, 0, 4, 6]  # on every machine and Python
    orders = {tuple(Order(20, shuffle=True, seed=seed).epoch(epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert list(Order(5).epoch(4)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("wrong", [{"rank": 2, "world": 2}, {"rank": -1}, {"uneven": "share"}])
def test_what_makes_no_order(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Order(5, **wrong)  # type: ignore[arg-type]
