"""The cache: what a program calls.

Owns: the interface, and which failure is a miss and which an error. Must not know: how blobs are kept (``tiers``), or
who calls. The contract is in ``cache/README.md``.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import lmdb

from fusepkg_cache import tiers
from fusepkg_cache._translate import translated
from fusepkg_cache.bound import find_all_files
from fusepkg_cache.claims import PATIENCE_S, ClaimedBatch
from fusepkg_cache.digest import require_match
from fusepkg_cache.errors import CacheClosed, CacheUnusable
from fusepkg_cache.eviction import drop_unwanted
from fusepkg_cache.info import CacheInfo, information
from fusepkg_cache.lower import Lower
from fusepkg_cache.records import key_of
from fusepkg_cache.session import acquire, release, sessions_lock
from fusepkg_cache.stage import Stage
from fusepkg_cache.staging import sweep
from fusepkg_cache.verify import VerifyReport, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from fusepkg_cache.claims import Claim
    from fusepkg_cache.digest import Digest, Verified
    from fusepkg_cache.pins import Pin
    from fusepkg_cache.session import Session

log = logging.getLogger(__name__)

SMALL_LIMIT_BYTES = 128 * 1024
"""Largest blob kept in LMDB. One READ of the kernel asks for at most this much of a file by default, so such a blob
is given in one copy; as a file it would cost an open, a stat, a close and a rounding to 4 KiB. Above it a part-read
should not have to check the whole blob, and LMDB has to find a run of free pages for each value."""

_SIZES_AT_ONCE = 4096
"""Blobs whose sizes are looked up in one transaction."""

MAX_SMALL_LIMIT_BYTES = 1024 * 1024
"""Upper bound of the limit a caller may choose: values of a transaction have to fit its batch many times over."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What ``clear`` dropped."""

    blobs: int
    bytes: int


