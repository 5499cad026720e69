"""What programs pass as names: of packages, and of what is in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fusepkg.errors import UsageError
from fusepkg.model.reference import DVC, Reference, parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

_READMES = ("readme.md", "readme.rst", "readme.txt", "readme")
"""Names of a README, in lower case; the first that is there counts."""


def find_readme(names: Iterable[str]) -> str | None:
    """Return which of the names is that of a README; None if none is."""
    found = {name.lower(): name for name in names}
    return next((found[name] for name in _READMES if name in found), None)


def plain_key(path: str) -> str:
    """Return a path as entries are named, however many slashes it was written with."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def reference_of(name: str, tag: str | None, top_hash: str | None) -> Reference:
    """Return the reference that a name, with a tag or hash given beside it, stands for.

    Raises InvalidReference, UsageError if the name says another tag.
    """
    reference = parse_reference(name)
    says_tag = ":" in name.partition("@")[0].rpartition("/")[2]
    if tag is not None:
        if says_tag and reference.tag != tag:
            raise UsageError(f"{name!r} says another tag than {tag!r}", hint="Name one")
        is_revision = reference.bucket.scheme == DVC
        reference = replace(reference, tag=tag) if is_revision else parse_reference(f"{reference.package}:{tag}")
    if top_hash is not None:
        reference = parse_reference(f"{reference.package}@{top_hash}")
    return reference
