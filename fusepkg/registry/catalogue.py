"""List packages, tags and their history in a bucket, of fusepkg's layout and quilt3's.

Layouts are asked in order, and the first that has a tag wins: a tag of fusepkg hides one of quilt3 with the same name.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, ObjectMissing
from fusepkg.registry import layout, quilt3, tags
from fusepkg.registry.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.errors import FusepkgError
    from fusepkg.registry.tags import Skip, TagMove
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

_NEWEST_AMONG_TAGS = 64
"""Tags asked for the newest version of a package: four rounds of requests."""

_HEADER_BYTES = 1 << 16
"""Read of a manifest for its message; one in a longer header is not shown."""


@dataclass(frozen=True, slots=True)
class Named:
    """A version and a tag that names it or did. ``time`` is when the tag was moved to it, UTC in ISO 8601.

    Fields are None if not recorded: quilt3 keeps no publisher, and the times of pushes only.
    """

    tag: str
    top_hash: str
    time: str | None
    publisher: str | None
    message: str | None
    where: Layout


def list_packages(store: ObjectStore, *, at_most: int | None = None) -> list[str]:
    """Return the names of the packages in a bucket, sorted, each once; at most ``at_most`` of each layout.

    A LIST for each thousand names or namespace, however many versions there are.
    """
    names = set(map(layout.parse_package_prefix, islice(store.list_directories(layout.PACKAGES), at_most)))
    for where in quilt3.LAYOUTS:
        names.update(quilt3.list_names(store, where, at_most=at_most))
    return sorted(names)


def has_package(store: ObjectStore, name: str) -> bool:
    """Return whether there is a package of that name, with one LIST of one key per layout."""
    prefixes = [layout.package_prefix(name)]
    prefixes += [layout.pointers_prefix(name, where) for where in _quilt3_layouts(name)]
    return any(True for prefix in prefixes for _ in store.list(prefix, limit=1))


def find_tag(store: ObjectStore, name: str, tag: str) -> tuple[str, Layout] | None:
    """Return the top hash a tag names, and the tag's layout; None if the package has no such tag."""
    state = tags.read_tag(store, name, tag)
    if state is not None:
        return state.top_hash, Layout.FUSEPKG
    return find_quilt3_tag(store, name, tag)


def find_quilt3_tag(store: ObjectStore, name: str, tag: str) -> tuple[str, Layout] | None:
    """Return the same, of quilt3's tags only, which a tag of ours with that name hides."""
    for where in _quilt3_layouts(name):
        top_hash = quilt3.read_pointer(store, name, tag, where)
        if top_hash is not None:
            return top_hash, where
    return None


def tag_names(store: ObjectStore, name: str) -> list[str]:
    """Return the names of a package's tags, sorted; quilt3's pointers of single pushes are left out."""
    found = set(tags.tag_names(store, name))
    for where in _quilt3_layouts(name):
        found.update(_tags_among(quilt3.list_pointers(store, name, where)))
    return sorted(found)


def list_tags(store: ObjectStore, name: str, *, skip: Skip | None = None) -> list[Named]:
    """Return the tags of a package by name, with the version each names now.

    Raises UnsupportedFormat and ObjectTooLarge for a tag that cannot be read, unless ``skip`` takes them.
    """
    found = {move.tag: _of_move(move) for move in tags.current_moves(store, name, skip=skip)}
    for where in _quilt3_layouts(name):
        pointers = quilt3.list_pointers(store, name, where)
        hidden = [pointer for pointer in _tags_among(pointers) if pointer not in found]
        newest = [pointer for pointer in pointers if quilt3.pointer_time(pointer)][-1:]
        pushes = _read_pointers(store, name, newest, where, skip)
        for one in _read_pointers(store, name, hidden, where, skip):
            # the last push is what made `latest` name its version
            times = [push.time for push in pushes if push.top_hash == one.top_hash]
            found[one.tag] = replace(one, time=times[0] if times and one.tag == quilt3.LATEST else None)
    return [found[tag] for tag in sorted(found)]


