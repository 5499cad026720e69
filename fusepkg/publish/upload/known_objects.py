"""Where the bytes lie that older versions name."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm

from fusepkg.errors import HashNotFound, ManifestInvalid, UnsupportedFormat
from fusepkg.model.manifest import read_manifest
from fusepkg.model.record import EntryRecord
from fusepkg.registry.manifests import fetch_manifest, names_local_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

Known = dict[tuple[bytes, int], bytes]
"""URL by raw ``sha2-256-chunked`` value and size."""

_PIECE_BYTES = 1 << 20


def known_objects(store: ObjectStore, name: str, versions: Iterable[str], below: str = "") -> tuple[Known, list[str]]:
    """What versions of a package name among the keys of their bucket that start with ``below``.

    Gives warnings beside it, one for each version that cannot be read: its objects are then looked up anew.
    """
    known: Known = {}
    warnings = []
    here = store.url(f"{below}~")[:-1].encode()
    for top_hash in versions:
        try:
            _read(store, name, top_hash, here, known)
        except (HashNotFound, ManifestInvalid, UnsupportedFormat) as exc:
            log.info("%s@%s cannot be read: %s", name, top_hash, exc)
            warnings.append(f"{name}@{top_hash} cannot be read ({exc.message}); its objects are looked up anew")
    return known, warnings


def _read(store: ObjectStore, name: str, top_hash: str, here: bytes, known: Known) -> None:
    with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
        manifest = Path(scratch, "manifest")
        fetch_manifest(store, name, top_hash, manifest)
        with manifest.open("rb") as file:
            pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
            for record in read_manifest(pieces, allow_file_keys=names_local_files(store)).records:
                if (
                    isinstance(record, EntryRecord)
                    and record.algorithm is Algorithm.SHA2_256_CHUNKED
                    and record.url.startswith(here)
                ):
                    known[record.value, record.size] = record.url
