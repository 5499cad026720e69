"""Errors for what a bucket does not have, which name what it has."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from fusepkg.errors import HashNotFound, PackageNotFound, TagNotFound
from fusepkg.registry.catalogue import has_package, list_packages, tag_names

if TYPE_CHECKING:
    from fusepkg.errors import PackageError
    from fusepkg.model.reference import Reference
    from fusepkg.store.protocol import ObjectStore

NAMED_CANDIDATES = 10
"""Versions, tags or names that a message lists before it says how many more there are."""

_NEAR_NAMES_LISTED = 10_000
"""Packages listed to find names near a mistyped one: ten requests for each layout, in a bucket of any size."""

_NEAR_TAG = 0.5
"""Likeness from which a tag counts as near: v1 is near v2."""


def tag_not_found(store: ObjectStore, reference: Reference) -> PackageError:
    """Return the error for a tag that the package does not have, or for a package that is not there."""
    tags = tag_names(store, reference.name)
    if tags:
        return TagNotFound(
            f"{reference.package} has no tag {reference.tag!r}",
            hint=f"It has {some(_nearest_first(reference.tag, tags))}",
        )
    if has_package(store, reference.name):
        return TagNotFound(
            f"{reference.package} has no tag yet", hint="Name a version by its hash (@...), or tag one: fusepkg tag"
        )
    return _package_not_found(store, reference)


def hash_not_found(store: ObjectStore, reference: Reference) -> PackageError:
    """Return the same for the first digits of a top hash."""
    if not has_package(store, reference.name):
        return _package_not_found(store, reference)
    return HashNotFound(
        f"{reference.package} has no version whose top hash starts with {reference.top_hash}",
        hint=f"See its versions with: fusepkg log {reference.package}",
    )


def some(items: list[str]) -> str:
    """Return the first of the items, and how many more there are."""
    more = len(items) - NAMED_CANDIDATES
    return ", ".join(items[:NAMED_CANDIDATES]) + (f" and {more} more" if more > 0 else "")


def _package_not_found(store: ObjectStore, reference: Reference) -> PackageError:
    names = list_packages(store, at_most=_NEAR_NAMES_LISTED)
    near = difflib.get_close_matches(reference.name, names, n=NAMED_CANDIDATES)
    if near:
        hint = f"Near names: {', '.join(near)}"
    elif names:
        hint = f"See what there is with: fusepkg list {reference.bucket}"
    else:
        hint = "It holds no package at all"
    return PackageNotFound(f"{reference.bucket} has no package {reference.name!r}", hint=hint)


def _nearest_first(word: str, others: list[str]) -> list[str]:
    near = difflib.get_close_matches(word, others, n=NAMED_CANDIDATES, cutoff=_NEAR_TAG)
    return near + [other for other in others if other not in near]
