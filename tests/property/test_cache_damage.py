"""Damage at random places of any file below a cache directory, while readers compare every byte.

It costs misses, never wrong bytes, nor an exception out of a read, nor a cache that cannot be opened.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Cache, CacheUnusable, Digest, verified

from tests.unit.cache.blobs import LARGE, SMALL, blob

BLOBS = [
    blob(size, seed, algorithm)
    for seed, algorithm in enumerate([Algorithm.SHA2_256, Algorithm.SHA2_256_CHUNKED, Algorithm.CRC64NVME] * 5)
    for size in (100 + seed, SMALL, LARGE)
]
ROUNDS = 20
DAMAGES = ["bit", "bits", "cut", "emptied", "longer", "garbage", "gone", "a directory"]


def damage(directory: Path, chance: random.Random) -> str:
    """Do something to a file; what."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    if not files:
        return "nothing is left"
    path, kind = chance.choice(files), chance.choice(DAMAGES)
    if chance.random() < 0.3:  # the few files that all others depend on
        path = directory / "v2" / chance.choice(["index", "index", "VERSION", "lock"])
        if not path.is_file():
            return f"{path} is not there"
    path.chmod(0o600)
    size = path.stat().st_size
    if kind in ("gone", "a directory"):
        path.unlink()
        if kind == "a directory" and path.parent.name != "v2":  # there it is another's, and refused
            path.mkdir()
    elif kind in ("cut", "emptied"):
        os.truncate(path, chance.randrange(size + 1) if kind == "cut" else 0)
    else:
        with path.open("r+b") as file:
            for _ in range(20 if kind == "bits" else 1):
                place = chance.randrange(size + 1)
                if path.name == "index" and chance.random() < 0.7:  # most of it is a hole
                    place = chance.choice([chance.randrange(300), 4096, max(0, size - 1 - chance.randrange(8192))])
                file.seek(size if kind == "longer" else place)
                byte = file.read(1) or b"\0"
                file.seek(size if kind == "longer" else place)
                flipped = bytes([byte[0] ^ 1 << chance.randrange(8)])
                file.write(chance.randbytes(chance.randrange(1, 9000)) if kind in ("garbage", "longer") else flipped)
    return f"{kind} of {path}"


class Readers:
    """Threads that read and put until they are stopped."""

    def __init__(self, cache: Cache, seed: int) -> None:
        self._cache = cache
        self._stop = threading.Event()
        self.wrong: list[str] = []
        self.reads = 0
        self._threads = [threading.Thread(target=self._work, args=(random.Random(seed * 10 + n),)) for n in range(2)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            try:
                self._look(chance)
            except Exception as exc:  # noqa: BLE001  # whatever it is, it is the finding
                self.wrong.append(f"{type(exc).__name__}: {exc}")
                return

    def _look(self, chance: random.Random) -> None:
        digest, data = chance.choice(BLOBS)
        offset, length = chance.randrange(len(data)), chance.randrange(1, 100_000)
        compare(self.wrong, digest, self._cache.get(digest), data)
        compare(self.wrong, digest, self._cache.read(digest, offset, length), data[offset : offset + length])
        several = chance.sample(BLOBS, 5)
        for (name, whole), found in zip(several, self._cache.get_many([name for name, _ in several]), strict=True):
            compare(self.wrong, name, found, whole)
        self.reads += 7


def compare(wrong: list[str], digest: Digest, found: bytes | None, right: bytes) -> None:
    if found is not None and found != right:
        wrong.append(f"{digest} has {len(found)} bytes, which are wrong")


@pytest.mark.parametrize("seed", range(2))
def test_damage_costs_misses_only(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    directory = tmp_path / "cache"
    done: list[str] = []
    cache = Cache(directory)
    for _ in range(ROUNDS):
        with suppress(CacheUnusable):  # a directory in a blob's place, say: told, and not the readers' concern
            cache.put_many([verified(*each) for each in BLOBS])
            cache.pin("some", [digest for digest, _ in BLOBS[:5]])
        readers = Readers(cache, chance.randrange(1 << 30))
        for _ in range(3):
            with suppress(FileNotFoundError):  # a reader found it damaged, and was first
                done.append(damage(directory, chance))
        while readers.reads < 50 and not readers.wrong:
            readers._stop.wait(0.001)
        readers.stop()
        assert readers.wrong == [], done
        if chance.random() < 0.3:
            cache.close()
            cache = Cache(directory)
            for digest, data in BLOBS:
                assert cache.get(digest) in (None, data), done
    cache.close()
    shutil.rmtree(directory)
