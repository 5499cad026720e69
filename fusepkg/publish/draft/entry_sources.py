"""Where the entries of a version being made come from, and what is known of each.

An entry source is a list whose members are known by number, so that an entry costs a number until it is looked at.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fusepkg_cache.digest import Algorithm

from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.publish.draft.metadata import USER_META
from fusepkg.publish.hashes import HashTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.publish.places import Places
    from fusepkg.publish.scanned import ScannedFiles


def name_of(digest: Digest) -> bytes:
    """Return a text that names the bytes with this digest, and no others."""
    value: bytes = digest.value
    is_usual = digest.algorithm is Algorithm.SHA2_256_CHUNKED
    return value if is_usual else value + digest.algorithm.value.encode()


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """What is known of one entry. ``digest`` is None until its bytes have been hashed; ``meta`` is the whole object."""

    place: PhysicalKey
    size: int
    digest: Digest | None
    meta: Mapping[str, Any]


class EntrySource(Protocol):
    """A numbered list of entries."""

    def get(self, number: int) -> SourceEntry:
        """Return what is known of one."""
        ...

    def get_size(self, number: int) -> int:
        """Return the bytes of one."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files of this machine. ``root`` is the absolute path that the scanned logical keys lie below.

    ``hashes`` fills as they are hashed; a file that has changed since loses its hash and is scanned again.
    """

    root: bytes
    files: ScannedFiles
    hashes: HashTable

    @classmethod
    def of(cls, root: bytes, files: ScannedFiles) -> LocalFiles:
        """Return scanned files, none of them hashed."""
        return cls(root, files, HashTable(len(files)))

    def get_size(self, number: int) -> int:
        """See EntrySource."""
        return self.files.get_size(number)

    def get(self, number: int) -> SourceEntry:
        """See EntrySource. A link or an empty directory has no file to open; its place is where it stands."""
        file = self.files[number]
        path = file.path or os.path.join(self.root, file.logical_key.encode())
        place = PhysicalKey("file", "", os.fsdecode(path))
        return SourceEntry(
            place,
            file.size,
            self.hashes.digest(number),
            meta_for(file.kind, symlink=file.link, leads_out=file.leads_out),
        )


@dataclass(frozen=True, slots=True)
class UploadedFiles:
    """Files of this machine that lie in the bucket now; ``places`` has where."""

    files: LocalFiles
    places: Places

    def get_size(self, number: int) -> int:
        """See EntrySource."""
        return self.files.files.get_size(number)

    def get(self, number: int) -> SourceEntry:
        """See EntrySource."""
        file = self.files.files[number]
        digest = self.files.hashes.digest(number)
        assert digest is not None, "it has been uploaded"
        place = parse_physical_key(self.places[name_of(digest)])
        return SourceEntry(place, file.size, digest, meta_for(file.kind, symlink=file.link, leads_out=file.leads_out))


@dataclass(frozen=True, slots=True)
class RemoteObjects:
    """Objects of a bucket, with their sizes. ``hashes`` fills as their hashes are learnt.

    ``temporary`` has the copies of those whose bytes had to be read and will be wanted once more; ``etags`` what their
    stores told of those without a version, to know them again. ``empty_directories`` are the numbers of those that are
    no files but stand for a directory.
    """

    objects: list[tuple[PhysicalKey, int]]
    hashes: HashTable
    temporary: dict[int, Path] = field(default_factory=dict)
    etags: dict[int, str] = field(default_factory=dict)
    empty_directories: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls, objects: list[tuple[PhysicalKey, int]], empty_directories: frozenset[int] = frozenset()
    ) -> RemoteObjects:
        """Return objects, none of them hashed."""
        return cls(objects, HashTable(len(objects)), empty_directories=empty_directories)

    def get_size(self, number: int) -> int:
        """See EntrySource."""
        return self.objects[number][1]

    def get(self, number: int) -> SourceEntry:
        """See EntrySource."""
        place, size = self.objects[number]
        kind = EntryKind.EMPTY_DIRECTORY if number in self.empty_directories else EntryKind.FILE
        return SourceEntry(place, size, self.hashes.digest(number), meta_for(kind))


@dataclass(frozen=True, slots=True)
class PackageEntries:
    """The entries of a version that is there already, read from its index one by one."""

    index: Index

    def get_size(self, number: int) -> int:
        """See EntrySource."""
        return self.index.entries.entry(number).size

    def get(self, number: int) -> SourceEntry:
        """See EntrySource."""
        entry = self.index.entries.entry(number)
        return SourceEntry(entry.physical_key, entry.size, entry.digest, entry.meta)


@dataclass(frozen=True, slots=True)
class StoredEntries:
    """Entries whose bytes lie where a manifest may name them."""

    entries: Sequence[Entry]

    def get_size(self, number: int) -> int:
        """See EntrySource."""
        return self.entries[number].size

    def get(self, number: int) -> SourceEntry:
        """See EntrySource."""
        entry = self.entries[number]
        return SourceEntry(entry.physical_key, entry.size, entry.digest, entry.meta)


class DraftEntry:
    """One entry of a version being made, looked up when it is first asked for more than its name."""

    __slots__ = ("_changed_meta", "_known", "_number", "_source", "logical_key")

    def __init__(
        self, logical_key: str, source: EntrySource, number: int, changed_meta: Mapping[str, Any] | None
    ) -> None:
        self.logical_key = logical_key
        self._source = source
        self._number = number
        self._changed_meta = changed_meta
        self._known: SourceEntry | None = None

    @property
    def known(self) -> SourceEntry:
        """What its source knows of it."""
        if self._known is None:
            self._known = self._source.get(self._number)
        return self._known

    @property
    def physical_key(self) -> PhysicalKey:
        """Where its bytes lie."""
        return self.known.place

    @property
    def size(self) -> int:
        """Bytes."""
        return self.known.size

    @property
    def digest(self) -> Digest | None:
        """Its hash; None until it has been computed."""
        return self.known.digest

    @property
    def meta(self) -> Mapping[str, Any]:
        """The whole meta object, as the manifest will have it."""
        return self.known.meta if self._changed_meta is None else self._changed_meta

    @property
    def user_meta(self) -> dict[str, Any]:
        """The user's metadata; {} if there are none."""
        return dict(self.meta.get(USER_META) or {})
