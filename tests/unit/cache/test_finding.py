"""An index that was lost is made again from segments and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, Digest, compute_digest, verified
from fusepkg_cache.records import key_of
from fusepkg_cache.segment_format import ALIGN_BYTES, HEADER_BYTES, blob_record

from tests.unit.cache.blobs import LARGE, SMALL, blob, flip

BLOBS = [blob(SMALL, seed, algorithm) for seed, algorithm in enumerate([*Algorithm] * 3)] + [blob(LARGE)]


def lose_index(directory: Path) -> None:
    (directory / "v2" / "index").unlink()


def counted(cache: Cache) -> None:
    while cache._directory().bound.step() or not cache.info().complete:
        pass


def test_all_that_was_kept_is_found_again_but_what_was_removed(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache") as cache:
        cache.put_many([verified(*each) for each in BLOBS])
        assert cache.remove(BLOBS[2][0])
        before = cache.info()
    lose_index(tmp_path / "cache")
    with Cache(tmp_path / "cache") as cache:
        counted(cache)
        assert cache.get_many([digest for digest, _ in BLOBS]) == [
            None if number == 2 else data for number, (_, data) in enumerate(BLOBS)
        ]
        after = cache.info()
        assert (after.bytes, after.blobs) == (before.bytes, before.blobs)
        assert cache.verify().ok
        assert not cache.verify().unrecorded


def test_a_record_inside_a_blobs_bytes_is_never_believed(tmp_path: Path) -> None:
    """Somebody publishes a file that looks like a record of other files, and the header before it is damaged."""
    strong, weak = blob(100)[0], blob(100, algorithm=Algorithm.CRC64NVME)[0]
    lies = [b"".join(blob_record(digest, key_of(digest), b"not these bytes!")) for digest in (strong, weak)]
    bait = bytes(-HEADER_BYTES % ALIGN_BYTES) + b"".join(lies) + bytes(1000)
    sound: tuple[Digest, bytes] = blob(SMALL, 9)
    weak_sound = blob(SMALL, 9, Algorithm.CRC64NVME)
    with Cache(tmp_path / "cache") as cache:
        carrier = verified(compute_digest(Algorithm.SHA2_256, bait), bait)
        cache.put_many([carrier, verified(*sound), verified(*weak_sound)])
    (segment,) = (tmp_path / "cache" / "v2" / "segments").iterdir()
    segment.write_bytes(flip(segment.read_bytes(), 8 + 20))  # in the carrier's header
    lose_index(tmp_path / "cache")
    with Cache(tmp_path / "cache") as cache:
        counted(cache)
        assert cache.get(strong) is None
        assert cache.get(weak) is None
        assert cache.get(sound[0]) == sound[1], "hashed in full, and believed"
        assert cache.get(weak_sound[0]) is None


@pytest.mark.parametrize("at", [0, 3, 30, 50])
def test_damage_of_one_record_loses_no_strong_one(tmp_path: Path, at: int) -> None:
    strong = [blob(SMALL, seed) for seed in range(5)]
    with Cache(tmp_path / "cache") as cache:
        cache.put_many([verified(*each) for each in strong])
        entry = cache._directory().index.find(key_of(strong[2][0]))
        assert entry is not None
    (segment,) = (tmp_path / "cache" / "v2" / "segments").iterdir()
    segment.write_bytes(flip(segment.read_bytes(), entry.offset + at))
    lose_index(tmp_path / "cache")
    with Cache(tmp_path / "cache") as cache:
        counted(cache)
        assert [cache.get(digest) == data for digest, data in strong] == [True, True, False, True, True]
