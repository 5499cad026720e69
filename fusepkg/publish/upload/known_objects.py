"""Where the bytes lie that older versions of a package name in its bucket."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm

from fusepkg.errors import HashNotFound, ManifestInvalid, UnsupportedFormat
from fusepkg.model.manifest import read_manifest
from fusepkg.model.record import EntryRecord
from fusepkg.publish.places import Places
from fusepkg.registry.catalogue import newest_version
from fusepkg.registry.manifests import fetch_manifest, names_local_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class KnownObjects:
    """Physical keys by the name of the bytes that older versions say lie there. Some may be gone since.

    ``warnings`` has one for each version that cannot be read: its objects are then looked up again.
    """

    places: Places = field(default_factory=Places)
    warnings: list[str] = field(default_factory=list)


def read_known_objects(store: ObjectStore, name: str, versions: Iterable[str | None], below: str = "") -> KnownObjects:
    """Read what versions of a package name among the keys of their bucket that start with ``below``.

    The first version that names some bytes says where they lie. Without any version, that is the one a tag of the
    package has named last.
    """
    top_hashes = [top_hash for top_hash in dict.fromkeys(versions) if top_hash]
    if not top_hashes and (newest := newest_version(store, name)) is not None:
        top_hashes = [newest]
    here = store.url(f"{below}~")[:-1]
    known = KnownObjects(Places(here))
    for top_hash in top_hashes:
        try:
            _read(store, name, top_hash, here.encode(), known.places)
        except (HashNotFound, ManifestInvalid, UnsupportedFormat) as exc:
            log.info("%s@%s cannot be read: %s", name, top_hash, exc)
            known.warnings.append(f"{name}@{top_hash} cannot be read ({exc.message}); its objects are looked up again")
    return known


def _read(store: ObjectStore, name: str, top_hash: str, here: bytes, places: Places) -> None:
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
                    and record.value not in places
                ):
                    places[record.value] = record.url.decode()
