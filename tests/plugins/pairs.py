"""Leaves out half of the pairs of place and engine: below the engines all is one code, and so it is above the stores.

A test that asks for both runs at both places and with both engines, but not at each place with each engine. Half of the
tests, chosen by name, see S3 with fuse and local with erofs, the others the other two pairs; those over the one big
mount see the first two. ``--all-pairs`` runs all.
"""

from __future__ import annotations

from collections import defaultdict
from zlib import crc32

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-pairs", action="store_true", help="each place with each engine (tests/mount)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all-pairs"):
        return
    pairs: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for item in items:
        if pair := _pair(item):
            pairs[_test(item)].add(pair)
    left_out = set()
    for item in items:
        pair = _pair(item)
        if pair and len(pairs[_test(item)]) == 4 and ((pair[0] == "s3") == (pair[1] == "fuse")) != _s3_with_fuse(item):
            left_out.add(item)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _pair(item: pytest.Item) -> tuple[str, str] | None:
    """The place and the engine of a test, where it has both."""
    params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    place, engine = params.get("place", params.get("big_place")), params.get("engine", params.get("big"))
    return (place, engine) if isinstance(place, str) and isinstance(engine, str) else None


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _s3_with_fuse(item: pytest.Item) -> bool:
    return item.callspec.params.get("big") is not None or crc32(_test(item).encode()) % 2 == 0  # type: ignore[attr-defined]
