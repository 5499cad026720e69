"""Bringing one blob into the bucket under a key where it overwrites nothing.

Safe from many threads.

A small blob is created under a free key, in one conditional PUT. Object storage has no portable condition for uploads
in parts, so a large blob gets a key that its hash is part of: only the same bytes could lie there.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import chunk_size, combine_chunks

from fusepkg.errors import DigestMismatch, FileChanged, ObjectCollision, ObjectExists, ObjectMissing, UsageError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.publish.hash.files import hash_bytes
from fusepkg.publish.hash.read import check_unchanged, file_changed, read_whole, unreadable
from fusepkg.publish.upload.blobs import Blob, StoredBlob
from fusepkg.publish.upload.copy import copy_blob
from fusepkg.registry.layout import MAX_KEY_BYTES, ROOT
from fusepkg.registry.manifests import get_chunk_list, put_chunk_list
from fusepkg.store.protocol import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fusepkg.model.physical_key import PhysicalKey
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

_SHORT_DIGITS = 16
"""Digits of the hash in the key of a blob whose plain key is taken."""

_HARD_TO_LIST = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")
"""Characters that XML 1.0, which S3 answers in, cannot hold or changes: servers fail over them in their own ways."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A blob and where it lies now; ``uploaded`` is False where it lay there before."""

    blob: Blob | StoredBlob
    physical_key: PhysicalKey
    uploaded: bool


