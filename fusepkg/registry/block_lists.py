"""Lists of block hashes in a bucket: looked for, put, read. Whoever reads one checks it against its root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, ObjectExists, ObjectMissing, ObjectTooLarge
from fusepkg.registry.layout import block_list_key

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

    from fusepkg.store.protocol import ObjectStore


def has_block_list(store: ObjectStore, root: Digest, size: int) -> bool:
    """Return whether a list of that root and size is there; one HEAD.

    S3 says 403 of what is not there to those who may not list the bucket.
    """
    try:
        return store.head(block_list_key(root)).size == size
    except (ObjectMissing, AccessDenied):
        return False


def put_block_list(store: ObjectStore, root: Digest, data: bytes) -> None:
    """Put a list. Its root determines its bytes, so one that differs is damaged, and replaced."""
    key = block_list_key(root)
    try:
        store.create(key, data)
    except ObjectExists:
        if get_block_list(store, root, len(data)) != data:
            store.overwrite(key, data)


def get_block_list(store: ObjectStore, root: Digest, size: int) -> bytes | None:
    """Return a list of that root and size, unchecked; None if there is none."""
    try:
        data = store.get(block_list_key(root), at_most=size)
    except (ObjectMissing, AccessDenied, ObjectTooLarge):
        return None
    return data if len(data) == size else None
