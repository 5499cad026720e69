"""Read and move tags: each move is an object that is never changed.

The newest move comes first in a listing, so the current one costs one LIST of one key and one GET. A move is the
``create`` of the next number, which the store refuses if another publisher was first: history is the lock.
"""

from __future__ import annotations

import getpass
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fusepkg.errors import (
    HashNotFound,
    ObjectExists,
    ObjectMissing,
    ObjectTooLarge,
    TagConflict,
    TagNotFound,
    UnsupportedFormat,
)
from fusepkg.registry import layout
from fusepkg.registry.manifests import has_manifest
from fusepkg.registry.races import get_after_races

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from fusepkg.errors import FusepkgError
    from fusepkg.store.protocol import ObjectStore

    Skip: TypeAlias = Callable[[FusepkgError], None]
    """Is told why a record is left out; where there is none, the first record that cannot be read is raised."""

_T = TypeVar("_T")

READ_THREADS = 16
"""Concurrent GETs while a history or the tags of a package are read: small objects, latency only."""

MOVE_BYTES = 8 * 1024**2
"""The most that the record of a move may hold: 400 bytes and its message, of up to a megabyte before it is escaped."""

_SHORT_DIGITS = 9
"""Digits of a top hash in messages."""


@dataclass(frozen=True, slots=True)
class TagState:
    """The number of a tag's last move (from 1), and the top hash it names."""

    number: int
    top_hash: str


@dataclass(frozen=True, slots=True)
class TagMove:
    """One move of a tag. ``time`` is UTC in ISO 8601; ``previous`` is None for the first move of a tag."""

    tag: str
    number: int
    top_hash: str
    previous: str | None
    time: str
    message: str | None
    publisher: str

    @property
    def state(self) -> TagState:
        """Where the tag stands after this move."""
        return TagState(self.number, self.top_hash)


class _Content(msgspec.Struct, frozen=True):
    """The JSON of a tag move; unknown keys are ignored."""

    hash: str
    previous: str | None
    time: str
    message: str | None
    publisher: str


def read_tag(store: ObjectStore, name: str, tag: str) -> TagState | None:
    """Return a tag's last move; None if the package has no such tag. One LIST and one GET."""
    newest = tag_history(store, name, tag, limit=1)
    return newest[0].state if newest else None


def tag_history(
    store: ObjectStore, name: str, tag: str, *, limit: int | None = None, skip: Skip | None = None
) -> list[TagMove]:
    """Return at most ``limit`` moves of a tag, newest first; empty if there is no such tag.

    Raises UnsupportedFormat and ObjectTooLarge for a record that cannot be read, unless ``skip`` takes them.
    """
    return _read_moves(store, (info.key for info in store.list(layout.tag_prefix(name, tag), limit=limit)), skip)


def tag_names(store: ObjectStore, name: str) -> list[str]:
    """Return the names of a package's tags, sorted."""
    places = store.list_directories(layout.tags_prefix(name))
    return [place.removesuffix("/").rpartition("/")[2] for place in places]


def current_moves(store: ObjectStore, name: str, *, skip: Skip | None = None) -> list[TagMove]:
    """Return the last move of every tag of a package, by the tag's name. Raises as ``tag_history``."""
    newest: dict[str, str] = {}
    for info in store.list(layout.tags_prefix(name)):
        parsed = layout.parse_tag_move_key(info.key)
        if parsed is not None:
            newest.setdefault(parsed[1], info.key)
    return _read_moves(store, newest.values(), skip)


def move_tag(
    store: ObjectStore,
    name: str,
    tag: str,
    new_hash: str,
    expected: TagState | None,
    *,
    message: str | None = None,
    publisher: str | None = None,
    now: datetime | None = None,
) -> TagMove:
    """Move a tag to ``new_hash``, if its last move is still the one the caller saw (None: no such tag).

    If another publisher has moved it to the same hash, that is success. Raises TagConflict, and changes nothing, if it
    was moved to another one. A request whose answer was lost counts once.
    """
    content = _Content(
        hash=new_hash,
        previous=expected.top_hash if expected else None,
        time=time_text(now or datetime.now(UTC)),
        message=message,
        publisher=publisher or current_publisher(),
    )
    number = expected.number + 1 if expected else 1
    key = layout.tag_move_key(name, tag, number)
    try:
        store.create(key, msgspec.json.encode(content) + b"\n")
    except ObjectExists as exc:
        theirs = tag_history(store, name, tag, limit=1)
        if not theirs or theirs[0].number <= number:
            theirs = [_parse_move(key, get_after_races(store, key, MOVE_BYTES))]
        if theirs[0].top_hash == new_hash:
            return theirs[0]
        raise tag_conflict(name, tag, new_hash, theirs) from exc
    return _move(tag, number, content)


