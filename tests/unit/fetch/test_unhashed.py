"""Objects whose hash is not known yet: read once, up to the size that was listed."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.digest import chunk_size

from fusepkg.errors import FileChanged
from fusepkg.fetch.unhashed import read_unhashed
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = PhysicalKey("s3", "bucket", "a")


class EndlessStore(MemoryStore):
    """Its objects go on for ever when they are streamed."""

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        while True:
            yield b"x" * piece_bytes


def read(data: bytes, size: int) -> tuple[tuple[bytes, ...], bytes]:
    store, kept = MemoryStore(), io.BytesIO()
    store.create("a", data)
    return read_unhashed(PLACE, size, lambda place: (store, place.key), kept), kept.getvalue()


def test_the_hash_of_each_chunk_comes_back_and_the_bytes_are_kept() -> None:
    large = bytes(chunk_size(0)) + b"end"
    chunks = (hashlib.sha256(large[: chunk_size(0)]).digest(), hashlib.sha256(b"end").digest())
    assert read(large, len(large)) == (chunks, large)
    assert read(b"small", 5) == ((hashlib.sha256(b"small").digest(),), b"small")
    assert read(b"", 0) == ((), b"")


@pytest.mark.parametrize("size", [0, 4, 6])
def test_an_object_of_another_size_has_changed(size: int) -> None:
    with pytest.raises(FileChanged, match="s3://bucket/a changed"):
        read(b"bytes", size)


def test_an_object_without_end_is_left() -> None:
    with pytest.raises(FileChanged):
        read_unhashed(PLACE, chunk_size(0) + 1, lambda place: (EndlessStore(), place.key))


def test_it_can_be_stopped_between_pieces() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_unhashed(PLACE, chunk_size(0) + 1, lambda place: (EndlessStore(), place.key), between=stop)
