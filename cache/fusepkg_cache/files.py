"""Large blobs as files: ``<algorithm>/<first 2 hex>/<hex>``, each exactly the raw bytes.

Files are read with pread, never mapped: a file that is cut off while it is read gives short bytes, not SIGBUS. They are
published by rename, so a name stands for a whole blob. They are not synced: what a power cut leaves of one fails
its sums or its hash, and is dropped.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest, Hashing
from fusepkg_cache.records import BLOCK_BYTES, block_sums, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg_cache.records import BlockSpan

_READ_BYTES = 16 * BLOCK_BYTES
"""Read at once where a file is checked in full: 1 MiB keeps the memory small and the calls few."""

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobFiles:
    """The large blobs of one cache directory."""

    directory: Path

    def path(self, digest: Digest) -> str:
        """Where a blob lies, or would."""
        name = digest.hex
        return f"{self.directory}/{digest.algorithm.value}/{name[:2]}/{name}"

    def size(self, digest: Digest) -> int | None:
        """The size of a blob's file; None where there is none."""
        try:
            return os.stat(self.path(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, digest: Digest) -> int | None:
        """A descriptor to read a blob with; None where there is no file."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def publish(self, written: Path, digest: Digest) -> None:
        """Give a written file its blob's name; from here on every process finds it."""
        path = self.path(digest)
        try:
            os.rename(written, path)
        except FileNotFoundError:
            for directory in (self.directory, self.directory / digest.algorithm.value, Path(path).parent):
                directory.mkdir(mode=0o700, exist_ok=True)
            os.rename(written, path)
        except IsADirectoryError:  # nothing of ours
            shutil.rmtree(path)
            os.rename(written, path)

    def remove(self, digest: Digest) -> int | None:
        """Remove a blob's file; its size, None if there was none."""
        size = self.size(digest)
        try:
            os.unlink(self.path(digest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:  # nothing of ours
            shutil.rmtree(self.path(digest))
        return size

    def remove_opened(self, digest: Digest, descriptor: int) -> bool:
        """Remove a blob's file if it is still the one that was opened: somebody may have put a whole one meanwhile."""
        try:
            if not os.path.samestat(os.stat(self.path(digest)), os.fstat(descriptor)):
                return False
            os.unlink(self.path(digest))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def __iter__(self) -> Iterator[Digest]:
        """The blobs that have a file, in order of their names; foreign files are passed over."""
        for algorithm in Algorithm:
            for prefix in _names(self.directory / algorithm.value):
                for name in _names(self.directory / algorithm.value / prefix):
                    if _HEX.fullmatch(name) and name.startswith(prefix):
                        yield Digest(algorithm, bytes.fromhex(name))


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_checked(descriptor: int, digest: Digest, span: BlockSpan) -> bytes | None:
    """The bytes of a span; None where the file does not have its size, or a block does not have its sum."""
    if os.fstat(descriptor).st_size != span.blob_bytes:
        return None
    data = _pread(descriptor, span.stop - span.start, span.start)
    if len(data) != span.stop - span.start or block_sums(digest, data) != span.sums:
        return None
    return data


def check_in_full(descriptor: int, digest: Digest) -> bytes | None:
    """The record of a file whose bytes hash to ``digest``; None where they do not."""
    size = os.fstat(descriptor).st_size
    hashing = Hashing(digest.algorithm, size)
    sums: list[bytes] = []
    for at in range(0, size, _READ_BYTES):
        data = _pread(descriptor, min(_READ_BYTES, size - at), at)
        hashing.update(data)
        sums.append(block_sums(digest, data))
    return record(size, b"".join(sums)) if digest.matches(hashing.digest()) else None


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    """``length`` bytes, fewer only at the end of the file; the kernel gives at most 2 GiB at once."""
    data = os.pread(descriptor, length, offset)
    if len(data) == length or not data:
        return data
    pieces = [data]
    while (got := sum(map(len, pieces))) < length and pieces[-1]:
        pieces.append(os.pread(descriptor, length - got, offset + got))
    return b"".join(pieces)