def roll_back(
    store: ObjectStore, name: str, tag: str, to_hash: str | None = None, *, message: str | None = "Rolled back"
) -> TagMove:
    """Move a tag back to ``to_hash``, or to the version before the one it names now.

    "Before" counts from the tag's first move to that version, so rolling back twice goes back further. It is a move
    like any other, and the history keeps all. Where the tag names ``to_hash`` already, nothing is moved.

    Raises: TagNotFound, HashNotFound where there is nothing to go back to, TagConflict.
    """
    history = tag_history(store, name, tag)
    if not history:
        raise TagNotFound(
            f"{name} has no tag {tag!r} that fusepkg has moved",
            hint="Make one with: fusepkg tag; a tag of quilt3's own is moved by quilt3.Package.rollback",
        )
    now = history[0]
    if to_hash is None:
        since = min(move.number for move in history if move.top_hash == now.top_hash)
        to_hash = next((move.top_hash for move in history if move.number < since), None)
        if to_hash is None:
            raise HashNotFound(
                f"{name}:{tag} has named nothing before {now.top_hash}",
                hint="See what it has named with: fusepkg log, or say which version",
            )
    elif to_hash == now.top_hash:
        return now
    if not has_manifest(store, name, to_hash):
        raise HashNotFound(f"{name} has no version {to_hash}", hint="See what there is with: fusepkg log")
    return move_tag(store, name, tag, to_hash, now.state, message=message)


def current_publisher() -> str:
    """Return ``user@host`` for the moves made by this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def time_text(when: datetime) -> str:
    """Return a time as moves hold it, in UTC."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_moves(store: ObjectStore, keys: Iterable[str], skip: Skip | None) -> list[TagMove]:
    def read(key: str) -> TagMove:
        try:
            return _parse_move(key, store.get(key, at_most=MOVE_BYTES))
        except ObjectMissing:  # a moment ago it was listed
            return _parse_move(key, get_after_races(store, key, MOVE_BYTES))

    waiting = iter(keys)
    first = list(islice(waiting, 2))
    if len(first) < 2:  # reading one tag is the common case, and needs no threads
        return readable(first, read, map, skip)
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fusepkg-tags") as threads:
        return readable([*first, *waiting], read, threads.map, skip)


def readable(
    keys: Iterable[str], read: Callable[[str], _T], each: Callable[..., Iterable[_T | None]], skip: Skip | None
) -> list[_T]:
    """Read records with ``each``, which maps; without those that ``skip`` was told of."""

    def read_or_skip(key: str) -> _T | None:
        try:
            return read(key)
        except (UnsupportedFormat, ObjectTooLarge) as exc:
            if skip is None:
                raise
            skip(exc)
            return None

    return [record for record in each(read_or_skip, keys) if record is not None]


def _parse_move(key: str, data: bytes) -> TagMove:
    parsed = layout.parse_tag_move_key(key)
    if parsed is None:
        raise UnsupportedFormat(f"{key} lies among the moves of a tag but is none", hint="Remove that object")
    try:
        content = msgspec.json.decode(data, type=_Content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:  # the latter where it is not UTF-8
        raise UnsupportedFormat(f"{key} is not the move of a tag: {exc}") from exc
    if not layout.is_top_hash(content.hash):
        raise UnsupportedFormat(f"{key} does not name a top hash")
    return _move(parsed[1], parsed[2], content)


def _move(tag: str, number: int, content: _Content) -> TagMove:
    return TagMove(
        tag=tag,
        number=number,
        top_hash=content.hash,
        previous=content.previous,
        time=content.time,
        message=content.message,
        publisher=content.publisher,
    )


def tag_conflict(name: str, tag: str, ours: str, theirs: list[TagMove]) -> TagConflict:
    """Return the error for a tag that another publisher moved first; ``theirs`` is the newest move, if readable."""
    if not theirs:  # the move is there but cannot be listed: say what is known
        return TagConflict(f"{name}:{tag} was moved by another publisher, not to our {ours[:_SHORT_DIGITS]}")
    move = theirs[0]
    return TagConflict(
        f"{name}:{tag} now names {move.top_hash} ({move.publisher}, {move.time}), not our {ours}, which is in the "
        "bucket all the same",
        hint=f"Look at the difference (fusepkg diff), then push again or name ours (fusepkg tag ...@{ours} {tag})",
    )
