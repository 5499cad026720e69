"""quilt3's own registries: reading their pointers, and publishing a version as quilt3 does.

A pointer is an object that holds a top hash. Version 1 keeps one for every push, named by its second (Unix time), and
``latest``; version 2 has ``latest`` alone. Other programs may add some: tags.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING

from fusepkg.errors import InvalidReference, ObjectExists, ObjectMissing, TagConflict, UnsupportedFormat
from fusepkg.registry import layout
from fusepkg.registry.layout import Layout
from fusepkg.registry.manifests import put_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fusepkg.store.protocol import ObjectStore

LAYOUTS = (Layout.QUILT3, Layout.QUILT3_V2)
"""In the order they are asked."""

LATEST = "latest"
"""The pointer that quilt3 itself follows."""

_SECOND = re.compile(r"[0-9]{10}", re.ASCII)
"""Names of the pointers that pushes leave, from 2001 to 2286; any other name is a tag's."""

_LIST_THREADS = 16
"""Namespaces listed at a time: small answers, latency only."""

_POINTER_BYTES = 128
"""Read of a pointer: a top hash, and blanks around it."""


def check_quilt3_name(name: str) -> None:
    """Raise InvalidReference for a name under which quilt3 would not find the package."""
    if not layout.is_quilt3_name(name):
        raise InvalidReference(
            f"{name!r} cannot be the name of a quilt3 package",
            hint="Those are namespace/dataset, of letters, digits, '_' and '-' alone",
        )


def pointer_time(pointer: str) -> datetime | None:
    """Return the time of the push that a pointer of this name keeps, in Unix seconds; None for tags."""
    return datetime.fromtimestamp(int(pointer), UTC) if _SECOND.fullmatch(pointer) else None


def read_pointer(store: ObjectStore, name: str, pointer: str, where: Layout = Layout.QUILT3) -> str | None:
    """Return the top hash a pointer names; None if there is no such pointer. One GET.

    Blanks around the hash are ignored, although quilt3 itself then finds no manifest.

    Raises: UnsupportedFormat if it holds anything else.
    """
    key = f"{layout.pointers_prefix(name, where)}{pointer}"
    try:
        content = store.get(key, length=_POINTER_BYTES)
    except ObjectMissing:
        return None
    top_hash = content.decode("ascii", "replace").strip()
    if not layout.is_top_hash(top_hash):
        raise UnsupportedFormat(f"{store.url(key)} does not name a top hash", hint="Mend that object, or remove it")
    return top_hash


def list_pointers(store: ObjectStore, name: str, where: Layout = Layout.QUILT3) -> list[str]:
    """Return the names of all pointers of a package, in byte order."""
    prefix = layout.pointers_prefix(name, where)
    found = (info.key.removeprefix(prefix) for info in store.list(prefix))
    return [pointer for pointer in found if pointer and "/" not in pointer]


def list_names(store: ObjectStore, where: Layout, *, at_most: int | None = None) -> list[str]:
    """Names of packages, at most so many: a LIST per namespace or thousand names, however many versions there are."""
    if where is Layout.QUILT3_V2:
        return _named(islice(store.list_directories(layout.QUILT3_V2_NAMES), at_most))

    def list_one(space: str) -> list[str]:
        return list(islice(store.list_directories(space), at_most))

    spaces = islice(store.list_directories(layout.QUILT3_NAMES), at_most)
    with ThreadPoolExecutor(_LIST_THREADS, thread_name_prefix="fusepkg-list") as threads:
        return _named(chain.from_iterable(threads.map(list_one, spaces)))[:at_most]


def _named(prefixes: Iterable[str]) -> list[str]:
    """Yield the packages whose pointers' keys have this prefix."""
    return [name for name in map(layout.parse_pointers_prefix, prefixes) if name is not None]


def put_quilt3_package(
    store: ObjectStore, name: str, top_hash: str, manifest: Path, expected: str | None, *, now: float | None = None
) -> str | None:
    """Publish a version where quilt3 finds it: the manifest, a pointer named by the second, ``latest``.

    ``expected`` is what ``latest`` named when the caller looked (None: nothing). Gives the name of the pointer, None
    where ``latest`` names that version already and no pointer was written.

    quilt3 has no atomic move of a tag: a move of ``latest`` by another publisher between our last GET and our PUT is
    overwritten without an error. Its version stays, since pointers named by the second are only created; of two
    pushes in the same second the later one takes the next second.

    Raises: InvalidReference, TagConflict, ObjectCollision, and what stores raise.
    """
    check_quilt3_name(name)
    put_manifest(store, name, top_hash, manifest, where=Layout.QUILT3)
    return put_pointers(store, name, top_hash, expected, now=now)


def put_pointers(
    store: ObjectStore, name: str, top_hash: str, expected: str | None, *, now: float | None = None
) -> str | None:
    """Make quilt3's pointers name a version whose manifest is there: the second half of ``put_quilt3_package``."""
    there = read_pointer(store, name, LATEST)
    if there == top_hash:
        return None
    if there != expected:
        raise TagConflict(
            f"{name}:{LATEST} now names {there or 'nothing'} and no longer {expected or 'nothing'}, so it was not moved"
            f" to our {top_hash}, which is in the bucket all the same",
            hint="Look at the difference (fusepkg diff), then push again",
        )
    second = int(time.time() if now is None else now)
    while not _put_pointer(store, name, str(second), top_hash):
        second += 1
    store.overwrite(f"{layout.pointers_prefix(name, Layout.QUILT3)}{LATEST}", top_hash.encode("ascii"))
    return str(second)


def _put_pointer(store: ObjectStore, name: str, pointer: str, top_hash: str) -> bool:
    try:
        store.create(f"{layout.pointers_prefix(name, Layout.QUILT3)}{pointer}", top_hash.encode("ascii"))
    except ObjectExists:
        return read_pointer(store, name, pointer) == top_hash
    return True
