"""The keys of manifests, tag moves, lists of hashes, packs, profiles and tasks in a bucket, written and parsed.

In our own layout a package name is one part of a key: ``/`` becomes ``%2F``, as hive partitions escape it. The grammar
of names and tags has no other character that keys or hive partitions treat specially, so letters of every script stay
as they are.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from fusepkg.errors import InvalidReference

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

ROOT = ".quilt/"
"""Everything under here is a registry's own; data objects never are."""


class Layout(enum.Enum):
    """The keys that a registry has: fusepkg's own or one of quilt3's two. One bucket may have all three."""

    FUSEPKG = "fusepkg"
    QUILT3 = "quilt3"
    QUILT3_V2 = "quilt3-v2"


PACKAGES = f"{ROOT}PACKAGE="
"""Start of every manifest's key."""

TAGS = f"{ROOT}tags/"
"""Start of every tag move's key."""

TASKS = f"{ROOT}tasks/"
"""Start of the key of every record of a task."""

TRANSFORMS = f"{ROOT}transforms/"
"""Start of the key of every record of a transform."""

FULL_HASH_DIGITS = 64
"""Length of a whole top hash in hex."""

_PARTITION_DIGITS = 2
"""Hex digits of the top hash in the HASH_PREFIX partition: 256 partitions per package."""

MAX_KEY_BYTES = 1024
"""S3's limit of a key."""

_LAST_MOVE = 9_999_999_999
"""Moves are numbered from 1 and written as this minus the number: the newest comes first in a listing.

So are tasks, and the records of each.
"""

QUILT3_NAMES, QUILT3_V2_NAMES = f"{ROOT}named_packages/", f"{ROOT}v2/tags/"
"""Start of the keys of quilt3's pointers."""

_QUILT3_NAME = re.compile(r"[\w-]+/[\w-]+")
"""quilt3's rule for names, without the line feed at the end that it overlooks."""

_TOP_HASH = re.compile(r"[0-9a-f]{64}")
_MANIFEST_KEY = re.compile(
    r"\.quilt/(?:PACKAGE=[^/]+/HASH_PREFIX=(?P<start>[0-9a-f]{2})/(?=(?P=start))(?P<ours>[0-9a-f]{64})\.jsonl"
    r"|packages/(?P<v1>[0-9a-f]{64})"
    r"|v2/manifests/[^/]+/(?P<v2>[0-9a-f]{64})/manifest\.jsonl)"
)
_TASK_KEY = re.compile(r"\.quilt/tasks/([0-9]{10})/(?:([0-9]{10})\.json)?")
_MOVE_KEY = re.compile(r"\.quilt/tags/([^/]+)/([^/]+)/([0-9]{10})\.json")


def is_top_hash(text: str) -> bool:
    """Return whether a text is a whole top hash: 64 hex digits."""
    return _TOP_HASH.fullmatch(text) is not None


def layouts_of(name: str) -> tuple[Layout, ...]:
    """Return the layouts that can hold a package of that name, in the order they are asked."""
    return tuple(Layout) if is_quilt3_name(name) else (Layout.FUSEPKG,)


def manifest_key(name: str, top_hash: str, where: Layout = Layout.FUSEPKG) -> str:
    """Return the key of one manifest."""
    ends = {Layout.FUSEPKG: ".jsonl", Layout.QUILT3: "", Layout.QUILT3_V2: "/manifest.jsonl"}
    return _checked(f"{manifest_prefix(name, top_hash, where)}{ends[where]}", name)


def manifest_prefix(name: str, hash_start: str, where: Layout = Layout.FUSEPKG) -> str:
    """Return the prefix of the keys of manifests whose top hash begins with ``hash_start`` (2 digits or more).

    In version 1 of quilt3's layout manifests of all packages have the same prefix.
    """
    if where is Layout.QUILT3:
        return f"{ROOT}packages/{hash_start}"
    if where is Layout.QUILT3_V2:
        return f"{ROOT}v2/manifests/{_join(name)}/{hash_start}"
    return f"{package_prefix(name)}HASH_PREFIX={hash_start[:_PARTITION_DIGITS]}/{hash_start}"


def package_prefix(name: str) -> str:
    """Return the prefix of the keys of all manifests of one package."""
    return f"{PACKAGES}{_escape(name)}/"


def parse_package_prefix(prefix: str) -> str:
    """Return the package whose manifests' keys have this prefix."""
    return _unescape(prefix.removeprefix(PACKAGES).removesuffix("/"))


def parse_manifest_key(key: str) -> str | None:
    """Return the top hash in a manifest's key, of any layout; None for any other key."""
    found = _MANIFEST_KEY.fullmatch(key)
    return found and (found["ours"] or found["v1"] or found["v2"])