def _cleared(sizes: list[int]) -> Cleared:
    return Cleared(len(sizes), sum(sizes))


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
    ``small_limit_bytes`` go to LMDB, larger ones (all, for 0) to files; caches with different limits can share a
    directory.

    With ``max_bytes``, whatever is put makes those blobs go that nobody used for longest, so that the bytes of all
    blobs stay near it; with ``min_free_bytes`` also while the disk has less room left than that. Of several objects of
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
        session = self._acquire(directory)
        self._open: Session | None = session
        self.directory = session.layout.directory
        self.lower = None if lower is None else Lower(lower, self._note_lower)
        self._errors = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory: changes under way are made, calls that come later raise CacheClosed."""
        session, self._open = self._open, None
        if session is not None:
            release(session)

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, digest: Digest, *, own_only: bool = False) -> bytes | None:
        """A whole blob, checked; None where it is not kept, or no longer whole.

        With ``own_only`` the lower tier is not asked, whose file system may take its time.
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
        """Whole blobs, checked, in the order asked; None for each that is not kept, or no longer whole."""
        return [self.get(digest, own_only=own_only) for digest in digests]

    def peek(self, digest: Digest) -> bytes | None:
        """A whole blob that is kept here, checked, as ``get`` gives it; but that is no use, no hit and no miss."""
        return self._read(digest, 0, None, own_only=True, is_use=False)

    def __contains__(self, digest: Digest) -> bool:
        """Whether a blob is kept here; its bytes are not looked at, nor the lower tier."""
        try:
            return tiers.has(self._session(), digest)
        except (OSError, lmdb.Error, CacheUnusable) as exc:
            self._count_error(exc)
            return False

    # --- writing ------------------------------------------------------------------------------------------------

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep a blob; on return every process sees it. Does nothing where it is kept already.

        Raises: DigestMismatch where ``data`` is not that blob, CacheUnusable where the disk refuses.
        """
        session = self._session()
        require_match(digest, data)
        with translated(f"cannot keep {digest}"):
            if len(data) <= self._small_limit_bytes != 0:
                tiers.put_small(session, digest, data)
            else:
                tiers.put_large(session, digest, data)

    def put_many(self, blobs: Iterable[Verified]) -> None:
        """Keep many blobs that were hashed already; on return every process sees them. Raises CacheUnusable.

        Small ones are written together. If it fails, some of them may be kept.
        """
        for blob in blobs:
            self.put(blob.digest, blob.data)

    def put_pieces(self, digest: Digest, pieces: Iterable[bytes]) -> None:
        """Keep a blob that comes in pieces and may be too large for memory; on return every process sees it.

        The pieces are taken even where the blob is kept already. Raises: DigestMismatch, CacheUnusable, and what
        ``pieces`` raises; then nothing is kept.
        """
        session = self._session()
        try:
            with translated(f"cannot keep {digest}"):
                tiers.put_pieces(session, digest, _from_source(pieces))
        except _SourceError as exc:
            raise exc.error from None

    def pull(self, digest: Digest, *, size: int | None = None) -> bool:
        """Copy a blob from the lower tier, if it is there and whole; whether it was. Raises CacheUnusable.

        Where its ``size`` is known, a file of another one is not copied.
        """
        return self.lower is not None and self.lower.give(digest, partial(self._keep, digest), size=size) is not None

    def stage(self) -> Stage:
        """A context manager that takes blobs and makes them visible together; see ``Stage``."""
        return Stage(self._session(), self._small_limit_bytes, self.__contains__)

    def claim(self, digest: Digest, *, patience_s: float = PATIENCE_S) -> Claim:
        """The right to fetch a blob, which one of all threads and processes has at a time; see ``Claim``.

        Whoever waits for it looks in the cache again, and goes on without it where its holder has shown no life for
        ``patience_s``. Where there can be no claims, as in a read-only directory, everybody may fetch.
        """
        return self._session().claims.of(digest, patience_s, self.__contains__)

    def claim_many(self, digests: Iterable[Digest], *, patience_s: float = PATIENCE_S) -> ClaimedBatch:
        """Claim the fetching of many blobs at once, without waiting; see ``ClaimedBatch``."""
        claims = self._session().claims
        return ClaimedBatch([claims.of(digest, patience_s, self.__contains__) for digest in dict.fromkeys(digests)])

    def remove(self, digest: Digest) -> bool:
        """Drop a blob, for all processes; whether it was kept. Raises CacheUnusable."""
        return self.clear([digest]).blobs > 0

    def clear(self, digests: Iterable[Digest] | None = None, *, unused_since: float | None = None) -> Cleared:
        """Drop all blobs, or those named, for all processes. Blobs put meanwhile may stay. Raises CacheUnusable.

        With ``unused_since``, in seconds of Unix time, only those of them that nobody used since, and that are not
        pinned. Without it pinned blobs go too; their pins stay, and hold them again when they are put again.
        """
        session = self._session()
        with translated(f"cannot clear the cache in {self.directory}"):
            with suppress(OSError, lmdb.Error):  # a full disk, say, which is why it is cleared
                session.commits.wait_turn()
            if unused_since is not None:
                named = None if digests is None else {key_of(digest) for digest in digests}
                session.recency.write()
                find_all_files(session)
                return _cleared(
                    drop_unwanted(
                        session,
                        lambda blob: blob.used >= unused_since or (named is not None and blob.key not in named),
                    )
                )
            if digests is not None:
                return _cleared(tiers.remove(session, digests))
            removed = [session.blobs.remove(digest) for digest in session.blobs]  # first: LMDB may need their room
            blobs, size = session.environment.empty()
            sweep(session.layout.staging)
        sizes = [file_size for file_size in removed if file_size is not None]
        return Cleared(blobs + len(sizes), size + sum(sizes))

    def retain(self, named: Iterable[Digest], *, dry_run: bool = False) -> Cleared:
        """Drop what is neither named nor pinned, nor was put or used since the call began. Raises CacheUnusable.

        With ``dry_run`` nothing is dropped: the answer is what would be.
        """
        session = self._session()
        began = int(time.time())
        with translated(f"cannot clear the cache in {self.directory}"):
            session.commits.wait_turn()
            keys = {key_of(digest) for digest in named}
            session.recency.write()
            find_all_files(session)
            return _cleared(
                drop_unwanted(session, lambda blob: blob.key in keys or blob.used >= began, dry_run=dry_run)
            )

    def shrink(self, max_bytes: int) -> Cleared:
        """Drop blobs, least recently used first, until what is left has at most so many bytes. Raises CacheUnusable.

        Pinned blobs stay.
        """
        session = self._session()
        with translated(f"cannot shrink the cache in {self.directory}"):
            return _cleared(session.bound.shrink(max_bytes))

    # --- pinning ------------------------------------------------------------------------------------------------

    def pin(self, name: str, digests: Iterable[Digest]) -> None:
        """Never evict these blobs, whether they are kept now or put later; in place of those ``name`` had before.

        On return no process evicts them. Raises CacheUnusable.
        """
        session = self._session()
        with translated(f"cannot pin {name} in the cache in {self.directory}"):
            session.pins.put(name, digests, int(time.time()))
            session.commits.wait_turn()  # whoever is choosing what to evict is done after this

    def unpin(self, name: str) -> bool:
        """Let blobs be evicted again that no other pin has; whether there was such a pin. Raises CacheUnusable."""
        session = self._session()
        with translated(f"cannot unpin {name} in the cache in {self.directory}"):
            removed = session.pins.remove(name)
        session.bound.unpinned()
        return removed

    def pins(self) -> list[Pin]:
        """All pins, in order of their names. Raises CacheUnusable."""
        session = self._session()
        with translated(f"cannot look into the cache in {self.directory}"):
            return session.pins.all()

    # --- looking after ------------------------------------------------------------------------------------------

    def info(self) -> CacheInfo:
        """What is kept. Raises CacheUnusable."""
        session = self._session()
        with translated(f"cannot look into the cache in {self.directory}"):
            return information(session, self._errors)

    def sizes(self, digests: Iterable[Digest]) -> Iterator[int | None]:
        """The size of each blob in turn, None for those that are not kept; many at a time. Raises CacheUnusable.

        Large blobs that are not counted yet are not seen, see ``CacheInfo.complete``.
        """
        session = self._session()
        rest = iter(digests)
        while keys := [key_of(digest) for digest in islice(rest, _SIZES_AT_ONCE)]:
            with translated(f"cannot look into the cache in {self.directory}"):
                session.environment.refresh()
                found = session.environment.view(tiers.sizes, keys)
            yield from found

    def verify(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Hash every blob in full; with ``repair`` drop what is damaged and record what is found.

        ``progress`` is called with the bytes done and the bytes there are. Raises CacheUnusable.
        """
        session = self._session()
        with translated(f"cannot verify the cache in {self.directory}"):
            session.environment.refresh()
            return verify(session, repair=repair, progress=progress)

    # --- inside -------------------------------------------------------------------------------------------------

    def _session(self) -> Session:
        session = self._open
        if session is None:
            raise CacheClosed(f"the cache in {self.directory} was closed")
        return session if session.ours else self._open_after_fork(session)

    def _open_after_fork(self, inherited: Session) -> Session:
        with sessions_lock:
            if self._open is inherited:  # else another thread was first
                self._open = self._acquire(self.directory)
        return self._session()

    def _acquire(self, directory: Path) -> Session:
        session = acquire(directory)
        session.bound.limit(*self._bounds)
        return session

    def _read(
        self, digest: Digest, offset: int, length: int | None, *, own_only: bool, is_use: bool = True
    ) -> bytes | None:
        try:
            session = self._session()
            data = tiers.read(session, digest, offset, length, is_use=is_use)
            if data is None and is_use:
                session.recency.note_miss()
        except (OSError, lmdb.Error, CacheUnusable) as exc:
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
        session = self._open
        if session is not None:  # else it was closed while the lower tier took its time
            session.recency.note_lower()

    def _keep(self, digest: Digest, size: int, pieces: Iterable[bytes]) -> bool:
        if size <= self._small_limit_bytes != 0:
            self.put(digest, b"".join(pieces))
        else:
            self.put_pieces(digest, pieces)
        return True

    def _count_error(self, exc: OSError | lmdb.Error | CacheUnusable) -> None:
        """A read that the disk fails is a miss; one of a closed cache is the caller's fault."""
        if isinstance(exc, CacheClosed):
            raise exc
        self._errors += 1
        level = logging.WARNING if self._errors == 1 else logging.DEBUG  # a dead disk fails every read
        log.log(level, "the cache in %s cannot be read: %s", self.directory, exc)
