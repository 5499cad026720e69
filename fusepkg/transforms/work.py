"""What a worker does: read some parts, run the function, write results into the bucket, and say so there."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError, KeyCollision, UsageError
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.manifest import entries_of
from fusepkg.publish.upload.data import push_data
from fusepkg.transforms.records import write_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.model.entry import Entry
    from fusepkg.transforms.parts import Part, SourcePackage

_AHEAD_BYTES = 64 << 20
"""Bytes of one batch that are fetched side by side before its functions run."""


@dataclass(frozen=True, slots=True)
class FailedEntries:
    """Entries of which nothing came, and why."""

    logical_keys: tuple[str, ...]
    error: str

    def __str__(self) -> str:
        more = f" and {len(self.logical_keys) - 1:,} more" if len(self.logical_keys) > 1 else ""
        return f"{self.logical_keys[0]}{more}: {self.error}"


@dataclass(frozen=True, slots=True)
class BatchDone:
    """What came of a batch: entries by the name of each part, and failures by theirs."""

    done: dict[str, tuple[Entry, ...]]
    failed: dict[str, FailedEntries]


class Work:
    """Runs a function over batches. Pickles; a process opens the package once, however many batches it gets."""

    def __init__(
        self, source: SourcePackage, function: Callable[[Any], object], out: str, prefix: str, below: str, by: int
    ) -> None:
        self.source = source
        self.function = function
        self.out = out
        self.prefix = prefix
        self.below = below
        self.by = by

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (pickle.dumps(self.source), self.function, self.out, self.prefix, self.below, self.by)

    def __call__(self, batch: tuple[Part, ...]) -> BatchDone:
        """Do a batch. An error of the function is a failure; one of the bucket is raised."""
        source = self.source
        draft = Draft(parse_reference(self.out), source.context.stores)
        made: dict[str, list[str]] = {}
        failed: dict[str, FailedEntries] = {}
        self._fetch(batch)
        with tempfile.TemporaryDirectory(prefix="fusepkg-transform-") as scratch:
            for number, part in enumerate(batch):
                try:
                    made[part.key] = self._make(part, draft, Path(scratch, str(number)))
                except Exception as exc:  # noqa: BLE001 - whatever a function raises is a failure of its part
                    said = exc.message if isinstance(exc, FusepkgError) else f"{type(exc).__name__}: {exc}"
                    failed[part.key] = FailedEntries(self._keys(part), said[:500])
            if len(draft):
                push_data(draft, self.prefix)
            found = {entry.logical_key: entry for entry in entries_of(draft)} if len(draft) else {}
        done = {key: tuple(found[one] for one in keys) for key, keys in made.items()}
        if done:
            write_record(draft.stores.for_bucket(draft.reference.bucket), self.below, done)
        return BatchDone(done, failed)

    def _fetch(self, batch: tuple[Part, ...]) -> None:
        """Bring the bytes of a batch into the cache, side by side; an error shows where they are read."""
        entries = [self.source.index.entries.entry(number) for part in batch for number in part.numbers]
        if len(entries) > 1 and sum(entry.size for entry in entries) <= _AHEAD_BYTES:
            self.source.reader.read_many([(entry, 0, entry.size) for entry in entries])

    def _keys(self, part: Part) -> tuple[str, ...]:
        entries = self.source.index.entries
        return tuple(entries.logical_key(number) for number in part.numbers)

    def _make(self, part: Part, draft: Draft, scratch: Path) -> list[str]:
        """Run the function over a part; return the logical keys that came of it."""
        entries = [self.source.entry_at(number) for number in part.numbers]
        result = self.function(entries[0] if self.by == 1 else entries)
        if result is None:
            return []
        if isinstance(result, bytes | bytearray | memoryview | os.PathLike) and self.by == 1:
            result = {entries[0].logical_key: (result, entries[0].meta)}
        if not isinstance(result, Mapping):
            raise UsageError(
                f"the function gave a {type(result).__name__}: bytes, a path, a dictionary or None will do"
            )
        scratch.mkdir()
        ready = [(str(key), *_content(value, scratch / str(at))) for at, (key, value) in enumerate(result.items())]
        for key, _, _ in ready:
            if key in draft.tree.slots:
                raise KeyCollision(f"two entries have become {key!r}")
        for key, path, meta in ready:
            draft.set(key, os.fspath(path), meta or None)
        return [key for key, _, _ in ready]


def _content(value: object, path: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file and the metadata of one result: bytes or a path, alone or with metadata."""
    meta: Any = {}
    if isinstance(value, tuple) and len(value) == 2:
        value, meta = value
    if isinstance(value, bytes | bytearray | memoryview):
        path.write_bytes(value)
    elif isinstance(value, str | os.PathLike):
        path.write_bytes(Path(value).read_bytes())  # a copy: the function may use the path again
    else:
        raise UsageError(f"a result is a {type(value).__name__}: bytes or a path will do")
    return path, meta


def _rebuilt(source: bytes, *rest: Any) -> Work:  # noqa: ANN401 - the arguments of Work
    return Work(_opened(source), *rest)


@lru_cache(maxsize=4)
def _opened(pickled: bytes) -> SourcePackage:
    source: SourcePackage = pickle.loads(pickled)
    return source
