"""Where the entries of a version being made come from, and what is known of each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.publish.draft.metadata import USER_META

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.publish.folder import ScannedFile
    from fusepkg.publish.hash.files import Hashed


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one entry. ``digest`` is None until its bytes have been hashed; ``meta`` is the whole object."""

    place: PhysicalKey
    size: int
    digest: Digest | None
    meta: Mapping[str, Any]


class Origin(Protocol):
    """A numbered list of entries."""

    def facts(self, number: int) -> Facts:
        """What is known of one."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files of this machine. ``root`` is the absolute path that the scanned logical keys lie below.

    ``hashed`` fills as they are hashed, by number; a file that has changed since loses its hash and is scanned anew.
    """

    root: bytes
    files: list[ScannedFile]
    hashed: dict[int, Hashed] = field(default_factory=dict)

    def facts(self, number: int) -> Facts:
        """See Origin. A link or an empty directory has no file to open; its place is where it stands."""
        file = self.files[number]
        path = file.path or os.path.join(self.root, file.logical_key.encode())
        hashed = self.hashed.get(number)
        return Facts(
            PhysicalKey("file", "", os.fsdecode(path)),
            file.size,
            hashed.digest if hashed else None,
            meta_for(file.kind, symlink=file.link),
        )


@dataclass(frozen=True, slots=True)
class RemoteObjects:
    """Objects of a bucket, with their sizes. ``hashed`` fills as their hashes are learnt, by number.

    ``spooled`` has the copies of those whose bytes had to be read and will be wanted once more; ``etags`` what their
    stores told of those without a version, to know them again. ``empty_directories`` are the numbers of those that are
    no files but stand for a directory.
    """

    objects: list[tuple[PhysicalKey, int]]
    hashed: dict[int, Hashed] = field(default_factory=dict)
    spooled: dict[int, Path] = field(default_factory=dict)
    etags: dict[int, str] = field(default_factory=dict)
    empty_directories: frozenset[int] = frozenset()

    def facts(self, number: int) -> Facts:
        """See Origin."""
        place, size = self.objects[number]
        hashed = self.hashed.get(number)
        kind = EntryKind.EMPTY_DIRECTORY if number in self.empty_directories else EntryKind.FILE
        return Facts(place, size, hashed.digest if hashed else None, meta_for(kind))


@dataclass(frozen=True, slots=True)
class PackageEntries:
    """The entries of a version that is there already, read from its index one by one."""

    index: Index

    def facts(self, number: int) -> Facts:
        """See Origin."""
        entry = self.index.entries.entry(number)
        return Facts(entry.physical_key, entry.size, entry.digest, entry.meta)


@dataclass(frozen=True, slots=True)
class PlacedEntries:
    """Entries whose bytes lie where a manifest may name them, by number."""

    entries: Sequence[Entry]

    def facts(self, number: int) -> Facts:
        """See Origin."""
        entry = self.entries[number]
        return Facts(entry.physical_key, entry.size, entry.digest, entry.meta)


class DraftEntry:
    """One entry of a version being made, looked up when it is first asked for more than its name."""

    __slots__ = ("_changed_meta", "_facts", "_number", "_origin", "logical_key")

    def __init__(self, logical_key: str, origin: Origin, number: int, changed_meta: Mapping[str, Any] | None) -> None:
        self.logical_key = logical_key
        self._origin = origin
        self._number = number
        self._changed_meta = changed_meta
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """What its origin knows of it."""
        if self._facts is None:
            self._facts = self._origin.facts(self._number)
        return self._facts

    @property
    def physical_key(self) -> PhysicalKey:
        """Where its bytes lie."""
        return self.facts.place

    @property
    def size(self) -> int:
        """Bytes."""
        return self.facts.size

    @property
    def digest(self) -> Digest | None:
        """Its hash; None until it has been computed."""
        return self.facts.digest

    @property
    def meta(self) -> Mapping[str, Any]:
        """The whole meta object, as the manifest will have it."""
        return self.facts.meta if self._changed_meta is None else self._changed_meta

    @property
    def user_meta(self) -> dict[str, Any]:
        """The user's metadata; {} if there are none."""
        return dict(self.meta.get(USER_META) or {})
