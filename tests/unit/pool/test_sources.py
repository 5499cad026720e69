"""Objects of a bucket on their way to whoever decodes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fusepkg.errors import ObjectTooLarge
from fusepkg.pool.sources import SourceObject, opened
from fusepkg.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator


class EndlessStore(MemoryStore):
    """Its objects go on for ever when they are streamed."""

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        while True:
            yield b"x" * piece_bytes


def context_of(store: MemoryStore) -> Any:
    return SimpleNamespace(stores=SimpleNamespace(for_key=lambda place: (store, place.key)))


def test_an_object_is_read_up_to_the_size_that_was_listed() -> None:
    found = SourceObject("a.png", "etag:1", "s3://bucket/a.png", is_video=False, size=5)
    store = MemoryStore()
    store.create("a.png", b"bytes")
    with opened(context_of(store), found) as file:
        assert file.read() == b"bytes"
    with pytest.raises(ObjectTooLarge, match="larger than the 5 bytes"), opened(context_of(EndlessStore()), found):
        pass
