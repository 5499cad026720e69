"""The top hash: the identity of one version of a package.

It is the SHA-256 of the canonical text of the header, then of every entry's ``hash``, ``logical_key``, ``meta`` and
``size``, in tree order, with nothing between them, byte for byte as quilt3 computes it. Physical keys and directory
records are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import Algorithm

from fusepkg.model.logical_key import tree_sort_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry

HEADER_KEY_NOT_HASHED = "top_hash"
"""Old manifests repeat their hash in the header; readers drop it, so it is neither hashed nor written again."""

MD5_TYPES = {Algorithm.MD5: "MD5", Algorithm.MD5_DOS2UNIX: "MD5-dos2unix"}
"""How manifests of DVC repositories, which never leave this machine, name DVC's hashes."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def canonical_json(value: object) -> str:
    """The one JSON text of a value: ASCII, keys sorted by code point, no spaces, floats as Python's ``repr``."""
    return _encode(value)


def hash_object(digest: Digest) -> dict[str, str]:
    """A digest as the package format writes it."""
    if digest.algorithm is Algorithm.SHA2_256:
        return {"type": "SHA256", "value": digest.hex}
    if digest.algorithm is Algorithm.CRC64NVME:
        return {"type": "CRC64NVME", "value": digest.base64}
    if digest.algorithm.weak:
        return {"type": MD5_TYPES[digest.algorithm], "value": digest.computed.hex()}
    return {"type": "sha2-256-chunked", "value": digest.base64}


def canonical_entry(entry: Entry) -> str:
    """What the top hash covers of one entry."""
    if not entry.meta:  # as most are: a tenth of the time
        found = hash_object(entry.digest)
        return (
            f'{{"hash":{{"type":"{found["type"]}","value":"{found["value"]}"}},'
            f'"logical_key":{encode_basestring_ascii(entry.logical_key)},"meta":{{}},"size":{entry.size}}}'
        )
    return canonical_json(
        {
            "hash": hash_object(entry.digest),
            "logical_key": entry.logical_key,
            "meta": dict(entry.meta),
            "size": entry.size,
        }
    )


class TopHash:
    """A top hash being computed: the header first, then every entry once, in tree order."""

    __slots__ = ("_hash", "_previous")

    def __init__(self, header: Mapping[str, Any]) -> None:
        hashed = {key: value for key, value in header.items() if key != HEADER_KEY_NOT_HASHED}
        self._hash = hashlib.sha256(canonical_json(hashed).encode("ascii"))
        self._previous = ""

    def update(self, entry: Entry) -> None:
        """Add the next entry; ValueError where it does not come after the last one in tree order."""
        key = tree_sort_key(entry.logical_key)
        if key <= self._previous:
            raise ValueError(f"{entry.logical_key!r} does not follow {self._previous!r} in tree order")
        self._previous = key
        self._hash.update(canonical_entry(entry).encode("ascii"))

    def update_canonical(self, text: bytes) -> None:
        """Add the canonical text of the next entries, which the caller has brought in tree order."""
        self._hash.update(text)

    def hexdigest(self) -> str:
        """The top hash so far, 64 lower-case hex digits."""
        return self._hash.hexdigest()
