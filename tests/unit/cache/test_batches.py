"""Many blobs at once: ``get_many``, ``put_many``, ``claim_many``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import Cache, Verified, WrongBytes, verified

from tests.unit.cache.blobs import LARGE, SMALL, blob, flip

BLOBS = [blob(size, seed) for seed in range(5) for size in (0 + seed, SMALL, LARGE)]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def test_what_was_put_together_is_got_together_in_order(cache: Cache) -> None:
    assert cache.get_many([digest for digest, _ in BLOBS]) == [None] * len(BLOBS)
    cache.put_many(verified(*each) for each in BLOBS)
    cache.put_many([verified(*BLOBS[0]), verified(*BLOBS[0]), verified(*BLOBS[2]), verified(*BLOBS[2])])
    absent = blob(SMALL, 99)[0]
    asked = [absent, *(digest for digest, _ in reversed(BLOBS)), absent]
    assert cache.get_many(asked) == [None, *(data for _, data in reversed(BLOBS)), None]
    assert (cache.info().blobs, cache.info().bytes) == (len(BLOBS), sum(len(data) for _, data in BLOBS))
    assert cache.info().misses == len(BLOBS) + 2
    assert cache.verify().ok


def test_nothing_is_verified_by_saying_so() -> None:
    digest, data = BLOBS[1]
    with pytest.raises(TypeError):
        Verified(digest, data)
    with pytest.raises(WrongBytes):
        verified(digest, flip(data, 3))
    assert (verified(digest, data).digest, verified(digest, data).data) == (digest, data)


def test_a_batch_claims_what_nobody_else_has(cache: Cache) -> None:
    digests = [digest for digest, _ in BLOBS]
    with cache.claim_many(digests[:4]) as ours:
        assert ours.taken == digests[:4]
        assert ours.others == []
        with cache.claim_many([*digests[2:6], digests[5]]) as theirs:
            assert theirs.taken == digests[4:6]
            assert theirs.others == digests[2:4]
        ours.beat()
        ours.release([digests[0]])
        with cache.claim(digests[0]) as one, cache.claim(digests[1]) as two:
            assert one.take()
            assert not two.take()
    with cache.claim_many(digests) as again:
        assert again.taken == digests
