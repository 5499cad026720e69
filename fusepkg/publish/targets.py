"""Tags in either of two registry formats: fusepkg's, or quilt3's for those who read with quilt3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import UsageError
from fusepkg.registry.layout import Layout
from fusepkg.registry.quilt3 import LATEST, check_quilt3_name, put_pointers, read_pointer
from fusepkg.registry.tags import TagState, move_tag, read_tag, tag_conflict, tag_history

if TYPE_CHECKING:
    from fusepkg.store.protocol import ObjectStore

_FORMATS = {"fusepkg": Layout.FUSEPKG, "quilt3": Layout.QUILT3}


def parse_format(text: str) -> Layout:
    """The registry format a user names. Raises UsageError."""
    try:
        return _FORMATS[text]
    except KeyError as exc:
        raise UsageError(f"{text!r} is no registry format", hint=f"Choose one of {', '.join(_FORMATS)}") from exc


def check_target(name: str, tag: str | None, where: Layout) -> None:
    """Refuse what quilt3 has no word for. Raises UsageError, InvalidReference."""
    if where is not Layout.FUSEPKG:
        check_quilt3_name(name)
        if tag not in (None, LATEST):
            raise UsageError(f"quilt3 knows no tag {tag!r}, only {LATEST!r}", hint="Leave the tag out")


def read_state(store: ObjectStore, name: str, tag: str, where: Layout) -> TagState | None:
    """Where a tag stands; None if there is none. quilt3 does not number its moves."""
    if where is Layout.FUSEPKG:
        return read_tag(store, name, tag)
    top_hash = read_pointer(store, name, tag, where)
    return TagState(0, top_hash) if top_hash else None


def link_version(
    store: ObjectStore,
    name: str,
    tag: str | None,
    top_hash: str,
    *,
    before: TagState | None,
    based_on: str | None,
    where: Layout,
    message: str | None,
) -> TagState | None:
    """Make a tag name a version whose manifest is there; returns where the tag stands then, None without a tag.

    ``before`` is where the tag stood when this publisher looked last, ``based_on`` what it named at first: if these
    differ, another publisher has moved it. quilt3's ``latest`` always moves.

    Raises: TagConflict, and what stores raise.
    """
    if where is not Layout.FUSEPKG:
        put_pointers(store, name, top_hash, based_on)
        return TagState(0, top_hash)
    if tag is None or (before is not None and before.top_hash == top_hash):
        return before
    if before is not None and before.top_hash != based_on:
        raise tag_conflict(name, tag, top_hash, tag_history(store, name, tag, limit=1))
    return move_tag(store, name, tag, top_hash, before, message=message).state