def newest_version(store: ObjectStore, name: str) -> str | None:
    """Return the version that a tag of the package has come to name last; None for a package without tags.

    At most 64 tags are looked at, those that sort last: a LIST, and two small requests for each of them. Tags that
    cannot be read are left out.
    """

    def skip(error: FusepkgError) -> None:
        log.info("a tag of %s is not looked at: %s", name, error.message)

    names = tags.tag_names(store, name)[-_NEWEST_AMONG_TAGS:]
    with ThreadPoolExecutor(tags.READ_THREADS, thread_name_prefix="fusepkg-tags") as threads:
        histories = threads.map(lambda tag: tags.tag_history(store, name, tag, limit=1, skip=skip), names)
        moves = [(history[0].time, history[0].top_hash) for history in histories if history]
    for where in _quilt3_layouts(name):
        pointers = quilt3.list_pointers(store, name, where)
        pushes = [pointer for pointer in pointers if quilt3.pointer_time(pointer)] or pointers
        moves += [(one.time or "", one.top_hash) for one in _read_pointers(store, name, pushes[-1:], where, skip)]
    return max(moves)[1] if moves else None


def list_history(
    store: ObjectStore, name: str, tag: str, *, limit: int | None = None, skip: Skip | None = None
) -> list[Named]:
    """Return the versions a tag has named, newest first, at most ``limit``; empty if there is no such tag.

    For quilt3's ``latest`` these are all pushes, after the version it names now if it was set back. Raises as
    ``list_tags``.
    """
    moves = tags.tag_history(store, name, tag, limit=limit, skip=skip)
    if moves:
        return [_of_move(move) for move in moves]
    for where in _quilt3_layouts(name):
        now = _read_pointers(store, name, [tag], where, skip)
        if not now:
            continue
        if tag == quilt3.LATEST:
            pushes = [pointer for pointer in quilt3.list_pointers(store, name, where) if quilt3.pointer_time(pointer)]
            read = _read_pointers(store, name, pushes[::-1][:limit], where, skip)
            named = [replace(push, tag=tag) for push in read]
            now = named if named and named[0].top_hash == now[0].top_hash else now + named
        return _with_messages(store, name, now[:limit])
    return []


def _quilt3_layouts(name: str) -> tuple[Layout, ...]:
    return quilt3.LAYOUTS if layout.is_quilt3_name(name) else ()


def _tags_among(pointers: Iterable[str]) -> list[str]:
    return [pointer for pointer in pointers if quilt3.pointer_time(pointer) is None]


def _of_move(move: TagMove) -> Named:
    return Named(move.tag, move.top_hash, move.time, move.publisher, move.message, Layout.FUSEPKG)


def _read_pointers(store: ObjectStore, name: str, pointers: list[str], where: Layout, skip: Skip | None) -> list[Named]:
    """Return the top hashes of pointers; those deleted meanwhile are left out."""

    def read(pointer: str) -> Named | None:
        top_hash = quilt3.read_pointer(store, name, pointer, where)
        if top_hash is None:
            return None
        pushed = quilt3.pointer_time(pointer)
        return Named(pointer, top_hash, tags.time_text(pushed) if pushed else None, None, None, where)

    with ThreadPoolExecutor(tags.READ_THREADS, thread_name_prefix="fusepkg-tags") as threads:
        return tags.readable(pointers, read, threads.map, skip)


def _with_messages(store: ObjectStore, name: str, named: list[Named]) -> list[Named]:
    """Add the message of each version, from the header of its manifest."""

    def read(key: str) -> str | None:
        try:
            header = json.loads(store.get(key, length=_HEADER_BYTES).partition(b"\n")[0])
        except (ObjectMissing, AccessDenied, ValueError, RecursionError):
            return None
        message = header.get("message") if isinstance(header, dict) else None
        return message if isinstance(message, str) else None

    keys = sorted({layout.manifest_key(name, one.top_hash, one.where) for one in named})
    with ThreadPoolExecutor(tags.READ_THREADS, thread_name_prefix="fusepkg-tags") as threads:
        messages = dict(zip(keys, threads.map(read, keys), strict=True))
    return [replace(one, message=messages[layout.manifest_key(name, one.top_hash, one.where)]) for one in named]
