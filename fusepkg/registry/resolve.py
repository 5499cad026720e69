"""Resolve a reference to a top hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import HashAmbiguous
from fusepkg.registry import layout
from fusepkg.registry.catalogue import find_tag
from fusepkg.registry.not_found import NAMED_CANDIDATES, hash_not_found, some, tag_not_found

if TYPE_CHECKING:
    from fusepkg.model.reference import Reference
    from fusepkg.registry.layout import Layout
    from fusepkg.store.protocol import ObjectStore


@dataclass(frozen=True, slots=True)
class Resolved:
    """A reference and the version it names; ``tag`` is the tag it was resolved by, None for a hash.

    ``where`` is the layout that has it, asked first for its manifest; None if no layout was asked. ``offline_since_s``
    is when the tag was last seen to name it (Unix time), where the bucket could not be asked this time.
    """

    reference: Reference
    top_hash: str
    tag: str | None
    where: Layout | None = None
    offline_since_s: float | None = None


def resolve(store: ObjectStore, reference: Reference) -> Resolved:
    """Return the version a reference names. A hash wins over a tag; all 64 digits need no request.

    Raises: HashNotFound, HashAmbiguous, TagNotFound, PackageNotFound, BucketNotFound.
    """
    if reference.top_hash is None:
        found = find_tag(store, reference.name, reference.tag)
        if found is None:
            raise tag_not_found(store, reference)
        top_hash, where = found
        return Resolved(reference, top_hash, reference.tag, where)
    if len(reference.top_hash) == layout.FULL_HASH_DIGITS:
        return Resolved(reference, reference.top_hash, None)
    return _complete_hash(store, reference, reference.top_hash)


def _complete_hash(store: ObjectStore, reference: Reference, start: str) -> Resolved:
    for where in layout.layouts_of(reference.name):
        listed = store.list(layout.manifest_prefix(reference.name, start, where), limit=NAMED_CANDIDATES + 1)
        found = [top_hash for info in listed if (top_hash := layout.parse_manifest_key(info.key)) is not None]
        if len(found) == 1:
            return Resolved(reference, found[0], None, where)
        if found:
            raise HashAmbiguous(
                f"{reference.package}@{start} could be {some(found)}", hint="Write as many digits as it takes to tell"
            )
    raise hash_not_found(store, reference)
