"""Reading one entry through the fetch path, without a mount.

Owns: the event loop around it. Must not know: how bytes are found or verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import trio

from fusepkg.fetch.source import BlobSource
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.opening import StoreSet, open_store

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference
    from fusepkg.settings import Settings

_PIECE_BYTES = 1 << 20
"""Written at a time."""


def write_entry(settings: Settings, reference: Reference, entry: Entry, output: BinaryIO) -> None:
    """Write an entry's bytes, verified. Raises RemoteError, IntegrityError."""
    stores = StoreSet(settings.s3, settings.data_dir)
    registry = open_store(reference.bucket, settings.s3, settings.data_dir)

    def chunk_list(digest: Digest) -> list[bytes]:
        return get_chunk_list(registry, digest)

    failures: list[Exception] = []

    async def copy() -> None:
        async with trio.open_nursery() as nursery:
            source = BlobSource(settings.cache.open, stores.for_key, chunk_list, nursery)
            try:
                for offset in range(0, entry.size, _PIECE_BYTES):
                    piece = await source.read(entry, offset, _PIECE_BYTES)
                    output.write(piece)
            except Exception as exc:  # noqa: BLE001 - raised below, out of the nursery's group
                failures.append(exc)
            finally:
                source.close()

    trio.run(copy)
    output.flush()
    if failures:
        raise failures[0]
