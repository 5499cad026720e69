"""The cache: what a program calls, and which failure is a miss and which an error. Contract: ``cache/README.md``."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg_cache import reading, writing
from fusepkg_cache._translate import translated
from fusepkg_cache.claims import PATIENCE_S, ClaimedBatch
from fusepkg_cache.compaction import tidy
from fusepkg_cache.digest import verified
from fusepkg_cache.errors import CacheClosed, CacheUnusable
from fusepkg_cache.eviction import drop_unwanted
from fusepkg_cache.info import CacheInfo, information
from fusepkg_cache.lower_cache import LowerCache
from fusepkg_cache.open_directory import acquire, opening_lock, release
from fusepkg_cache.records import key_of
from fusepkg_cache.unfinished import sweep
from fusepkg_cache.verify import VerifyReport, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fusepkg_cache.claims import Claim
    from fusepkg_cache.digest import Digest, Verified
    from fusepkg_cache.index_change import IndexChange
    from fusepkg_cache.index_page import IndexEntry
    from fusepkg_cache.open_directory import OpenDirectory
    from fusepkg_cache.pins import Pin

log = logging.getLogger(__name__)

SMALL_LIMIT_BYTES = 128 * 1024
"""Largest blob kept in a segment. One READ of the kernel asks for at most this much of a file by default, so such a
blob is given in one copy; as a file it would cost an open, a stat, a close and a rounding to 4 KiB. Above it a
part-read should not have to check the whole blob."""

_SIZES_AT_ONCE = 4096
"""Blobs whose sizes are looked up together."""

MAX_SMALL_LIMIT_BYTES = 1024 * 1024
"""Upper bound of the limit a caller may choose: a segment has to hold many."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What ``clear`` dropped."""

    blobs: int
    bytes: int


def _cleared(sizes: list[int]) -> Cleared:
    return Cleared(len(sizes), sum(sizes))


def _keeping(blobs: list[tuple[Digest, bytes]]) -> str:
    """What fails, if it fails."""
    if not blobs:
        return "cannot keep nothing"
    return f"cannot keep {blobs[0][0]}" + (f" and {len(blobs) - 1} more blobs" if len(blobs) > 1 else "")


def _emptied(change: IndexChange) -> tuple[int, int, int]:
    """Drop all entries; blobs and bytes of small ones there were, and the newest segment."""
    found = (change.header.small_blobs, change.header.small_bytes, change.header.segment)
    change.empty()
    change.header.end = 1 << 62  # the next blob begins a new segment
    change.header.walked = change.now
    return found


