"""What top shows of two looks at a mount."""

from __future__ import annotations

import pytest

from fusepkg.cli.top import rates_between
from fusepkg.daemon.observed import Observed
from fusepkg.fetch.counters import Counters
from tests.command import Fusepkg
from tests.unit.metrics.test_exposition import mount


def look(**counters: int) -> Observed:
    return Observed(mount("a"), {"counters": Counters(**counters).as_dict()})


def test_rates_are_what_was_added_between_two_looks() -> None:
    before = look(served_bytes=100, cache_hits=10, cache_misses=10, fetched_bytes=50, fetched_objects=5)
    now = look(served_bytes=300, cache_hits=13, cache_misses=11, fetched_bytes=60, fetched_objects=9, failed_fetches=2)
    rates = rates_between(before, now, 2.0)
    assert (rates.served_bytes_s, rates.fetched_bytes_s, rates.fetched_objects_s) == (100, 5, 2)
    assert (rates.hits, rates.failed) == (0.75, 2)


@pytest.mark.parametrize("before", [None, look(served_bytes=900, cache_hits=9), Observed(mount("a"), None)])
def test_a_mount_that_began_meanwhile_has_no_rates_below_nothing(before: Observed | None) -> None:
    rates = rates_between(before, look(served_bytes=100), 1.0)
    assert rates.served_bytes_s >= 0
    assert rates.hits is None


def test_other_people_s_mounts_do_not_hinder_it(fusepkg: Fusepkg) -> None:
    assert fusepkg("top", "--once", "--interval", "0.1").stdout.startswith("PACKAGE\tREAD/s")
    assert fusepkg("top", "--json", "--interval", "0.1").stdout.startswith("[")
    assert fusepkg("top", "--interval", "0", check=False).returncode == 2
