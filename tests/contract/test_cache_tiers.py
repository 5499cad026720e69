"""What every tier of the cache does alike: segments, files, a lower cache, and all of them as one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, Digest
from fusepkg_cache.digest import DIGEST_BYTES

from tests.unit.cache.blobs import LARGE, SMALL, blob, flip, spoil_small
from tests.unit.cache.evicting import shrink
from tests.unit.cache.forks import ended, forked

SIZES = [0, 1, SMALL, LARGE]


def file_of(directory: Path, digest: Digest) -> Path:
    return directory / "v2" / "blobs" / digest.algorithm.value / digest.hex[:2] / digest.hex


class Tier:
    """A cache whose blobs lie in one tier: ``give`` puts one there, ``spoil`` flips a bit of it, ``lose`` takes it."""

    def __init__(self, directory: Path) -> None:
        self.cache = self.opened(directory)

    @abstractmethod
    def opened(self, directory: Path) -> Cache: ...

    def give(self, digest: Digest, data: bytes) -> None:
        self.cache.put(digest, data)

    @abstractmethod
    def spoil(self, digest: Digest, data: bytes) -> None: ...

    def lose(self, digest: Digest) -> None:
        self.cache.remove(digest)

    def close(self) -> None:
        self.cache.close()


class Small(Tier):
    """Segments."""

    def opened(self, directory: Path) -> Cache:
        return Cache(directory / "cache", small_limit_bytes=1 << 20)

    def spoil(self, digest: Digest, data: bytes) -> None:
        spoil_small(self.cache.directory, data)


class Large(Tier):
    """Files."""

    def opened(self, directory: Path) -> Cache:
        return Cache(directory / "cache", small_limit_bytes=0)

    def spoil(self, digest: Digest, data: bytes) -> None:
        path = file_of(self.cache.directory, digest)
        path.chmod(0o600)
        path.write_bytes(flip(data, len(data) // 2))


class Lower(Tier):
    """Another cache's directory, which is only read."""

    def opened(self, directory: Path) -> Cache:
        self.below = Cache(directory / "below", small_limit_bytes=0)
        return Cache(directory / "cache", lower=directory / "below")

    def give(self, digest: Digest, data: bytes) -> None:
        self.below.put(digest, data)

    def spoil(self, digest: Digest, data: bytes) -> None:
        Large.spoil(self, digest, data) if digest in self.cache else self._spoil_below(digest, data)

    def _spoil_below(self, digest: Digest, data: bytes) -> None:
        path = file_of(self.below.directory, digest)
        path.chmod(0o600)
        path.write_bytes(flip(data, len(data) // 2))

    def lose(self, digest: Digest) -> None:
        self.below.remove(digest)
        self.cache.remove(digest)

    def close(self) -> None:
        super().close()
        self.below.close()


class Whole(Lower):
    """All of them, with the limit that is usual; every other blob lies below."""

    def give(self, digest: Digest, data: bytes) -> None:
        if digest.value[0] % 2:
            super().give(digest, data)
        else:
            self.cache.put(digest, data)

    def spoil(self, digest: Digest, data: bytes) -> None:
        if digest not in self.cache:
            self._spoil_below(digest, data)
        elif file_of(self.cache.directory, digest).exists():
            Large.spoil(self, digest, data)
        else:
            spoil_small(self.cache.directory, data)


@pytest.fixture(params=[Small, Large, Lower, Whole])
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tier]:
    tier: Tier = request.param(tmp_path)
    yield tier
    tier.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_1_what_was_given_is_got_and_nothing_else(tier: Tier, size: int, algorithm: Algorithm) -> None:
    for seed in range(2):
        digest, data = blob(size, seed, algorithm)
        others = [Digest(other, digest.value) for other in Algorithm if other is not algorithm]
        if algorithm.weak:
            others.append(Digest(algorithm, (digest.computed + b"another scope, 24 bytes.")[:DIGEST_BYTES]))
        assert tier.cache.get(digest) is None or size == 0
        tier.give(digest, data)
        assert tier.cache.get(digest) == data
        assert tier.cache.get(digest) == data  # where it lies by now
        assert [tier.cache.get(other) for other in others] == [None] * len(others)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, 1), (5, 100), (65_535, 2), (LARGE - 3, 10), (LARGE + 9, 5)])
