"""Bringing one blob into the bucket under a key where it overwrites nothing.

Safe from many threads.

A small blob is created under a free key, in one conditional PUT. Object storage has no portable condition for uploads
in parts, so a large blob gets a key that its hash is part of: only the same bytes could lie there.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import DigestMismatch, FileChanged, FolderUnfit, ObjectCollision, ObjectExists, ObjectMissing
from fusepkg.fetch.verified import ExpectedObject, is_right
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.publish.hash.files import hash_bytes, hash_files
from fusepkg.publish.hash.read import check_unchanged, file_changed, is_surely_unchanged, read_whole, unreadable
from fusepkg.publish.upload.blobs import LocalBlob, StoredBlob
from fusepkg.publish.upload.copy import copy_blob
from fusepkg.publish.upload.keys import candidate_keys, is_named_by_content
from fusepkg.publish.upload.presence import NamedObject
from fusepkg.registry.manifests import get_chunk_list, put_chunk_list
from fusepkg.store.protocol import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.hashes import Hashed
    from fusepkg.publish.upload.presence import Presence
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.threads import StopFlag

SINGLE_PUT_BYTES = 64 << 20
"""Largest blob sent in one PUT, from memory: what is hashed again and what is sent are the same buffer."""

MEMORY_BYTES = 256 << 20
"""Bytes of small blobs in memory at a time, over all threads."""

DIGEST_METADATA = "fusepkg-digest"
"""Metadata of a data object: ``algorithm:hex`` of its bytes, which were hashed on their way."""

COPIED_METADATA = "fusepkg-copied"
"""The same for one that a server copied: nobody has compared its bytes with it, so it stands for copies alone."""

_ABANDONED_METADATA = "fusepkg-abandoned"
"""Marks the empty object left where a file changed during its upload in parts; no manifest names it."""

CREATE_TRIES = 3
"""Tries of one key where another publisher's object is there when ours is refused and gone when we look."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A blob and the physical key of its object; ``is_new`` is False where that lay there before."""

    blob: LocalBlob | StoredBlob
    url: str
    is_new: bool