class Placing:
    """Places blobs under one prefix. ``listed`` has size by key of all that lies there, None if nobody listed.

    ``open_place`` opens what a stored blob is read from, where the store cannot copy it.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        listed: Mapping[str, int] | None,
        stop: StopFlag,
        open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]] | None = None,
    ) -> None:
        self._store = store
        self._open_place = open_place
        self._prefix = prefix
        self._listed = listed
        self._stop = stop
        self._memory = _ByteBudget(MEMORY_BYTES)

    def place(self, blob: Blob | StoredBlob) -> Placed:
        """Upload or copy a blob, unless it is there already, and upload the hashes of its chunks.

        Raises: FileChanged, DigestMismatch, ObjectCollision, and what stores raise.
        """
        self._stop.check()
        if isinstance(blob, Blob) and blob.size > SINGLE_PUT_BYTES:
            placed = self._place_large(blob)
        else:
            placed = self._place_at_once(blob)
        if blob.hashed.chunks:
            put_chunk_list(self._store, blob.hashed.digest, blob.hashed.chunks)
        return placed

    def _place_at_once(self, blob: Blob | StoredBlob) -> Placed:
        for key in candidate_keys(self._prefix, blob, plain=True):
            found = self._head(key, blob)
            for _ in range(CREATE_TRIES):
                if found is not None:
                    break
                created = self._create(key, blob)
                if created is not None:
                    return self._placed(blob, created, uploaded=True)
                found = self._look(key)  # another publisher was first, or has been and took it back
            if found is not None and _is_blob(found, blob) and self._store.stays(found):
                return self._placed(blob, found, uploaded=False)
        raise self._collision(blob)

    def _create(self, key: str, blob: Blob | StoredBlob) -> ObjectInfo | None:
        if isinstance(blob, StoredBlob):
            assert self._open_place is not None
            try:
                return copy_blob(blob, self._store, key, _metadata(blob), self._open_place, self._stop)
            except ObjectExists:
                return None
        with self._memory.taken(blob.size):
            self._stop.check()
            data = read_whole(blob.file)
            if hash_bytes(data).digest != blob.hashed.digest:
                raise file_changed(blob.file)
            try:
                return self._store.create(key, data, metadata=_metadata(blob))
            except ObjectExists:
                return None

    def _place_large(self, blob: Blob) -> Placed:
        for key in candidate_keys(self._prefix, blob, plain=False):
            found = self._head(key, blob)
            if found is None or _ABANDONED_METADATA in found.metadata:
                return self._placed(blob, self._upload_large(key, blob), uploaded=True)
            if _is_blob(found, blob) and self._is_complete(found, blob):
                return self._placed(blob, found, uploaded=False)
        raise self._collision(blob)

    def _upload_large(self, key: str, blob: Blob) -> ObjectInfo:
        assert blob.file.path is not None
        check_unchanged(blob.file)
        try:
            info = self._store.overwrite(key, Path(os.fsdecode(blob.file.path)), metadata=_metadata(blob))
        except OSError as exc:
            raise unreadable(blob.file, exc) from exc
        try:
            check_unchanged(blob.file)
            if info.size != blob.file.size:
                raise file_changed(blob.file)
        except FileChanged:
            self._store.overwrite(key, b"", metadata={_ABANDONED_METADATA: "1"})
            raise
        return info

    def _is_complete(self, found: ObjectInfo, blob: Blob) -> bool:
        """Whether a large object holds what its metadata says, although a killed push may have left it.

        Metadata are sent before the bytes. The chunk list is written after the check that the file did not change,
        so it vouches for the object; without it the object is read.
        """
        try:
            get_chunk_list(self._store, blob.hashed.digest)
        except (ObjectMissing, DigestMismatch):
            hashes = []
            for piece in self._store.stream(found.key, version=found.version, piece_bytes=chunk_size(found.size)):
                self._stop.check()
                hashes.append(hashlib.sha256(piece).digest())
            return combine_chunks(hashes) == blob.hashed.digest
        return True

    def _head(self, key: str, blob: Blob | StoredBlob) -> ObjectInfo | None:
        """What lies under a key; None if it is free. Objects of another size are as good as any other content."""
        if self._listed is not None:
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

    def _placed(self, blob: Blob | StoredBlob, info: ObjectInfo, *, uploaded: bool) -> Placed:
        return Placed(blob, parse_physical_key(self._store.url(info.key, info.version)), uploaded)

    def _collision(self, blob: Blob | StoredBlob) -> ObjectCollision:
        key = f"{self._prefix}/{blob.logical_key}"
        return ObjectCollision(
            f"Other bytes lie at {self._store.url(key)} and under every name made of it and {blob.identity}",
            hint="Publish under another --prefix",
        )


def candidate_keys(prefix: str, blob: Blob | StoredBlob, *, plain: bool) -> list[str]:
    """The keys a blob may get, best first; ``plain`` if its name alone is one of them."""
    digits = blob.identity.hex
    key = f"{prefix}/{blob.logical_key}"
    keys = [f"{key}~{digits[:_SHORT_DIGITS]}", f"{key}~{digits}"]
    if plain:
        keys.insert(0, key)
    fit = [key for key in keys if _fits(key)]
    # A path too long for the bucket, or hard to list in XML: the content alone names the object.
    return fit if len(fit) == len(keys) else [*fit, f"{prefix}/~{digits}"]


def normalise_prefix(prefix: str) -> str:
    """A prefix as keys start with it: no slash at either end, no empty part. Raises UsageError."""
    parts = [part for part in prefix.split("/") if part not in ("", ".")]
    normal = "/".join(parts)
    shown = f"The prefix {prefix!r}"
    if not parts:
        raise UsageError(f"{shown} names no place", hint="Leave it out to publish under the package's name")
    if ".." in parts or not normal.isprintable():
        raise UsageError(f"{shown} has a part '..' or a control character", hint="Write it as a plain path")
    if f"{normal}/".startswith(ROOT):
        raise UsageError(f"{shown} lies in {ROOT}, where the registry is", hint="Choose another place for the data")
    if not _fits(f"{normal}/~{'0' * 64}"):
        raise UsageError(f"{shown} is too long for a key", hint="Choose a shorter one")
    return normal


def _fits(key: str) -> bool:
    return len(key.encode()) <= MAX_KEY_BYTES and not _HARD_TO_LIST.search(key)


def _metadata(blob: Blob | StoredBlob) -> dict[str, str]:
    return {DIGEST_METADATA if isinstance(blob, Blob) else COPIED_METADATA: str(blob.identity)}


def _is_blob(found: ObjectInfo, blob: Blob | StoredBlob) -> bool:
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