class _SourceError(Exception):
    """Carries what the caller's own pieces raised past the translation of what the disk raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _from_source(pieces: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except Exception as exc:
        raise _SourceError(exc) from exc


class Cache:
    """A directory of blobs, each named by its digest; see ``cache/README.md`` for what it promises.

    Any number of threads may use one object, and any number of processes and objects one directory. Blobs of up to
    ``small_limit_bytes`` go to segments, larger ones (all, for 0) to files; caches with different limits can share a
    directory.

    With ``max_bytes``, a put evicts the blobs that were not used for longest, so that the bytes of all blobs stay near
    it; with ``min_free_bytes`` also while the disk has less room left than that. Of several objects of
    a process on one directory, the strictest bounds count.

    ``lower`` is another cache directory, which is only read: what is missed here and found there is checked, kept here
    and given out. ``cache.lower`` asks it alone.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        small_limit_bytes: int = SMALL_LIMIT_BYTES,
        lower: Path | None = None,
    ) -> None:
        if not 0 <= small_limit_bytes <= MAX_SMALL_LIMIT_BYTES:
            raise ValueError(f"small_limit_bytes is {small_limit_bytes}, not in 0..{MAX_SMALL_LIMIT_BYTES}")
        for name, bound in (("max_bytes", max_bytes), ("min_free_bytes", min_free_bytes)):
            if bound is not None and bound < 0:
                raise ValueError(f"{name} is {bound}")
        self._small_limit_bytes = small_limit_bytes
        self._bounds = (max_bytes, min_free_bytes)
        opened = self._acquire(directory)
        self._open: OpenDirectory | None = opened
        self.directory = opened.layout.directory
        self.lower = None if lower is None else LowerCache(lower, self._note_lower)
        self._errors = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory: changes under way are made, calls that come later raise CacheClosed."""
        opened, self._open = self._open, None
        if opened is not None:
            release(opened)

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, digest: Digest, *, own_only: bool = False) -> bytes | None:
        """A whole blob, checked; None where it is not kept, or no longer whole.

        With ``own_only`` the lower cache is not asked, whose file system may take its time.
        """
        return self._read(digest, 0, None, own_only=own_only)

    def read(self, digest: Digest, offset: int, length: int, *, own_only: bool = False) -> bytes | None:
        """``length`` bytes of a blob from ``offset``, fewer at its end; None where it is not kept, or damaged there.

        Only the blocks of 64 KiB that are touched are read and checked (a small blob is checked whole).
        """
        if offset < 0 or length < 0:
            raise ValueError(f"no bytes can be read from {offset} in a length of {length}")
        return self._read(digest, offset, length, own_only=own_only)

    def get_many(self, digests: Iterable[Digest], *, own_only: bool = False) -> list[bytes | None]:
        """Whole blobs, checked, in the order asked; None for each that is not kept, or no longer whole.

        A miss costs 5 us, for the index is believed about what it lacks, unless ``info().complete`` is False: a large
        blob that was put by a process which was killed just then is found by ``get`` only.
        """
        asked = list(digests)
        try:
            opened = self._directory()
            opened.index.refresh()
            cheap = opened.index.header().walked > 0
        except (OSError, CacheUnusable) as exc:
            self._count_error(exc)
            cheap = True
        return [self._read(digest, 0, None, own_only=own_only, cheap=cheap) for digest in asked]

    def peek(self, digest: Digest) -> bytes | None:
        """A whole blob that is kept here, checked, as ``get`` gives it; but that is no use, no hit and no miss."""
        return self._read(digest, 0, None, own_only=True, is_use=False)

    def __contains__(self, digest: Digest) -> bool:
        """Whether a blob is kept here; its bytes are not looked at, nor the lower cache."""
        try:
            return reading.has(self._directory(), digest)
        except (OSError, CacheUnusable) as exc:
            self._count_error(exc)
            return False

    # --- writing ------------------------------------------------------------------------------------------------

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep a blob; on return every process sees it. Does nothing if it is kept already.

        Raises: WrongBytes if ``data`` is not that blob, CacheUnusable if the disk refuses.
        """
        self.put_many([verified(digest, data)])

    def put_many(self, blobs: Iterable[Verified]) -> None:
        """Keep many blobs that were hashed already; on return every process sees them. Raises CacheUnusable.

        Small ones are written together, with one change of the index, and so are the notes of large ones. If it fails,
        some of them may be kept.
        """
        opened = self._directory()
        small: list[tuple[Digest, bytes]] = []
        large: list[tuple[Digest, bytes]] = []
        for blob in blobs:
            fitting = small if len(blob.data) <= self._small_limit_bytes != 0 else large
            fitting.append((blob.digest, blob.data))
        with translated(_keeping(small or large)):
            if small and not (len(small) == 1 and writing.is_kept_small(opened, small[0][0])):
                writing.keep_small(opened, small)
            if large:
                writing.keep_large(opened, large)

    def put_pieces(self, digest: Digest, pieces: Iterable[bytes]) -> None:
        """Keep a blob that comes in pieces and may be too large for memory; on return every process sees it.

        The pieces are taken even where the blob is kept already. Raises: WrongBytes, CacheUnusable, and what
        ``pieces`` raises; then nothing is kept.
        """
        opened = self._directory()
        try:
            with translated(f"cannot keep {digest}"):
                writing.keep_pieces(opened, digest, _from_source(pieces))
        except _SourceError as exc:
            raise exc.error from None

    def pull(self, digest: Digest, *, size: int | None = None) -> bool:
        """Copy a blob from the lower cache, if it is there and whole; whether it was. Raises CacheUnusable.

        Where its ``size`` is known, a file of another one is not copied.
        """
        return self.lower is not None and self.lower.give(digest, partial(self._keep, digest), size=size) is not None

    def claim(self, digest: Digest, *, patience_s: float = PATIENCE_S) -> Claim:
        """The right to fetch a blob, which one of all threads and processes has at a time; see ``Claim``.

        Whoever waits for it looks in the cache again, and goes on without it where its holder has shown no life for
        ``patience_s``. Where there can be no claims, as in a read-only directory, everybody may fetch.
        """
        return self._directory().claims.of(digest, patience_s)

    def claim_many(self, digests: Iterable[Digest], *, patience_s: float = PATIENCE_S) -> ClaimedBatch:
        """Claim the fetching of many blobs at once, without waiting; see ``ClaimedBatch``."""
        claims = self._directory().claims
        return ClaimedBatch([claims.of(digest, patience_s) for digest in dict.fromkeys(digests)])

    def remove(self, digest: Digest) -> bool:
        """Drop a blob, for all processes; whether it was kept. Raises CacheUnusable."""
        return self.clear([digest]).blobs > 0

    def clear(self, digests: Iterable[Digest] | None = None, *, unused_since: float | None = None) -> Cleared:
        """Drop all blobs, or those named, for all processes. Blobs put meanwhile may stay. Raises CacheUnusable.

        With ``unused_since``, in seconds of Unix time, only those of them that were not used since, and are not
        pinned. Without it pinned blobs go too; their pins stay, and hold them again when they are put again.
        """
        opened = self._directory()
        with translated(f"cannot clear the cache in {self.directory}"):
            if unused_since is not None:
                named = None if digests is None else {key_of(digest) for digest in digests}
                return self._drop_unwanted(
                    lambda blob: blob.used >= unused_since or (named is not None and blob.key not in named)
                )
            if digests is not None:
                sizes = writing.remove(opened, digests)
                opened.upkeep.wake()
                return _cleared(sizes)
            removed = [opened.files.remove(digest) for digest in opened.files]
            blobs, size, newest = opened.index.change(_emptied)
            for number in opened.segments.numbers():
                if number <= newest:
                    opened.segments.drop(number)
            sweep(opened.layout.staging)
        sizes = [file_size for file_size in removed if file_size is not None]
        return Cleared(blobs + len(sizes), size + sum(sizes))

    def retain(self, named: Iterable[Digest], *, dry_run: bool = False) -> Cleared:
        """Drop what is neither named nor pinned, nor was put or used since the call began. Raises CacheUnusable.

        With ``dry_run`` nothing is dropped: the answer is what would be.
        """
        opened = self._directory()
        began = int(time.time())
        with translated(f"cannot clear the cache in {self.directory}"):
            opened.index.wait_turn()
            keys = {key_of(digest) for digest in named}
            return self._drop_unwanted(lambda blob: blob.key in keys or blob.used >= began, dry_run=dry_run)

    # --- pinning ------------------------------------------------------------------------------------------------

    def pin(self, name: str, digests: Iterable[Digest]) -> None:
        """Never evict these blobs, whether they are kept now or put later; in place of those ``name`` had before.

        On return no process evicts them. Raises CacheUnusable.
        """
        opened = self._directory()
        with translated(f"cannot pin {name} in the cache in {self.directory}"):
            opened.pins.put(name, digests, int(time.time()))
            opened.index.wait_turn()  # whoever is choosing what to evict is done after this

    def unpin(self, name: str) -> bool:
        """Let blobs be evicted again that no other pin has; whether there was such a pin. Raises CacheUnusable."""
        opened = self._directory()
        with translated(f"cannot unpin {name} in the cache in {self.directory}"):
            removed = opened.pins.remove(name)
        opened.bound.unpinned()
        opened.upkeep.wake()
        return removed

    def pins(self) -> list[Pin]:
        """All pins, in order of their names. Raises CacheUnusable."""
        opened = self._directory()
        with translated(f"cannot look into the cache in {self.directory}"):
            return opened.pins.all()

    # --- looking after ------------------------------------------------------------------------------------------

    def info(self) -> CacheInfo:
        """What is kept. Raises CacheUnusable."""
        opened = self._directory()
        with translated(f"cannot look into the cache in {self.directory}"):
            return information(opened, self._errors)

    def sizes(self, digests: Iterable[Digest]) -> Iterator[int | None]:
        """The size of each blob in turn, None for those that are not kept; many at a time. Raises CacheUnusable.

        Large blobs that are not counted yet are not seen, see ``CacheInfo.complete``.
        """
        opened = self._directory()
        rest = iter(digests)
        while some := list(islice(rest, _SIZES_AT_ONCE)):
            with translated(f"cannot look into the cache in {self.directory}"):
                found = reading.sizes(opened, some)
            yield from found

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Hash every blob in full; with ``repair`` drop what is damaged and record what is found.

        ``progress`` is called with the bytes done and the bytes there are. Raises CacheUnusable.
        """
        opened = self._directory()
        with translated(f"cannot verify the cache in {self.directory}"):
            return verify(opened, repair=repair, progress=progress)

    # --- inside -------------------------------------------------------------------------------------------------

    def _drop_unwanted(self, wanted: Callable[[IndexEntry], bool], *, dry_run: bool = False) -> Cleared:
        opened = self._directory()
        opened.recency.write()
        opened.finder.find_all_files()
        sizes = drop_unwanted(opened.index, opened.evictor, wanted, dry_run=dry_run)
        if sizes and not dry_run:
            tidy(opened.index, opened.segments)
        return _cleared(sizes)

    def _directory(self) -> OpenDirectory:
        opened = self._open
        if opened is None:
            raise CacheClosed(f"the cache in {self.directory} was closed")
        return opened if opened.ours else self._open_after_fork(opened)

    def _open_after_fork(self, inherited: OpenDirectory) -> OpenDirectory:
        with opening_lock:
            if self._open is inherited:  # else another thread was first
                self._open = self._acquire(self.directory)
        return self._directory()

    def _acquire(self, directory: Path) -> OpenDirectory:
        opened = acquire(directory)
        opened.bound.limit(*self._bounds)
        return opened

    def _read(
        self,
        digest: Digest,
        offset: int,
        length: int | None,
        *,
        own_only: bool,
        is_use: bool = True,
        cheap: bool = False,
    ) -> bytes | None:
        try:
            opened = self._directory()
            data = reading.read(opened, digest, offset, length, is_use=is_use, cheap=cheap)
            if data is None and is_use:
                opened.recency.note_misses()
        except (OSError, CacheUnusable) as exc:
            self._count_error(exc)
            data = None
        if data is not None or self.lower is None or own_only:
            return data
        try:
            if not self.pull(digest):
                return None
        except CacheUnusable as exc:
            log.debug("what the lower cache has is not kept: %s", exc)
        else:
            data = self._read(digest, offset, length, own_only=True)
        return self.lower.read(digest, offset, length) if data is None else data

    def _note_lower(self) -> None:
        opened = self._open
        if opened is not None:  # else it was closed while the lower cache took its time
            opened.recency.note_lower()

    def _keep(self, digest: Digest, size: int, pieces: Iterable[bytes]) -> bool:
        if size <= self._small_limit_bytes != 0:
            self.put(digest, b"".join(pieces))
        else:
            self.put_pieces(digest, pieces)
        return True

    def _count_error(self, exc: OSError | CacheUnusable) -> None:
        """A read that the disk fails is a miss; one of a closed cache is the caller's fault."""
        if isinstance(exc, CacheClosed):
            raise exc
        self._errors += 1
        level = logging.WARNING if self._errors == 1 else logging.DEBUG  # a dead disk fails every read
        log.log(level, "the cache in %s cannot be read: %s", self.directory, exc)
