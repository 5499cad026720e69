"""The version of a DVC repository with hashes of fusepkg's own: the same files in the same places, each read once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_size, combine_chunks

from fusepkg.index.build import build_index
from fusepkg.index.opening import open_index
from fusepkg.model.manifest import write_entry, write_header
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.work.progress import ProgressCallback

_THREADS = 32
"""Files read at a time: small ones wait for the network."""

PROVENANCE = "dvc"
"""In the metadata of a version made of a DVC repository: which repository and revision."""


def with_own_hashes(
    index: Index,
    read: Callable[[Entry, int, int], bytes],
    keep_chunks: Callable[[Digest, Sequence[bytes]], None],
    directory: Path,
    progress: ProgressCallback = no_progress,
) -> Index:
    """Return an index below ``directory`` of the same files, with the hashes that manifests in buckets have.

    ``read`` gives bytes that were compared with DVC's MD5; each file is read once. ``keep_chunks`` gets the hashes of
    the chunks of large files, so that parts of these can be verified. Raises what they raise.
    """
    counters = PhaseCounters(progress, Phase.HASH, total=len(index.entries), total_bytes=index.total_bytes)
    hashed: list[Entry] = []
    stop = StopFlag()

    def hash_one(entry: Entry) -> Entry:
        step, chunks = chunk_size(entry.size), []
        for offset in range(0, entry.size, step):
            stop.check()
            chunks.append(hashlib.sha256(read(entry, offset, min(step, entry.size - offset))).digest())
        digest = combine_chunks(chunks)
        if len(chunks) > 1:
            keep_chunks(digest, chunks)
        return replace(entry, digest=digest)

    def collect(entry: Entry) -> None:
        hashed.append(entry)
        counters.add(1, entry.size)

    run_threads(hash_one, index.entries, collect, threads=_THREADS, name="fusepkg-dvc", stop=stop)
    hashed.sort(key=lambda entry: place_of(entry.logical_key))
    lines = [write_header({"version": "v0"}), *(write_entry(entry) for entry in hashed)]
    made = open_index(directory, build_index(lines, directory, expected_top_hash=None, allow_file_keys=True))
    assert made is not None, "an index just built can be opened"
    return made