class Uploader:
    """Uploads blobs below one prefix. ``listed`` has size by key of all that lies there, None if it was not listed.

    ``open_place`` opens what a stored blob is read from, where the store cannot copy it. ``broken`` are the physical
    keys of objects that do not hold what they say; ``presence`` looks at those that it is told to.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        listed: Mapping[str, int] | None,
        stop: StopFlag,
        open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]] | None = None,
        broken: Container[str] = frozenset(),
        presence: Presence | None = None,
    ) -> None:
        self._store = store
        self._broken = broken
        self._presence = presence
        self._open_place = open_place
        self._prefix = prefix
        self._listed = listed
        self._stop = stop
        self._memory = _ByteBudget(MEMORY_BYTES)

    def upload(self, blob: LocalBlob | StoredBlob) -> Uploaded:
        """Upload or copy a blob, unless it is there already, and upload the hashes of its chunks.

        Raises: FileChanged, DigestMismatch, ObjectCollision, and what stores raise.
        """
        self._stop.check()
        if isinstance(blob, LocalBlob) and blob.size > SINGLE_PUT_BYTES:
            uploaded = self._upload_in_parts(blob)
        else:
            uploaded = self._upload_at_once(blob)
        if blob.hashed.chunks:
            put_chunk_list(self._store, blob.hashed.digest, blob.hashed.chunks)
        return uploaded

    def _upload_at_once(self, blob: LocalBlob | StoredBlob) -> Uploaded:
        for key in candidate_keys(self._prefix, blob, plain=True):
            found = self._head(key, blob)
            for _ in range(CREATE_TRIES):
                if found is not None:
                    break
                created = self._create(key, blob)
                if created is not None:
                    return self._uploaded(blob, created, is_new=True)
                found = self._look(key)  # another publisher was first, or has been and took it back
            if found is None or not _is_blob(found, blob):
                continue
            if self._is_broken(found, blob):
                if is_named_by_content(key, blob) and (mended := self._mend(key, blob)) is not None:
                    return self._uploaded(blob, mended, is_new=True)
            elif self._store.stays(found):
                return self._uploaded(blob, found, is_new=False)
        raise self._collision(blob)

    def _is_broken(self, found: ObjectInfo, blob: LocalBlob | StoredBlob) -> bool:
        url = self._store.url(found.key, found.version)
        if url in self._broken or self._presence is None or not self._presence.looks_at(url):
            return url in self._broken
        return self._presence.problem(NamedObject(url, blob.size, blob.hashed.digest), self._stop) is not None

    def _mend(self, key: str, blob: LocalBlob | StoredBlob) -> ObjectInfo | None:
        """Write a damaged object again under a key that only these bytes can have; None for what lies elsewhere."""
        if isinstance(blob, StoredBlob):
            return None
        with self._memory.taken(blob.size):
            return self._store.overwrite(key, self._read(blob), metadata=_metadata(blob))

    def _read(self, blob: LocalBlob) -> bytes:
        self._stop.check()
        data = read_whole(blob.file)
        if hash_bytes(data).digest != blob.hashed.digest:
            raise file_changed(blob.file)
        return data

    def _create(self, key: str, blob: LocalBlob | StoredBlob) -> ObjectInfo | None:
        if isinstance(blob, StoredBlob):
            assert self._open_place is not None
            try:
                return copy_blob(blob, self._store, key, _metadata(blob), self._open_place, self._stop)
            except ObjectExists:
                return None
        with self._memory.taken(blob.size):
            try:
                return self._store.create(key, self._read(blob), metadata=_metadata(blob))
            except ObjectExists:
                return None

    def _upload_in_parts(self, blob: LocalBlob) -> Uploaded:
        for key in candidate_keys(self._prefix, blob, plain=False):
            found = self._head(key, blob)
            if found is None or _ABANDONED_METADATA in found.metadata or self._is_broken(found, blob):
                return self._uploaded(blob, self._upload_large(key, blob), is_new=True)
            if _is_blob(found, blob) and self._is_complete(found, blob):
                return self._uploaded(blob, found, is_new=False)
        raise self._collision(blob)

    def _upload_large(self, key: str, blob: LocalBlob) -> ObjectInfo:
        assert blob.file.path is not None
        check_unchanged(blob.file)
        began_ns = time.time_ns()
        try:
            info = self._store.overwrite(key, Path(os.fsdecode(blob.file.path)), metadata=_metadata(blob))
        except OSError as exc:
            raise unreadable(blob.file, exc) from exc
        try:
            self._check_sent(blob, began_ns)
            if info.size != blob.file.size:
                raise file_changed(blob.file)
        except (FileChanged, FolderUnfit):
            self._store.overwrite(key, b"", metadata={_ABANDONED_METADATA: "1"})
            raise
        return info

    def _check_sent(self, blob: LocalBlob, began_ns: int) -> None:
        """Raise FileChanged if a file that was sent from ``began_ns`` on may not have the bytes that were hashed.

        Where stat data cannot tell, it is hashed once more.
        """
        check_unchanged(blob.file)
        if is_surely_unchanged(blob.file, began_ns):
            return
        hash_files([blob.file], partial(_compare, blob), stop=self._stop)

    def _is_complete(self, found: ObjectInfo, blob: LocalBlob) -> bool:
        """Return whether a large object holds what its metadata says, although a killed push may have left it.

        Metadata are sent before the bytes. The chunk list is written after the check that the file did not change,
        so it vouches for the object; without it the object is read.
        """
        try:
            get_chunk_list(self._store, blob.hashed.digest)
        except (ObjectMissing, DigestMismatch):
            place = parse_physical_key(self._store.url(found.key, found.version))
            expected = ExpectedObject(place, found.size, blob.hashed.digest)
            return is_right(expected, lambda _: (self._store, found.key), self._stop.check)
        return True

    def _head(self, key: str, blob: LocalBlob | StoredBlob) -> ObjectInfo | None:
        """What lies under a key; None if it is free. Objects of another size are as good as any other content."""
        if self._listed is not None and key.startswith(f"{self._prefix}/"):
            size = self._listed.get(key)
            if size is None:
                return None
            if size not in (blob.size, 0):
                return ObjectInfo(key, size)
        return self._look(key)

    def _look(self, key: str) -> ObjectInfo | None:
        try:
            return self._store.head(key)
        except ObjectMissing:
            return None

    def _uploaded(self, blob: LocalBlob | StoredBlob, info: ObjectInfo, *, is_new: bool) -> Uploaded:
        return Uploaded(blob, self._store.url(info.key, info.version), is_new)

    def _collision(self, blob: LocalBlob | StoredBlob) -> ObjectCollision:
        key = f"{self._prefix}/{blob.logical_key}"
        return ObjectCollision(
            f"Other bytes lie at {self._store.url(key)} and under every name made of it and {blob.identity}",
            hint="Publish under another --prefix",
        )


def _metadata(blob: LocalBlob | StoredBlob) -> dict[str, str]:
    return {DIGEST_METADATA if isinstance(blob, LocalBlob) else COPIED_METADATA: str(blob.identity)}


def _compare(blob: LocalBlob, _number: int, hashed: Hashed) -> None:
    if hashed.digest != blob.hashed.digest:
        raise file_changed(blob.file)


def _is_blob(found: ObjectInfo, blob: LocalBlob | StoredBlob) -> bool:
    if found.size != blob.size:
        return False
    claims = {found.metadata.get(DIGEST_METADATA)}
    if isinstance(blob, StoredBlob):
        claims.add(found.metadata.get(COPIED_METADATA))
    return str(blob.identity) in claims


class _ByteBudget:
    """Bounds the bytes that threads hold at a time; one that needs more than the whole gets it alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Wait until so many bytes are free, hold them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + count <= self._limit)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()
