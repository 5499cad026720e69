"""Which keys of a bucket the object of a blob may get."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fusepkg.errors import UsageError
from fusepkg.registry.layout import MAX_KEY_BYTES, ROOT

if TYPE_CHECKING:
    from fusepkg.publish.upload.blobs import LocalBlob, StoredBlob

_SHORT_DIGITS = 16
"""Digits of the hash in the key of a blob whose plain key is taken."""

_HARD_TO_LIST = re.compile("[\x00-\x1f\x7f\ufffe\uffff]")
"""Characters that XML 1.0, which S3 answers in, cannot hold or changes: servers fail over them in their own ways."""


def candidate_keys(prefix: str, blob: LocalBlob | StoredBlob, *, plain: bool) -> list[str]:
    """Return the keys a blob may get, best first; ``plain`` if its name alone is one of them.

    The first one is the key that older versions name for it, where that object is gone.
    """
    digits = blob.identity.hex
    key = f"{prefix}/{blob.logical_key}"
    keys = [f"{key}~{digits[:_SHORT_DIGITS]}", f"{key}~{digits}"]
    if plain:
        keys.insert(0, key)
    fit = [key for key in keys if _fits(key)]
    # A path too long for the bucket, or hard to list in XML: the content alone names the object.
    fit = fit if len(fit) == len(keys) else [*fit, f"{prefix}/~{digits}"]
    if blob.restored_key is None or (not plain and not is_named_by_content(blob.restored_key, blob)):
        return fit
    return [blob.restored_key, *(key for key in fit if key != blob.restored_key)]


def is_named_by_content(key: str, blob: LocalBlob | StoredBlob) -> bool:
    """Return whether a key has the blob's hash in it, so that no other bytes can have been meant to lie there."""
    return key.endswith((f"~{blob.identity.hex[:_SHORT_DIGITS]}", f"~{blob.identity.hex}"))


def content_key(key: str, name: str, digits: str) -> str:
    """Return the key made of another, and of the hash of the bytes that shall lie there; below ``name`` if too long."""
    ends = f"~{digits[:_SHORT_DIGITS]}", f"~{digits}"
    named = key if key.endswith(ends) else f"{key}{ends[0]}"
    return named if _fits(named) else f"{name}/{ends[1]}"


def normalise_prefix(prefix: str) -> str:
    """Return a prefix as keys start with it: no slash at either end, no empty part. Raises UsageError."""
    parts = [part for part in prefix.split("/") if part not in ("", ".")]
    normal = "/".join(parts)
    shown = f"The prefix {prefix!r}"
    if not parts:
        raise UsageError(f"{shown} names no place", hint="Leave it out to publish under the package's name")
    if ".." in parts or not normal.isprintable():
        raise UsageError(f"{shown} has a part '..' or a control character", hint="Write it as a plain path")
    if f"{normal}/".startswith(ROOT):
        raise UsageError(f"{shown} lies in {ROOT}, where the registry is", hint="Choose another place for the data")
    if not _fits(f"{normal}/~{'0' * 64}"):
        raise UsageError(f"{shown} is too long for a key", hint="Choose a shorter one")
    return normal


def _fits(key: str) -> bool:
    return len(key.encode()) <= MAX_KEY_BYTES and not _HARD_TO_LIST.search(key)
