from __future__ import annotations

from functools import partial
from pathlib import Path

from fusepkg_cache import Cache, tiers

from tests.unit.cache.blobs import LARGE, SMALL, blob


def test_a_blob_that_was_put_anew_meanwhile_is_not_dropped_as_damaged(tmp_path: Path) -> None:
    digest, data = blob(SMALL)
    with Cache(tmp_path / "cache") as cache:
        cache.put(digest, data)
        cache._session().commits.change(partial(tiers.drop_damaged_small, digest=digest))
        assert cache.get(digest) == data
        assert cache.info().verification_failures == 0


def test_a_file_that_came_back_keeps_its_record(tmp_path: Path) -> None:
    digest, data = blob(LARGE)
    with Cache(tmp_path / "cache") as cache:
        cache.put(digest, data)
        session = cache._session()
        session.commits.change(partial(tiers.drop_record_of_missing, session=session, digest=digest))
        assert cache.info().large_blobs == 1


def test_many_blobs_are_removed_in_several_transactions(tmp_path: Path) -> None:
    blobs = [blob(10, seed) for seed in range(tiers._REMOVED_AT_ONCE + 5)]
    with Cache(tmp_path / "cache") as cache:
        with cache.stage() as stage:
            for digest, data in blobs:
                stage.add(digest, data)
            stage.commit()
        before = cache._session().environment._lmdb().info()["last_txnid"]
        assert cache.clear(digest for digest, _ in blobs).blobs == len(blobs)
        assert cache._session().environment._lmdb().info()["last_txnid"] == before + 2
