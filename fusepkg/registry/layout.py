"""Which key of a bucket holds what.

Owns: the keys of manifests, tag moves and chunk lists, written and read back. Must not know: what the objects
contain, or how a store is reached.

A package name is one part of a key: ``/`` becomes ``%2F``, as hive partitions escape it. The grammar of names and
tags has no other character that keys or hive partitions treat specially, so letters of every script stay as they
are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fusepkg.errors import InvalidReference

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

ROOT = ".quilt/"
"""Everything under here is the registry's own; data objects never are."""

PACKAGES = f"{ROOT}PACKAGE="
"""Start of every manifest's key."""

TAGS = f"{ROOT}tags/"
"""Start of every tag move's key."""

FULL_HASH_DIGITS = 64
"""Length of a whole top hash in hex."""

_PARTITION_DIGITS = 2
"""Hex digits of the top hash in the HASH_PREFIX partition: 256 partitions per package."""

MAX_KEY_BYTES = 1024
"""S3's limit of a key."""

_LAST_MOVE = 9_999_999_999
"""Moves are numbered from 1 and written as this minus the number: the newest comes first in a listing."""

_MANIFEST_KEY = re.compile(r"\.quilt/PACKAGE=([^/]+)/HASH_PREFIX=([0-9a-f]{2})/([0-9a-f]{64})\.jsonl")
_MOVE_KEY = re.compile(r"\.quilt/tags/([^/]+)/([^/]+)/([0-9]{10})\.json")


def manifest_key(name: str, top_hash: str) -> str:
    """The key of one manifest."""
    return _checked(f"{manifest_prefix(name, top_hash)}.jsonl", name)


def manifest_prefix(name: str, hash_start: str) -> str:
    """What the keys of the manifests with that start of a top hash (two digits or more) start with."""
    return f"{package_prefix(name)}HASH_PREFIX={hash_start[:_PARTITION_DIGITS]}/{hash_start}"


def package_prefix(name: str) -> str:
    """What the keys of all manifests of one package start with."""
    return f"{PACKAGES}{_escape(name)}/"


def parse_manifest_key(key: str) -> tuple[str, str] | None:
    """Name and top hash of a manifest's key; None for any other key."""
    found = _MANIFEST_KEY.fullmatch(key)
    if found is None or not found[3].startswith(found[2]):
        return None
    return _unescape(found[1]), found[3]


def tags_prefix(name: str) -> str:
    """What the keys of all tag moves of one package start with."""
    return f"{TAGS}{_escape(name)}/"


def tag_prefix(name: str, tag: str) -> str:
    """What the keys of all moves of one tag start with."""
    return f"{tags_prefix(name)}{tag}/"


def tag_move_key(name: str, tag: str, number: int) -> str:
    """The key of the ``number``-th move of a tag, counted from 1."""
    if not 0 < number <= _LAST_MOVE:
        raise ValueError(f"a tag has no move number {number}")
    return _checked(f"{tag_prefix(name, tag)}{_LAST_MOVE - number:010}.json", name)


def parse_tag_move_key(key: str) -> tuple[str, str, int] | None:
    """Package name, tag and number of a tag move's key; None for any other key."""
    found = _MOVE_KEY.fullmatch(key)
    if found is None or (number := _LAST_MOVE - int(found[3])) == 0:
        return None
    return _unescape(found[1]), found[2], number


def chunk_list_key(digest: Digest) -> str:
    """The key of the chunk hashes of one blob."""
    return f"{ROOT}chunks/{digest.hex[:2]}/{digest.hex}"


def _escape(name: str) -> str:
    return name.replace("/", "%2F")


def _unescape(part: str) -> str:
    return part.replace("%2F", "/").replace("%2f", "/")


def _checked(key: str, name: str) -> str:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidReference(f"The name {name!r} is too long for a key of the registry", hint="Choose a shorter one")
    return key
