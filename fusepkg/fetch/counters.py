"""What a mount has fetched and served, and where it came from, as plain numbers.

Incremented from the event loop's thread only, so that no lock is needed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """All in units of one, except the ``_bytes``."""

    fetched_objects: int = 0
    """GETs of data that succeeded: whole small blobs, chunks of large ones, ranges of packs."""
    fetched_bytes: int = 0
    """Data bytes that came from the bucket."""
    ahead_bytes: int = 0
    """Of these, bytes of small files that nobody had asked for."""
    ahead_read_bytes: int = 0
    """Of these, bytes of files that somebody has read since."""
    lower_objects: int = 0
    """Blobs and chunks that came from the lower tier of the cache."""
    lower_bytes: int = 0
    """Their bytes."""
    shared_objects: int = 0
    """Blobs and chunks that another process fetched while this one waited."""
    chunk_lists: int = 0
    """Chunk lists of large blobs that came from the bucket, and parts of lists of block hashes."""
    cache_hits: int = 0
    """Reads the cache answered."""
    cache_misses: int = 0
    """Reads that had to wait for the bucket."""
    in_place_reads: int = 0
    """Reads that files of this machine answered where they lie, without the cache."""
    in_place_bytes: int = 0
    """Their bytes."""
    served_bytes: int = 0
    """Bytes given to readers, from wherever they came."""
    failed_fetches: int = 0
    """Fetches that ended in an error, after retries."""
    digest_mismatches: int = 0
    """Objects whose bytes were not what the manifest says."""
    wrong_answers: int = 0
    """Answers that held other bytes than they should. Most come right when they are asked for again."""
    cache_failures: int = 0
    """Blobs that were not kept because the cache could not be opened or written."""

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return asdict(self)
