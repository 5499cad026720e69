"""Blobs with known bytes, for the tests of the cache."""

from __future__ import annotations

import random
from pathlib import Path

from fusepkg_cache import Algorithm, Digest, compute_digest

SMALL = 10 * 1024
LARGE = 300 * 1024 + 17


def blob(size: int, seed: int = 0, algorithm: Algorithm = Algorithm.SHA2_256) -> tuple[Digest, bytes]:
    """Random bytes, always the same for a size and a seed, and their digest."""
    data = random.Random(f"{size}/{seed}").randbytes(size)
    return compute_digest(algorithm, data), data


def flip(data: bytes, at: int) -> bytes:
    """The bytes with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def spoil_small(directory: Path, data: bytes) -> None:
    """Flip a bit of a small blob in each segment that has it."""
    for path in (directory / "v2" / "segments").iterdir():
        content = path.read_bytes()
        at = content.find(data[:64])
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(flip(data[:64], min(10, len(data) - 1)))
