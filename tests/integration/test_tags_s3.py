"""Tags on a real S3 server: who moves one first has moved it, in buckets with and without versioning."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusepkg.errors import TagConflict
from fusepkg.registry import layout
from fusepkg.registry.catalogue import list_packages
from fusepkg.registry.tags import TagMove, TagState, move_tag, read_tag, roll_back, tag_history
from fusepkg.store.s3 import S3Settings, S3Store
from tests.proxy import Proxy
from tests.rgw import Gateway

PUBLISHERS = 6

pytestmark = pytest.mark.s3


@pytest.fixture(params=[False, True], ids=["unversioned", "versioned"])
def bucket(request: pytest.FixtureRequest, s3: Gateway) -> str:
    return s3.bucket(versioned=request.param)


def test_of_racing_publishers_one_wins_and_the_others_are_told_both_hashes(bucket: str) -> None:
    stores = [S3Store(bucket, S3Settings()) for _ in range(PUBLISHERS)]
    barrier = threading.Barrier(PUBLISHERS, timeout=60)
    state: TagState | None = None
    for turn in range(1, 5):

        def publish(number: int, turn: int = turn, state: TagState | None = state) -> TagMove | TagConflict:
            read_tag(stores[number], "ns/data", "latest")  # connected
            barrier.wait()
            try:
                return move_tag(stores[number], "ns/data", "latest", f"{turn * 100 + number:064x}", state)
            except TagConflict as conflict:
                return conflict

        with ThreadPoolExecutor(PUBLISHERS) as threads:
            results = list(threads.map(publish, range(PUBLISHERS)))
        moves = [result for result in results if isinstance(result, TagMove)]
        assert len(moves) == 1
        for number, result in enumerate(results):
            if isinstance(result, TagConflict):
                assert moves[0].top_hash in result.message
                assert f"{turn * 100 + number:064x}" in result.message
        state = moves[0].state
        assert state.number == turn
        assert tag_history(stores[0], "ns/data", "latest")[0] == moves[0]


def test_rolling_back_and_pushing_on(bucket: str) -> None:
    store = S3Store(bucket, S3Settings())
    hashes = [f"{number:064x}" for number in (1, 2, 3)]
    state = None
    for top_hash in hashes:
        store.create(layout.manifest_key("ns/data", top_hash), b"{}")
        state = move_tag(store, "ns/data", "latest", top_hash, state).state
    back = roll_back(store, "ns/data", "latest")
    assert (back.top_hash, back.number) == (hashes[1], 4)
    with pytest.raises(TagConflict, match=hashes[1]):
        move_tag(store, "ns/data", "latest", hashes[2], state)  # by one who looked before
    assert [move.top_hash for move in tag_history(store, "ns/data", "latest")] == [hashes[1], *hashes[::-1]]


def test_names_are_listed_without_their_versions(proxy: Proxy, s3: Gateway) -> None:
    bucket = s3.bucket()
    store = S3Store(bucket, S3Settings())
    keys = [layout.manifest_key("ns/ours", f"{number:064x}") for number in range(20)]
    keys += [f".quilt/named_packages/ns/theirs/{1_700_000_000 + number}" for number in range(20)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: s3.s3.put_object(Bucket=bucket, Key=key, Body=b""), keys))
    list(store.list("", limit=1))
    proxy.forget()
    assert list_packages(store) == ["ns/ours", "ns/theirs"]
    assert proxy.operations() == ["ListObjects"] * 4
    assert all(request.query["delimiter"] == "/" for request in proxy.requests)
