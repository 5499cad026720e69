"""The clauses of ``cache/README.md``, one by one.

What each tier does alike is in test_cache_tiers; sharing, bounds and pins in test_cache_sharing; crashes and failing
disks in test_cache_disasters, test_cache_disks and test_cache_power_cuts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache import SMALL_LIMIT_BYTES, Algorithm, Cache, Digest, WrongBytes
from fusepkg_cache.reading import put_large
from fusepkg_cache.records import BLOCK_BYTES, key_of, record_of

from tests.unit.cache.blobs import LARGE, SMALL, blob, flip, spoil_small
from tests.unit.cache.evicting import shrink
from tests.unit.cache.peer import Peer

SIZES = [0, 1, SMALL, SMALL_LIMIT_BYTES, SMALL_LIMIT_BYTES + 1, LARGE]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture(scope="module")
def peers() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


@pytest.fixture
def peer(peers: Peer, cache: Cache) -> Peer:
    """Another process with the same cache open."""
    peers.call("open", str(cache.directory))
    return peers


def file_of(cache: Cache, digest: Digest) -> Path:
    return cache.directory / "v2" / "blobs" / digest.algorithm.value / digest.hex[:2] / digest.hex


def rewrite(path: Path, data: bytes) -> None:
    """Change a file in place; blobs are read-only."""
    path.chmod(0o600)
    path.write_bytes(data)


def damage_small(cache: Cache, data: bytes) -> None:
    """Flip a bit of a small blob in its segment."""
    spoil_small(cache.directory, data)


# --- 1: content-addressed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_1_what_was_put_is_got(cache: Cache, size: int, algorithm: Algorithm) -> None:
    digest, data = blob(size, algorithm=algorithm)
    assert cache.get(digest) is None
    assert digest not in cache
    cache.put(digest, data)
    assert cache.get(digest) == data
    assert digest in cache


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_1_wrong_bytes_are_refused(cache: Cache, size: int) -> None:
    digest, data = blob(size)
    with pytest.raises(WrongBytes):
        cache.put(digest, flip(data, 7))
    assert cache.get(digest) is None
    cache.put(digest, data)
    with pytest.raises(WrongBytes):
        cache.put(digest, flip(data, 7))
    assert cache.get(digest) == data


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_1_the_algorithm_is_part_of_the_key(cache: Cache, size: int) -> None:
    digest, data = blob(size)
    cache.put(digest, data)
    assert cache.get(Digest(Algorithm.SHA2_256_CHUNKED, digest.value)) is None


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_1_one_checksum_in_two_scopes_is_two_blobs(cache: Cache, size: int) -> None:
    plain, data = blob(size, algorithm=Algorithm.CRC64NVME)
    ours, theirs = (Digest(Algorithm.CRC64NVME, plain.computed + scope * 24) for scope in (b"a", b"b"))
    cache.put(ours, data)
    assert cache.get(theirs) is None
    assert cache.get(ours) == data
    cache.put_pieces(theirs, [data])
    assert cache.remove(ours)
    assert cache.read(theirs, 1, 5) == data[1:6]
    assert cache.verify().ok
    with pytest.raises(WrongBytes):
        cache.put(ours, flip(data, 3))
    with pytest.raises(WrongBytes):
        cache.put_pieces(ours, [flip(data, 3)])


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_1_putting_what_is_there_does_nothing(cache: Cache, size: int) -> None:
    digest, data = blob(size)
    cache.put(digest, data)
    changed = cache._directory().index.header().changes
    cache.put(digest, data)
    assert cache._directory().index.header().changes == changed
    assert cache.info().blobs == 1


# --- 2: checked on the way out


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE, 4 * BLOCK_BYTES])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 1), (5, 100), (BLOCK_BYTES - 1, 2), (2 * BLOCK_BYTES, BLOCK_BYTES), (LARGE - 3, 10), (LARGE + 9, 5)],
)
def test_2_a_part_read_is_a_slice(cache: Cache, size: int, offset: int, length: int) -> None:
    digest, data = blob(size)
    assert cache.read(digest, offset, length) is None
    cache.put(digest, data)
    assert cache.read(digest, offset, length) == data[offset : offset + length]


def test_2_negative_places_are_refused(cache: Cache) -> None:
    with pytest.raises(ValueError):
        cache.read(blob(SMALL)[0], -1, 5)
    with pytest.raises(ValueError):
        cache.read(blob(SMALL)[0], 0, -1)


@pytest.mark.parametrize("whole", [True, False])
def test_2_a_damaged_small_blob_is_dropped_and_counted(
    cache: Cache, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    digest, data = blob(SMALL)
    cache.put(digest, data)
    damage_small(cache, data)
    assert (cache.get(digest) if whole else cache.read(digest, SMALL - 5, 5)) is None
    assert digest not in cache
    assert cache.info().verification_failures == 1
    assert cache.info().blobs == cache.info().bytes == 0
    assert "damaged: dropped" in caplog.text
    cache.put(digest, data)
    assert cache.get(digest) == data


@pytest.mark.parametrize("damage", ["bit", "short", "long", "empty"])
def test_2_a_damaged_file_is_dropped_and_counted(cache: Cache, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    digest, data = blob(LARGE)
    cache.put(digest, data)
    damaged = {"bit": flip(data, LARGE - 1), "short": data[:-1], "long": data + b"x", "empty": b""}[damage]
    rewrite(file_of(cache, digest), damaged)
    assert cache.get(digest) is None
    assert digest not in cache
    assert cache.info().verification_failures == 1
    assert cache.info().blobs == cache.info().bytes == 0
    assert "damaged: dropped" in caplog.text
    cache.put(digest, data)
    assert cache.get(digest) == data


def test_2_putting_replaces_a_file_of_the_wrong_size(cache: Cache) -> None:
    digest, data = blob(LARGE)
    cache.put(digest, data)
    rewrite(file_of(cache, digest), data[:-1])
    cache.put(digest, data)
    assert cache.get(digest) == data
    assert cache.info().verification_failures == 0


def test_2_a_part_read_checks_the_blocks_it_touches_only(cache: Cache) -> None:
    digest, data = blob(LARGE)
    cache.put(digest, data)
    rewrite(file_of(cache, digest), flip(data, 2 * BLOCK_BYTES))
    assert cache.read(digest, 0, 2 * BLOCK_BYTES) == data[: 2 * BLOCK_BYTES]
    assert cache.read(digest, 3 * BLOCK_BYTES, LARGE) == data[3 * BLOCK_BYTES :]
    assert cache.info().verification_failures == 0
    assert cache.read(digest, 3 * BLOCK_BYTES - 1, 2) is None
    assert cache.info().verification_failures == 1


def test_2_a_damaged_record_costs_nothing(cache: Cache) -> None:
    digest, data = blob(LARGE)
    cache.put(digest, data)
    other, _ = blob(LARGE, 1)
    opened = cache._directory()
    wrong_ones = [record_of(other, data), record_of(digest, data[:-1]), record_of(digest, flip(data, 5))]
    for wrong in wrong_ones:
        opened.index.change(lambda change, wrong=wrong: put_large(change, opened, digest, wrong))
        assert cache.get(digest) == data
        assert cache.read(digest, 5, 10) == data[5:15]
    assert cache.info().verification_failures == 0
    assert cache.info().bytes == LARGE


# --- 3: invisible until whole


def test_3_a_put_is_seen_by_every_process(cache: Cache, peer: Peer) -> None:
    for size in SIZES:
        ours, theirs = blob(size, 1), blob(size, 2)
        cache.put(*ours)
        assert peer.call("get", ours[0]) == ours[1]
        assert peer.call("__contains__", ours[0]) is True
        peer.call("put", *theirs)
        assert cache.get(theirs[0]) == theirs[1]
        assert theirs[0] in cache


def test_3_what_another_process_has_not_finished_is_not_seen(cache: Cache, peer: Peer) -> None:
    for digest, data in (blob(SMALL), blob(LARGE)):
        peer.call("leave_unfinished", digest, data)
        assert cache.get(digest) is None
        assert digest not in cache


# --- 4: a returned value stays


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_4_a_value_outlives_its_blob_and_the_cache(tmp_path: Path, size: int) -> None:
    digest, data = blob(size)
    with Cache(tmp_path / "cache") as cache:
        cache.put(digest, data)
        got = cache.get(digest)
        cache.clear()
        for seed in range(20):
            cache.put(*blob(size, seed + 1))
    shutil.rmtree(tmp_path / "cache")
    assert got == data


# --- 6: disposable (damage of the index: tests/unit/cache/test_index.py)


def test_6_large_blobs_survive_the_loss_of_everything_else(tmp_path: Path) -> None:
    small, large = blob(SMALL), blob(LARGE)
    with Cache(tmp_path / "cache") as cache:
        cache.put(*small)
        cache.put(*large)
    for path in (tmp_path / "cache" / "v2").iterdir():
        if path.name != "blobs":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with Cache(tmp_path / "cache") as cache:
        assert large[0] in cache
        assert cache.read(large[0], 70_000, 10) == large[1][70_000:70_010]
        assert cache.get(small[0]) is None
        assert cache.info().blobs == 1
        assert cache.info().bytes == LARGE


def test_6_a_found_file_is_checked_before_a_byte_of_it_is_given_out(tmp_path: Path) -> None:
    digest, data = blob(LARGE)
    with Cache(tmp_path / "cache") as cache:
        cache.put(digest, data)
    (tmp_path / "cache" / "v2" / "index").unlink()
    shutil.rmtree(tmp_path / "cache" / "v2" / "segments")  # with the file's block sums: only its hash can tell
    rewrite(file_of(cache, digest), flip(data, LARGE - 1))
    with Cache(tmp_path / "cache") as cache:
        assert cache.read(digest, 0, 10) is None
        assert not file_of(cache, digest).exists()


def test_6_a_vanished_file_is_a_miss_and_its_record_is_dropped(cache: Cache) -> None:
    digest, data = blob(LARGE)
    cache.put(digest, data)
    file_of(cache, digest).unlink()
    assert digest not in cache
    assert cache.read(digest, 0, 10) is None
    assert cache.info().blobs == cache.info().verification_failures == 0
    cache.put(digest, data)
    assert cache.get(digest) == data


@pytest.mark.parametrize("what", ["v2", "v2/index", "v2/segments", "v2/blobs", "v2/staging", "v2/lock", "v2/VERSION"])
def test_6_parts_of_the_directory_vanish(cache: Cache, what: str) -> None:
    small, large = blob(SMALL), blob(LARGE)
    cache.put(*small)
    cache.put(*large)
    path = cache.directory / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert cache.get(small[0]) in (small[1], None)
    assert cache.get(large[0]) in (large[1], None)
    cache.put(*small)
    cache.put(*large)
    cache.put(*blob(LARGE, 2))
    assert cache.get(small[0]) == small[1]
    assert cache.get(large[0]) == large[1]


def test_6_verify_finds_and_repairs(cache: Cache) -> None:
    blobs = [blob(size, seed) for size in (SMALL, LARGE) for seed in range(4)]
    for digest, data in blobs:
        cache.put(digest, data)
    assert cache.verify().ok
    damage_small(cache, blobs[0][1])
    rewrite(file_of(cache, blobs[4][0]), flip(blobs[4][1], 9))
    file_of(cache, blobs[5][0]).unlink()
    lost = blobs[6][0]
    cache._directory().index.change(lambda change: change.drop(key_of(lost)))
    done: list[tuple[int, int]] = []
    found = cache.verify(progress=lambda now, there_are: done.append((now, there_are)))
    assert not found.ok
    assert set(found.damaged) == {blobs[0][0], blobs[4][0]}
    assert found.missing == (blobs[5][0],)
    assert found.unrecorded == (lost,)
    assert found.blobs == 7
    assert found.bytes == 4 * SMALL + 3 * LARGE
    assert done[-1] == (found.bytes, found.bytes)
    assert blobs[0][0] in cache  # only told
    repaired = cache.verify(repair=True)
    assert repaired.repaired
    assert set(repaired.damaged) == set(found.damaged)
    again = cache.verify()
    assert again.ok
    assert again.missing == again.unrecorded == ()
    assert cache.info().blobs == again.blobs == 5
    assert cache.info().bytes == again.bytes
    assert cache.info().verification_failures == 2


# --- 8 and 9: see tests/unit/cache/test_layout.py


def test_8_nobody_else_can_look_in(cache: Cache) -> None:
    cache.put(*blob(SMALL))
    cache.put(*blob(LARGE))
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    assert (cache.directory / "v2").stat().st_mode & 0o777 == 0o700
    assert file_of(cache, blob(LARGE)[0]).stat().st_mode & 0o777 == 0o400


def test_8_a_second_user_is_refused_and_the_first_is_not_disturbed(cache: Cache) -> None:
    """A child of another user has the directory's name, and is let through to it: what protects is the owner check."""
    if os.geteuid():
        pytest.skip("needs root, to become another user")
    digest, data = blob(SMALL)
    cache.put(digest, data)
    temporary = Path(tempfile.gettempdir())
    above = [path for path in cache.directory.parents if temporary in path.parents]
    for path in (cache.directory, *above):
        path.chmod(0o755)
    try:
        other = subprocess.run(
            [sys.executable, "-c", SECOND_USER, str(cache.directory)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for path in (cache.directory, *above):
            path.chmod(0o700)
    assert "it belongs to user 0, not 65534" in other.stdout
    assert cache.get(digest) == data
    assert cache.info().errors == 0


SECOND_USER = """
import os, sys
from pathlib import Path
from fusepkg_cache import Cache, CacheUnusable

os.setgroups([])
os.setegid(65534)
os.seteuid(65534)
try:
    Cache(Path(sys.argv[1]))
except CacheUnusable as exc:
    print(exc.message)
"""


# --- beside the clauses


def test_blobs_of_an_unknown_hash_are_left_alone(cache: Cache) -> None:
    """As a newer program may put them."""
    with pytest.raises(ValueError):
        Algorithm("blake3")
    foreign = cache.directory / "v2" / "blobs" / "blake3" / "ab" / ("ab" * 32)
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"of a newer program")
    cache._directory().index.change(lambda change: change.put_small(b"\x7f" + bytes(32), 1, 8, 5))
    cache.put(*blob(SMALL))
    cache.put(*blob(LARGE))
    found = cache.verify(repair=True)
    assert found.ok
    assert found.blobs == 2
    assert cache.get(blob(SMALL)[0]) == blob(SMALL)[1]
    shrink(cache, 0)  # what counts can be evicted
    assert cache.info().blobs == cache.info().bytes == 0
    assert foreign.exists()


def test_info_tells_both_tiers(cache: Cache) -> None:
    for seed in range(3):
        cache.put(*blob(SMALL, seed))
    cache.put(*blob(LARGE))
    info = cache.info()
    assert info.directory == cache.directory
    assert (info.small_blobs, info.small_bytes) == (3, 3 * SMALL)
    assert (info.large_blobs, info.large_bytes) == (1, LARGE)
    assert (info.blobs, info.bytes) == (4, 3 * SMALL + LARGE)
    assert (info.layout_version, info.verification_failures, info.errors) == (2, 0, 0)


def test_caches_with_different_limits_share_a_directory(tmp_path: Path) -> None:
    digest, data = blob(SMALL)
    with Cache(tmp_path / "cache", small_limit_bytes=0) as files, Cache(tmp_path / "cache") as both:
        files.put(digest, data)
        assert file_of(files, digest).exists()
        assert both.get(digest) == data
        both.put(digest, data)
        assert both.remove(digest)
        assert files.get(digest) is None
    with pytest.raises(ValueError):
        Cache(tmp_path / "cache", small_limit_bytes=2 << 20)


def test_a_relative_directory_is_kept_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digest, data = blob(LARGE)
    with Cache(Path("cache")) as cache:
        os.chdir("/")
        cache.put(digest, data)
        assert cache.get(digest) == data
    assert (tmp_path / "cache" / "v2").is_dir()


def test_1_a_blob_put_whole_and_in_pieces_counts_once(cache: Cache) -> None:
    digest, data = blob(SMALL)
    cache.put(digest, data)
    cache.put_pieces(digest, [data])
    assert (cache.info().blobs, cache.info().bytes) == (1, len(data))
    assert cache.clear().blobs == 1
