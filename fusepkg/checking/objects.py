"""Check every object a manifest names, in the bucket itself, by reading and hashing it.

Owns: which objects are read, and what is said of a bad one. Must not know: caches, mounts, printing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest, chunk_size, combine_chunks

from fusepkg.checking.directory import Difference
from fusepkg.errors import IntegrityError, ObjectMissing, RemoteError
from fusepkg.publish.parallel import StopFlag, run_threads
from fusepkg.publish.progress import Counters, Phase, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.progress import ProgressCallback
    from fusepkg.store.protocol import ObjectStore

CHECK_THREADS = 8
"""Objects read at a time: each holds one chunk of 8 MiB at most."""


def check_objects(
    entries: Iterable[Entry],
    store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    *,
    count: int,
    total_bytes: int,
    progress: ProgressCallback = no_progress,
) -> list[Difference]:
    """All entries whose object is missing, unreadable or has other bytes, in order of logical keys.

    Raises RemoteUnavailable where the bucket cannot be reached at all: then nothing is known of the objects.
    """
    counters = Counters(progress, Phase.CHECK, total=count, total_bytes=total_bytes)
    found: list[Difference] = []
    stop = StopFlag()

    def check(entry: Entry) -> tuple[Entry, str | None]:
        return entry, _problem(entry, store_for, stop)

    def collect(result: tuple[Entry, str | None]) -> None:
        entry, problem = result
        counters.add(1, entry.size)
        if problem is not None:
            found.append(Difference(entry.logical_key, problem))

    run_threads(check, entries, collect, threads=CHECK_THREADS, name="fusepkg-check", stop=stop)
    return sorted(found, key=lambda difference: difference.logical_key)


def _problem(entry: Entry, store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]], stop: StopFlag) -> str | None:
    store, key = store_for(entry.physical_key)
    try:
        pieces = store.stream(key, version=entry.physical_key.version, piece_bytes=chunk_size(entry.size))
        size, digest = _digest(entry.digest.algorithm, pieces, stop)
    except ObjectMissing:
        return f"is missing: {entry.physical_key}"
    except (RemoteError, IntegrityError) as exc:
        if exc.retryable:
            raise
        return f"cannot be read: {exc.message}"
    if size != entry.size:
        return f"has {size} bytes instead of {entry.size}: {entry.physical_key}"
    return None if digest == entry.digest else f"has other contents than the manifest says: {entry.physical_key}"


def _digest(algorithm: Algorithm, pieces: Iterator[bytes], stop: StopFlag) -> tuple[int, Digest]:
    size = 0
    whole = hashlib.sha256()
    chunks: list[bytes] = []
    for piece in pieces:
        stop.check()
        size += len(piece)
        if algorithm is Algorithm.SHA2_256:
            whole.update(piece)
        else:
            chunks.append(hashlib.sha256(piece).digest())
    return size, Digest(algorithm, whole.digest()) if algorithm is Algorithm.SHA2_256 else combine_chunks(chunks)
