"""Two processes, one cache, a dictionary: whatever is done in whatever order, they agree, or miss a damaged blob."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from fusepkg_cache import Algorithm, Cache, Digest, WrongBytes, index_page, verified
from fusepkg_cache.index_change import IndexChange
from fusepkg_cache.reading import put_large
from fusepkg_cache.records import BLOCK_BYTES, key_of, record_of
from fusepkg_cache.unfinished import sweep
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.unit.cache.blobs import blob, flip
from tests.unit.cache.evicting import shrink
from tests.unit.cache.forks import ended, forked
from tests.unit.cache.peer import Peer

SIZES = [0, 10, 10_000, 128 * 1024, 128 * 1024 + 1, 3 * BLOCK_BYTES + 5]
BLOBS = dict(blob(size, algorithm=algorithm) for size in SIZES for algorithm in Algorithm)
SMALL = [digest for digest, data in BLOBS.items() if len(data) <= 128 * 1024]
LARGE = [digest for digest in BLOBS if digest not in SMALL]

digests = st.sampled_from(list(BLOBS))
places = st.integers(0, max(SIZES) + 10)


class CacheMachine(RuleBasedStateMachine):
    """``kept`` are the blobs that must be found; ``unsure`` those that something was done to, which may be missed."""

    peer: Peer

    @initialize()
    def open(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fusepkg-cache-"))
        self.cache = Cache(self.directory / "cache")
        self.peer.call("open", str(self.directory / "cache"))
        self.kept: set[Digest] = set()
        self.unsure: set[Digest] = set()
        self.pinned: dict[str, set[Digest]] = {}

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.cache.verify(repair=True)
        found = self.cache.verify()
        assert found.ok
        assert not found.missing
        assert not found.unrecorded
        info = self.cache.info()
        assert (info.blobs, info.bytes) == (found.blobs, found.bytes)
        assert info.errors == 0
        self.cache.close()
        shutil.rmtree(self.directory)

    def check(self, digest: Digest, found: bytes | None, expected: bytes) -> None:
        """What was read is right, or rightly missed."""
        if digest in self.kept:
            assert found == expected
        elif digest in self.unsure:
            assert found in (None, expected)
        else:
            assert found is None

    def file(self, digest: Digest) -> Path:
        return self.directory / "cache" / "v2" / "blobs" / digest.algorithm.value / digest.hex[:2] / digest.hex

    @rule(digest=digests, ours=st.booleans())
    def put(self, digest: Digest, ours: bool) -> None:
        if ours:
            self.cache.put(digest, BLOBS[digest])
        else:
            self.peer.call("put", digest, BLOBS[digest])
        if digest not in self.unsure:  # a damaged blob may count as there
            self.kept.add(digest)

    @rule(digest=digests, ours=st.booleans())
    def get(self, digest: Digest, ours: bool) -> None:
        found = self.cache.get(digest) if ours else self.peer.call("get", digest)
        self.check(digest, found, BLOBS[digest])
        if found is None:
            self.unsure.discard(digest)

    @rule(digest=digests, offset=places, length=places, ours=st.booleans())
    def read(self, digest: Digest, offset: int, length: int, ours: bool) -> None:
        found = self.cache.read(digest, offset, length) if ours else self.peer.call("read", digest, offset, length)
        self.check(digest, found, BLOBS[digest][offset : offset + length])

    @rule(digest=digests)
    def ask(self, digest: Digest) -> None:
        if digest not in self.unsure:
            assert (digest in self.cache) is (digest in self.kept)

    @rule(several=st.lists(digests, max_size=4))
    def put_many(self, several: list[Digest]) -> None:
        self.cache.put_many([verified(digest, BLOBS[digest]) for digest in several])
        self.kept |= set(several) - self.unsure
        for digest, found in zip(several, self.cache.get_many(several), strict=True):
            self.check(digest, found, BLOBS[digest])

    @rule(digest=digests, ours=st.booleans())
    def remove(self, digest: Digest, ours: bool) -> None:
        removed = self.cache.remove(digest) if ours else self.peer.call("remove", digest)
        if digest not in self.unsure:
            assert removed is (digest in self.kept)
        self.kept.discard(digest)
        self.unsure.discard(digest)

    @rule(ours=st.booleans())
    def clear(self, ours: bool) -> None:
        cleared = self.cache.clear().blobs if ours else self.peer.call("clear")
        assert len(self.kept) <= cleared <= len(self.kept | self.unsure)
        self.kept.clear()
        self.unsure.clear()

    @rule(max_bytes=st.integers(0, 400_000))
    def shrink(self, max_bytes: int) -> None:
        dropped = shrink(self.cache, max_bytes)
        held = set().union(*self.pinned.values())
        assert self.cache.info().bytes <= max_bytes + sum(len(BLOBS[digest]) for digest in held)
        assert dropped.blobs <= len(self.kept | self.unsure)
        self.some_went(held)

    @rule(digest=digests, max_bytes=st.integers(100_000, 400_000))
    def put_by_a_process_with_a_bound(self, digest: Digest, max_bytes: int) -> None:
        if len(BLOBS[digest]) > max_bytes:
            return
        self.peer.call("open", str(self.directory / "cache"), max_bytes)
        self.peer.call("put", digest, BLOBS[digest])
        self.peer.call("open", str(self.directory / "cache"))
        if digest not in self.unsure:
            self.kept.add(digest)
        self.some_went(set().union(*self.pinned.values()))

    @rule(named=st.lists(digests, max_size=6), dry_run=st.booleans())
    def retain(self, named: list[Digest], dry_run: bool) -> None:
        """What was used in the same second stays too."""
        dropped = self.cache.retain(named, dry_run=dry_run)
        if dry_run:
            assert dropped.blobs <= len(self.kept | self.unsure)
        self.some_went(set(BLOBS) if dry_run else set(named).union(*self.pinned.values()))

    @rule(name=st.sampled_from("ab"), some=st.sets(digests, max_size=5), ours=st.booleans())
    def pin(self, name: str, some: set[Digest], ours: bool) -> None:
        if ours:
            self.cache.pin(name, some)
        else:
            self.peer.call("pin", name, list(some))
        self.pinned[name] = some

    @rule(name=st.sampled_from("ab"))
    def unpin(self, name: str) -> None:
        assert self.cache.unpin(name) is (name in self.pinned)
        self.pinned.pop(name, None)

    @rule(digest=digests, end=st.sampled_from(["whole", "wrong", "fails"]), at=places)
    def put_pieces(self, digest: Digest, end: str, at: int) -> None:
        data = BLOBS[digest]

        def pieces() -> Iterator[bytes]:
            yield data[:at]
            if end == "fails":
                raise EOFError
            yield data[at:]
            if end == "wrong":
                yield b"more"

        if end == "whole":
            self.cache.put_pieces(digest, pieces())
            self.kept.add(digest)
            self.unsure.discard(digest)
        else:
            with pytest.raises(EOFError if end == "fails" else WrongBytes):
                self.cache.put_pieces(digest, pieces())

    @rule(digest=digests, unfinished=digests)
    def a_child_is_killed(self, digest: Digest, unfinished: Digest) -> None:
        def put_and_die() -> bool:
            self.cache._directory().unfinished.write([BLOBS[unfinished]])
            self.cache.put(digest, BLOBS[digest])
            os.kill(os.getpid(), signal.SIGKILL)
            return False

        assert ended(forked(put_and_die)) == -signal.SIGKILL
        sweep(self.directory / "cache" / "v2" / "staging")  # as the next process does that writes a file
        if digest not in self.unsure:
            self.kept.add(digest)

    @rule()
    def reopen(self) -> None:
        self.cache.close()
        self.cache = Cache(self.directory / "cache")

    @rule()
    def repair(self) -> None:
        found = self.cache.verify(repair=True)
        assert set(found.damaged) <= self.unsure
        self.unsure -= set(found.damaged)

    @rule(digest=st.sampled_from(SMALL), damage=st.sampled_from(["bit", "cut", "gone"]), at=places)
    def damage_segment(self, digest: Digest, damage: str, at: int) -> None:
        opened = self.cache._directory()
        entry = opened.index.find(key_of(digest))
        if entry is None or entry.kind != index_page.SMALL:
            return
        segment = self.directory / "cache" / "v2" / "segments" / f"{entry.segment:08x}"
        if not segment.exists():
            return
        there = {each.key for run in opened.index.runs() for each in run if each.segment == entry.segment}
        if damage == "gone":
            segment.unlink()
        elif damage == "cut":
            os.truncate(segment, min(segment.stat().st_size, entry.offset + at % (64 + entry.length)))
        else:
            there = {entry.key}
            with segment.open("r+b") as file:
                place = entry.offset + at % (64 + entry.length)
                file.seek(place)
                byte = file.read(1)
                file.seek(place)
                file.write(flip(byte, 0))
        for suspected in SMALL:
            if key_of(suspected) in there:
                self.suspect(suspected)

    @rule(digest=st.sampled_from(LARGE), damage=st.sampled_from(["bit", "cut", "empty", "gone"]), at=places)
    def damage_file(self, digest: Digest, damage: str, at: int) -> None:
        path = self.file(digest)
        if not path.exists():
            return
        if damage == "gone":
            path.unlink()
        else:
            path.chmod(0o600)
            data = path.read_bytes()
            if damage == "bit" and data:
                path.write_bytes(flip(data, at % len(data)))
            else:
                path.write_bytes(data[: at % len(data)] if damage == "cut" and data else b"")
        self.suspect(digest)

    @rule(digest=st.sampled_from(LARGE), wrong=st.booleans())
    def lose_sums(self, digest: Digest, wrong: bool) -> None:
        opened = self.cache._directory()

        def change(change: IndexChange) -> None:
            change.drop(key_of(digest))
            if wrong:
                put_large(change, opened, digest, record_of(digest, bytes(len(BLOBS[digest]))))

        if self.file(digest).exists():
            opened.index.change(change)

    @rule(damage=st.sampled_from(["gone", "cut", "bit"]), at=st.integers(0, 1 << 30))
    def damage_index(self, damage: str, at: int) -> None:
        index = self.directory / "cache" / "v2" / "index"
        if not index.exists():
            return
        if damage == "gone":
            index.unlink()
        elif damage == "cut":
            os.truncate(index, at % index.stat().st_size)
        else:
            with index.open("r+b") as file:  # in the header, or in the last pages
                size = file.seek(0, os.SEEK_END)
                place = at % 300 if at % 2 else size - 1 - at % min(size, 20_000)
                file.seek(place)
                byte = file.read(1)
                file.seek(place)
                file.write(flip(byte, 0))
        self.cache.info()  # until a process notices, which a hit does not make it do, it finds what it had
        self.peer.call("info")
        for digest in SMALL:
            if digest in self.kept:
                self.suspect(digest)

    @invariant()
    def pins_are_what_they_were(self) -> None:
        if hasattr(self, "cache"):
            assert {pin.name: pin.blobs for pin in self.cache.pins()} == {
                name: len(some) for name, some in self.pinned.items()
            }

    @invariant()
    def nothing_is_left_staged(self) -> None:
        if hasattr(self, "cache"):
            staging = self.directory / "cache" / "v2" / "staging"
            assert not [path for path in staging.rglob("*") if path.is_file()]

    def some_went(self, but_not: set[Digest]) -> None:
        left = {digest for digest in self.kept if digest in self.cache}
        assert self.kept & but_not <= left
        self.kept = left

    def suspect(self, digest: Digest) -> None:
        self.kept.discard(digest)
        self.unsure.add(digest)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


def test_two_processes_agree_with_a_dictionary(peer: Peer) -> None:
    class Machine(CacheMachine):
        pass

    Machine.peer = peer
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
