"""Compare a directory, mounted or copied, with a manifest: names, kinds, and every byte.

All bytes of a file are read, unless the caller trusts it. The directory and the manifest are read side by side, in
tree order, so that memory does not grow with either.
"""

from __future__ import annotations

import enum
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Hashing, compute_digest

from fusepkg.errors import FolderUnfit
from fusepkg.model.entry import EntryKind
from fusepkg.model.links import blunted
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads
from fusepkg.work.walk import place_of, walk_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry
    from fusepkg.work.progress import ProgressCallback
    from fusepkg.work.walk import WalkEntry

HASH_THREADS = max(2, os.cpu_count() or 2)
"""One per core: hashing is all CPU; two at least, so that one can wait for the disk."""

_READ_BYTES = 1 << 20
"""Read and hashed at a time: large enough to forget the calls, small enough for the second-level cache."""

_BATCH_FILES = 64
_BATCH_BYTES = 8 << 20
"""Small files of one piece of work: a thread's hand-over costs as much as hashing 20 KB."""

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK for a FIFO that took the file's place: its open must not wait for a writer."""

_KIND_WORDS = {
    EntryKind.FILE: "a plain file",
    EntryKind.EXECUTABLE: "an executable file",
    EntryKind.SYMLINK: "a symbolic link",
    EntryKind.EMPTY_DIRECTORY: "an empty directory",
    None: "something a package cannot hold",
}


class DifferenceKind(enum.Enum):
    """The kind of difference at one name."""

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry or file that differs from the manifest, and how, in words that follow its name."""

    logical_key: str
    reason: str
    kind: DifferenceKind = DifferenceKind.CHANGED
    entry: Entry | None = None
    """The manifest's, where it has one."""


def compare_directory(
    directory: Path,
    entries: Iterable[Entry],
    *,
    count: int = 0,
    total_bytes: int = 0,
    leave_out: Collection[str] = (),
    trusted: Callable[[Entry, WalkEntry], bool] = lambda _entry, _found: False,
    progress: ProgressCallback = no_progress,
) -> list[Difference]:
    """Return all differences, in tree order. ``entries`` come in tree order; ``leave_out`` are names at the top.

    ``trusted`` is asked in that order, and says which files need not be read.

    Raises FolderUnfit if there is no such directory.
    """
    if not directory.is_dir():
        raise FolderUnfit(f"{directory} is not a directory", hint="Name the directory to compare")
    counters = PhaseCounters(progress, Phase.CHECK, total=count, total_bytes=total_bytes)
    differences: list[Difference] = []
    stop = StopFlag()

    def check(batch: list[_Pair]) -> tuple[list[Difference], int, int]:
        found = [difference for pair in batch if (difference := _compare(*pair, stop)) is not None]
        wanted = [entry for entry, _ in batch if entry is not None]
        return found, len(wanted), sum(entry.size for entry in wanted)

    def collect(result: tuple[list[Difference], int, int]) -> None:
        differences.extend(result[0])
        counters.add(result[1], result[2])

    pairs = _side_by_side(entries, walk_directory(directory, leave_out=leave_out))
    doubtful = (pair for pair in pairs if pair[0] is None or pair[1] is None or not trusted(pair[0], pair[1]))
    run_threads(check, _batches(doubtful), collect, threads=HASH_THREADS, name="fusepkg-verify", stop=stop)
    return sorted(differences, key=lambda difference: place_of(difference.logical_key))


_Pair = tuple["Entry | None", "WalkEntry | None"]


def _side_by_side(entries: Iterable[Entry], found: Iterator[WalkEntry]) -> Iterator[_Pair]:
    """Yield each name once, with its entry in the manifest and its file in the directory, None if missing."""
    local = next(found, None)
    for entry in entries:
        place = place_of(entry.logical_key)
        while local is not None and local.place < place:
            yield None, local
            local = next(found, None)
        if local is not None and local.place == place:
            yield entry, local
            local = next(found, None)
        else:
            yield entry, None
    while local is not None:
        yield None, local
        local = next(found, None)


def _batches(pairs: Iterable[_Pair]) -> Iterator[list[_Pair]]:
    batch: list[_Pair] = []
    batch_bytes = 0
    for pair in pairs:
        batch.append(pair)
        batch_bytes += pair[0].size if pair[0] is not None else 0
        if len(batch) >= _BATCH_FILES or batch_bytes >= _BATCH_BYTES:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


def _compare(entry: Entry | None, found: WalkEntry | None, stop: StopFlag) -> Difference | None:
    if entry is None:
        assert found is not None, "a pair has one side at least"
        return Difference(found.logical_key, "exists in the directory, but not in the manifest", DifferenceKind.EXTRA)
    key = entry.logical_key
    if found is None:
        reason = "is in the manifest, but does not exist in the directory"
        return Difference(key, reason, DifferenceKind.MISSING, entry)
    reason = _what_differs(entry, found, stop)
    return Difference(key, reason, DifferenceKind.CHANGED, entry) if reason else None


def _what_differs(entry: Entry, found: WalkEntry, stop: StopFlag) -> str:
    if entry.kind is not found.kind:
        return f"is {_KIND_WORDS[found.kind]}, but {_KIND_WORDS[entry.kind]} in the manifest"
    if found.kind is EntryKind.EMPTY_DIRECTORY:
        return ""
    if entry.leads_out and _is_blunted(entry, found):
        return ""
    if entry.size != found.status.st_size:
        return f"has {found.status.st_size} bytes, but {entry.size} in the manifest"
    try:
        digest = hash_found(found, entry.digest, stop)
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    return "" if entry.digest.matches(digest) else "has other contents than the manifest says"


def _is_blunted(entry: Entry, found: WalkEntry) -> bool:
    """Return whether a link out of the package has the text that mounts and installs give it."""
    with suppress(OSError):  # then it cannot be read, which is told below
        return os.readlink(found.path) == blunted(entry.logical_key.encode(), entry.link_text.encode())
    return False


def hash_found(found: WalkEntry, like: Digest, stop: StopFlag) -> Digest:
    """Return the digest of a file's bytes, or a link's target, by the algorithm of ``like``. Raises OSError."""
    if found.kind is EntryKind.SYMLINK:
        return compute_digest(like.algorithm, os.readlink(found.path))
    hashing = Hashing(like.algorithm, found.status.st_size)
    descriptor = os.open(found.path, _FLAGS)
    try:
        while piece := os.read(descriptor, _READ_BYTES):
            stop.check()
            hashing.update(piece)
    finally:
        os.close(descriptor)
    return hashing.digest()
