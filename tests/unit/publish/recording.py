"""A store that writes down what is asked of it, and can be told to act up: for counting requests in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fusepkg.store.protocol import ObjectInfo, ObjectStore

Hook = Callable[[str, str], None]


class RecordingStore:
    """Passes everything on. ``before`` and ``after`` are called with each call's name and key; both may raise."""

    def __init__(self, inner: ObjectStore, before: Hook | None = None, after: Hook | None = None) -> None:
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        self._before = before
        self._after = after
        self._lock = threading.Lock()

    def keys(self, call: str, start: str = "") -> list[str]:
        return sorted(key for name, key in self.calls if name == call and key.startswith(start))

    def written(self) -> list[str]:
        return sorted(key for name, key in self.calls if name in ("create", "overwrite"))

    def _enter(self, call: str, key: str) -> None:
        with self._lock:
            self.calls.append((call, key))
        if self._before:
            self._before(call, key)

    def _leave(self, call: str, key: str) -> None:
        if self._after:
            self._after(call, key)

    def get(self, key: str, **options: Any) -> bytes:
        self._enter("get", key)
        return self.inner.get(key, **options)

    def stream(self, key: str, **options: Any) -> Iterator[bytes]:
        self._enter("stream", key)
        return self.inner.stream(key, **options)

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        self._enter("head", key)
        return self.inner.head(key, version=version)

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        self._enter("list", prefix)
        return self.inner.list(prefix, limit=limit)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        self._enter("list", prefix)
        return self.inner.list_versions(prefix)

    def list_directories(self, prefix: str) -> Iterator[str]:
        self._enter("list", prefix)
        return self.inner.list_directories(prefix)

    def stays(self, found: ObjectInfo) -> bool:
        return self.inner.stays(found)

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        self._enter("create", key)
        info = self.inner.create(key, source, metadata=metadata)
        self._leave("create", key)
        return info

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        self._enter("overwrite", key)
        info = self.inner.overwrite(key, source, metadata=metadata)
        self._leave("overwrite", key)
        return info

    def url(self, key: str, version: str | None = None) -> str:
        return self.inner.url(key, version)