def tags_prefix(name: str) -> str:
    """Return the prefix of the keys of all tag moves of one package."""
    return f"{TAGS}{_escape(name)}/"


def tag_prefix(name: str, tag: str) -> str:
    """Return the prefix of the keys of all moves of one tag."""
    return f"{tags_prefix(name)}{tag}/"


def tag_move_key(name: str, tag: str, number: int) -> str:
    """Return the key of the ``number``-th move of a tag, counted from 1."""
    if not 0 < number <= _LAST_MOVE:
        raise ValueError(f"a tag has no move number {number}")
    return _checked(f"{tag_prefix(name, tag)}{_LAST_MOVE - number:010}.json", name)


def parse_tag_move_key(key: str) -> tuple[str, str, int] | None:
    """Return package name, tag and number of a tag move's key; None for any other key."""
    found = _MOVE_KEY.fullmatch(key)
    if found is None or (number := _LAST_MOVE - int(found[3])) == 0:
        return None
    return _unescape(found[1]), found[2], number


def chunk_list_key(digest: Digest) -> str:
    """Return the key of the chunk list of one blob."""
    return f"{ROOT}chunks/{digest.hex[:2]}/{digest.hex}"


def block_list_key(root: Digest) -> str:
    """Return the key of the list of block hashes with a root."""
    return f"{ROOT}blocks/{root.hex[:2]}/{root.hex}"


def pack_key(pack: str) -> str:
    """Return the key of a pack, by its name: 64 hex digits."""
    return f"{ROOT}packs/data/{pack[:2]}/{pack}"


def pack_table_key(top_hash: str) -> str:
    """Return the key of the table of a version's packs."""
    return f"{ROOT}packs/tables/{top_hash[:2]}/{top_hash}.json"


def profiles_prefix(name: str) -> str:
    """Return the prefix of the keys of all access profiles of one package."""
    return f"{ROOT}profiles/{_escape(name)}/"


def profile_key(name: str, profile: str) -> str:
    """Return the key of an access profile, by the package's name and its own, which is of the form of tags."""
    return _checked(f"{profiles_prefix(name)}{profile}.jsonl", name)


def task_prefix(task: int) -> str:
    """Return the prefix of the keys of all records of a task, by its number."""
    return f"{TASKS}{_newest_first(task, 'task')}/"


def task_record_key(task: int, record: int) -> str:
    """Return the key of the ``record``-th record of a task, both counted from 1."""
    return f"{task_prefix(task)}{_newest_first(record, 'record')}.json"


def parse_task_key(key: str) -> tuple[int, int | None] | None:
    """Return the numbers of a task and of its record, None for that in the prefix of a task; None for any other key."""
    found = _TASK_KEY.fullmatch(key)
    if found is None:
        return None
    return _LAST_MOVE - int(found[1]), _LAST_MOVE - int(found[2]) if found[2] else None


# --- quilt3 --------------------------------------------------------------------------------------------------


def is_quilt3_name(name: str) -> bool:
    """Return whether quilt3 accepts this package name."""
    return _QUILT3_NAME.fullmatch(name) is not None


def pointers_prefix(name: str, where: Layout) -> str:
    """Return the prefix of the keys of all of quilt3's pointers of a package."""
    return f"{QUILT3_NAMES}{name}/" if where is Layout.QUILT3 else f"{QUILT3_V2_NAMES}{_join(name)}/"


def parse_pointers_prefix(prefix: str) -> str | None:
    """Return the package whose pointers' keys have this prefix; None for any other prefix."""
    if prefix.startswith(QUILT3_NAMES):
        name = prefix.removeprefix(QUILT3_NAMES).removesuffix("/")
    else:
        name = prefix.removeprefix(QUILT3_V2_NAMES).removesuffix("/").replace("@", "/", 1)
    return name if is_quilt3_name(name) else None


def _join(name: str) -> str:
    return name.replace("/", "@", 1)


# --- texts ---------------------------------------------------------------------------------------------------


def _newest_first(number: int, what: str) -> str:
    if not 0 < number <= _LAST_MOVE:
        raise ValueError(f"there is no {what} number {number}")
    return f"{_LAST_MOVE - number:010}"


def _escape(name: str) -> str:
    return name.replace("/", "%2F")


def _unescape(part: str) -> str:
    return part.replace("%2F", "/").replace("%2f", "/")


def _checked(key: str, name: str) -> str:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidReference(f"The name {name!r} is too long for a key of the registry", hint="Choose a shorter one")
    return key
