"""Objects of a bucket on their way to whoever decodes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fusepkg.errors import FileChanged
from fusepkg.pool.sources import SourceObject, opened
from fusepkg.store.memory import MemoryStore


def context_of(store: MemoryStore) -> Any:
    return SimpleNamespace(stores=SimpleNamespace(for_key=lambda place: (store, place.key)))


def test_an_object_is_read_up_to_the_size_that_was_listed() -> None:
    found = SourceObject("a.png", "etag:1", "s3://bucket/a.png", is_video=False, size=5)
    store = MemoryStore()
    store.create("a.png", b"bytes")
    with opened(context_of(store), found) as file:
        assert file.read() == b"bytes"
    store.overwrite("a.png", b"more bytes")
    with pytest.raises(FileChanged, match="changed while it was read"), opened(context_of(store), found):
        pass
