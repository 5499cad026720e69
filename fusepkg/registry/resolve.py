"""Resolve a reference to a top hash, and say what exists if it cannot be resolved."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import HashAmbiguous, HashNotFound, PackageNotFound, TagNotFound
from fusepkg.registry import layout
from fusepkg.registry.catalogue import find_tag, has_package, list_packages, tag_names

if TYPE_CHECKING:
    from fusepkg.errors import PackageError
    from fusepkg.model.reference import Reference
    from fusepkg.registry.layout import Layout
    from fusepkg.store.protocol import ObjectStore

_NAMED_CANDIDATES = 10
"""Versions, tags or names that a message lists before it says how many more there are."""

_NEAR_NAMES_LISTED = 10_000
"""Packages listed to find names near a mistyped one: ten requests for each layout, in a bucket of any size."""

_NEAR_TAG = 0.5
"""Likeness from which a tag counts as near: v1 is near v2."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A reference and the version it names; ``tag`` is the tag it was resolved by, None for a hash.

    ``where`` is the layout that has it, asked first for its manifest; None if no layout was asked.
    """

    reference: Reference
    top_hash: str
    tag: str | None
    where: Layout | None = None


def resolve(store: ObjectStore, reference: Reference) -> Resolved:
    """Return the version a reference names. A hash wins over a tag; all 64 digits need no request.

    Raises: HashNotFound, HashAmbiguous, TagNotFound, PackageNotFound, BucketNotFound.
    """
    if reference.top_hash is None:
        found = find_tag(store, reference.name, reference.tag)
        if found is None:
            raise _tag_not_found(store, reference)
        top_hash, where = found
        return Resolved(reference, top_hash, reference.tag, where)
    if len(reference.top_hash) == layout.FULL_HASH_DIGITS:
        return Resolved(reference, reference.top_hash, None)
    return _complete_hash(store, reference, reference.top_hash)


def _complete_hash(store: ObjectStore, reference: Reference, start: str) -> Resolved:
    for where in layout.layouts_of(reference.name):
        listed = store.list(layout.manifest_prefix(reference.name, start, where), limit=_NAMED_CANDIDATES + 1)
        found = [top_hash for info in listed if (top_hash := layout.parse_manifest_key(info.key)) is not None]
        if len(found) == 1:
            return Resolved(reference, found[0], None, where)
        if found:
            raise HashAmbiguous(
                f"{reference.package}@{start} could be {_some(found)}", hint="Write as many digits as it takes to tell"
            )
    if not has_package(store, reference.name):
        raise _package_not_found(store, reference)
    raise HashNotFound(
        f"{reference.package} has no version whose top hash starts with {start}",
        hint=f"See its versions with: fusepkg log {reference.package}",
    )


def _tag_not_found(store: ObjectStore, reference: Reference) -> PackageError:
    tags = tag_names(store, reference.name)
    if tags:
        return TagNotFound(
            f"{reference.package} has no tag {reference.tag!r}",
            hint=f"It has {_some(_nearest_first(reference.tag, tags))}",
        )
    if has_package(store, reference.name):
        return TagNotFound(
            f"{reference.package} has no tag yet", hint="Name a version by its hash (@...), or tag one: fusepkg tag"
        )
    return _package_not_found(store, reference)


def _package_not_found(store: ObjectStore, reference: Reference) -> PackageError:
    names = list_packages(store, at_most=_NEAR_NAMES_LISTED)
    near = difflib.get_close_matches(reference.name, names, n=_NAMED_CANDIDATES)
    if near:
        hint = f"Near names: {', '.join(near)}"
    elif names:
        hint = f"See what there is with: fusepkg list {reference.bucket}"
    else:
        hint = "It holds no package at all"
    return PackageNotFound(f"{reference.bucket} has no package {reference.name!r}", hint=hint)


def _nearest_first(word: str, others: list[str]) -> list[str]:
    near = difflib.get_close_matches(word, others, n=_NAMED_CANDIDATES, cutoff=_NEAR_TAG)
    return near + [other for other in others if other not in near]


def _some(items: list[str]) -> str:
    more = len(items) - _NAMED_CANDIDATES
    return ", ".join(items[:_NAMED_CANDIDATES]) + (f" and {more} more" if more > 0 else "")
