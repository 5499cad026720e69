"""Reading entries through the fetch path, without a mount.

Owns: what a source of bytes needs, and its end. Must not know: how bytes are found or verified.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from fusepkg_cache.errors import CacheError

from fusepkg.cli.opening import warn_of_cache
from fusepkg.fetch.blocking import BlockingSource
from fusepkg.fetch.source import BlobSource
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.opening import StoreSet

if TYPE_CHECKING:
    from fusepkg_cache import Cache

    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference
    from fusepkg.settings import Settings

_PIECE_BYTES = 1 << 20
"""Written at a time."""


def blocking_source(settings: Settings, reference: Reference) -> BlockingSource:
    """The bytes of entries of a package; to be closed."""
    stores = StoreSet(settings.s3, settings.data_dir)
    chunk_list = partial(get_chunk_list, stores.for_bucket(reference.bucket))

    def open_cache() -> Cache:
        try:
            return settings.cache.open()
        except CacheError as exc:
            warn_of_cache(f"nothing is cached: {exc}")
            raise

    return BlockingSource(lambda nursery: BlobSource(open_cache, stores.for_key, chunk_list, nursery))


def write_entry(settings: Settings, reference: Reference, entry: Entry, output: BinaryIO) -> None:
    """Write an entry's bytes, verified. Raises RemoteError, IntegrityError."""
    with closing(blocking_source(settings, reference)) as source:
        output.writelines(source.read(entry, offset, _PIECE_BYTES) for offset in range(0, entry.size, _PIECE_BYTES))
    output.flush()
