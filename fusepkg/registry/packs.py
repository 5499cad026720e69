"""Packs and their tables in a bucket: looked for, put, read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, ObjectExists, ObjectMissing, ObjectTooLarge, PackTableInvalid
from fusepkg.packs.table import MAX_TABLE_BYTES
from fusepkg.registry.layout import pack_key, pack_table_key

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.store.protocol import ObjectStore


def has_pack(store: ObjectStore, pack: str, size: int) -> bool:
    """Return whether a pack of that name and size is there; one HEAD.

    S3 says 403 of what is not there to those who may not list the bucket.
    """
    try:
        return store.head(pack_key(pack)).size == size
    except (ObjectMissing, AccessDenied):
        return False


def put_pack(store: ObjectStore, pack: str, source: Path, *, replace: bool = False) -> None:
    """Put a pack. Its name determines its bytes, so one of another size is replaced, and with ``replace`` any."""
    key = pack_key(pack)
    try:
        if not replace:
            store.create(key, source)
            return
    except ObjectExists:
        if has_pack(store, pack, source.stat().st_size):
            return
    store.overwrite(key, source)


def get_pack_table(store: ObjectStore, top_hash: str) -> bytes:
    """Return the table of a version's packs, unchecked. Raises ObjectMissing, PackTableInvalid if it is too large."""
    try:
        return store.get(pack_table_key(top_hash), at_most=MAX_TABLE_BYTES)
    except ObjectTooLarge as exc:
        raise PackTableInvalid(exc.message) from exc


def put_pack_table(store: ObjectStore, top_hash: str, table: bytes) -> None:
    """Put the table of a version's packs in place of the one there may be; nothing if that is the same."""
    key = pack_table_key(top_hash)
    try:
        if store.get(key, at_most=len(table)) == table:
            return
    except (ObjectMissing, AccessDenied, ObjectTooLarge):
        pass
    store.overwrite(key, table)