def test_2_a_part_read_is_a_slice(tier: Tier, size: int, offset: int, length: int) -> None:
    digest, data = blob(size)
    tier.give(digest, data)
    for _ in range(2):
        assert tier.cache.read(digest, offset, length) == data[offset : offset + length]


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("read_before", [False, True])
def test_2_spoiled_bytes_are_never_given_out(tier: Tier, size: int, read_before: bool) -> None:
    for seed in range(4):
        digest, data = blob(size if size > 1 else 100, seed)
        tier.give(digest, data)
        if read_before:
            tier.cache.get(digest)
        if read_before and isinstance(tier, Lower):
            continue  # two copies: the other one is right
        tier.spoil(digest, data)
        assert tier.cache.read(digest, 0, len(data)) is None
        assert tier.cache.get(digest) is None
        tier.cache.put(digest, data)
        assert tier.cache.get(digest) == data


def test_2_a_spoiled_copy_is_replaced_by_a_sound_one(tmp_path: Path) -> None:
    tier = Lower(tmp_path)
    digest, data = blob(LARGE)
    tier.give(digest, data)
    assert tier.cache.get(digest) == data
    tier.spoil(digest, data)
    assert tier.cache.get(digest) == data
    assert tier.cache.info().verification_failures == 1
    assert tier.cache.verify().ok
    tier.close()


@pytest.mark.parametrize("size", SIZES)
def test_4_a_value_outlives_its_blob(tier: Tier, size: int) -> None:
    digest, data = blob(size)
    tier.give(digest, data)
    got = tier.cache.get(digest)
    tier.cache.clear()
    tier.lose(digest)
    assert tier.cache.get(digest) is None
    assert got == data


def test_5_a_forked_child_finds_what_its_parent_gives(tier: Tier) -> None:
    blobs = [blob(size, seed) for size in SIZES for seed in range(2)]
    tier.cache.get(blobs[0][0])
    for digest, data in blobs:
        tier.give(digest, data)

    def finds_all() -> bool:
        return all(tier.cache.get(digest) == data for digest, data in blobs) and tier.cache.info().errors == 0

    children = [forked(finds_all) for _ in range(2)]
    assert finds_all()
    assert [ended(child) for child in children] == [0, 0]


def test_5_many_threads(tier: Tier) -> None:
    blobs = [blob(size, seed) for size in SIZES[2:] for seed in range(10)]

    def work(number: int) -> None:
        for step in range(len(blobs)):
            digest, data = blobs[(number * 7 + step) % len(blobs)]
            assert tier.cache.get(digest) in (data, None)
            tier.give(digest, data)
            assert tier.cache.read(digest, 100, 1000) in (data[100:1100], None)
            if step % 5 == 0:
                tier.lose(digest)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, number) for number in range(4)]:
            future.result()
    assert tier.cache.verify().ok
    assert tier.cache.info().verification_failures == tier.cache.info().errors == 0


def test_11_all_can_be_evicted_and_what_lies_below_is_found_again(tier: Tier) -> None:
    blobs = [blob(size, seed) for size in SIZES for seed in range(2)]
    for digest, data in blobs:
        tier.give(digest, data)
        assert tier.cache.get(digest) == data
    shrink(tier.cache, 0)
    assert tier.cache.info().bytes == 0
    for digest, data in blobs:
        below = isinstance(tier, Lower) and digest in tier.below
        assert tier.cache.get(digest) == (data if below else None) or not data


def test_hits_are_counted_where_they_were(tier: Tier) -> None:
    blobs = [blob(size, seed) for size in SIZES[1:] for seed in range(4)]
    for digest, data in blobs:
        tier.give(digest, data)
    below = [digest for digest, _ in blobs if isinstance(tier, Lower) and digest not in tier.cache]
    for digest, data in blobs:
        assert tier.cache.get(digest) == data
    info = tier.cache.info()
    assert info.misses == info.lower_hits == len(below)
    assert info.small_hits + info.large_hits == len(blobs)
    assert (info.small_hits == 0) is isinstance(tier, Large)
    assert (info.large_hits == 0) is isinstance(tier, Small)
