"""One entry of a manifest and the header above them: values, no behaviour.

What object storage has no word for (the executable bit, symbolic links, empty directories) is kept under the entry's
``meta``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey

META_KEY = "fusepkg"
"""The key of an entry's ``meta`` object that is ours; ``user_meta`` beside it is the user's."""

LEADS_OUT = "leads_out"
"""Beside ``symlink``: true for a link out of the package. Without it such a link is refused."""

EMPTY_DIRECTORY_NAME = ".fusepkg-empty-directory"
"""Last part of the logical key of the zero-byte entry that keeps an empty directory; a mount hides it."""

MAX_NAME_BYTES = 255
"""Longest name of one file or directory, in UTF-8 bytes: the kernel's NAME_MAX."""


class EntryKind(enum.IntEnum):
    """What a mount shows for an entry; the value is what index files hold."""

    FILE = 0
    EXECUTABLE = 1
    SYMLINK = 2
    EMPTY_DIRECTORY = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A logical key and the object behind it. ``size`` in bytes; ``meta`` as the manifest has it, whole."""

    logical_key: str
    physical_key: PhysicalKey
    size: int
    digest: Digest
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> EntryKind:
        """What a mount shows for this entry."""
        return kind_of(self.meta)

    @property
    def link_text(self) -> str:
        """Where a symbolic link points to; only for entries of that kind."""
        text: str = self.meta[META_KEY]["symlink"]
        return text

    @property
    def leads_out(self) -> bool:
        """Whether it is a symbolic link that its publisher kept although it leads out of the package."""
        return leads_out(self.meta)


def kind_of(meta: Mapping[str, Any]) -> EntryKind:
    """Read the kind from an entry's meta; anything not ours is a plain file."""
    own = meta.get(META_KEY)
    if not isinstance(own, dict):
        return EntryKind.FILE
    if own.get("executable") is True:
        return EntryKind.EXECUTABLE
    if isinstance(own.get("symlink"), str):
        return EntryKind.SYMLINK
    if own.get("empty_directory") is True:
        return EntryKind.EMPTY_DIRECTORY
    return EntryKind.FILE


def leads_out(meta: Mapping[str, Any]) -> bool:
    """Return whether an entry is a symbolic link that its publisher kept although it leads out of the package."""
    own = meta.get(META_KEY)
    return isinstance(own, dict) and own.get(LEADS_OUT) is True and kind_of(meta) is EntryKind.SYMLINK


def meta_for(kind: EntryKind, *, symlink: str = "", leads_out: bool = False) -> dict[str, Any]:
    """Return the meta object that makes an entry this kind; {} for a plain file, so that its hash equals quilt3's."""
    own: dict[EntryKind, dict[str, Any]] = {
        EntryKind.EXECUTABLE: {"executable": True},
        EntryKind.SYMLINK: {"symlink": symlink, LEADS_OUT: True} if leads_out else {"symlink": symlink},
        EntryKind.EMPTY_DIRECTORY: {"empty_directory": True},
    }
    return {META_KEY: own[kind]} if kind in own else {}
