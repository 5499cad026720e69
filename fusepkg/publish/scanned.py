"""Files of a folder as a scan found them, kept in little room."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from fusepkg.model.entry import EntryKind
from fusepkg.state.file_identity import FileIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RECORD = struct.Struct("=QQQqqIHB")
"""Where the key starts, size, inode, mtime and ctime in ns, number of the file system, bytes of the key, executable."""

_SIZE_AT = 8
_SIZE = struct.Struct("=Q")
_KEY = struct.Struct("=Q32xIHB")
_KEY_START, _KEY_BYTES = 0, 2


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """One future entry. ``path`` is what to open, None for links and empty directories; ``link`` a link's target.

    ``leads_out`` is True for a link that is kept although it leads out of the folder.
    """

    logical_key: str
    kind: EntryKind
    identity: FileIdentity
    path: bytes | None = None
    link: str = ""
    leads_out: bool = False

    @property
    def size(self) -> int:
        """Bytes of the object that will hold it."""
        return self.identity.size


class ScannedFiles(Sequence[ScannedFile]):
    """A list of scanned files: 47 bytes and the logical key each. A member is made when it is asked for.

    ``root`` is the directory that ordinary files lie in, each below its logical key. Links, empty directories and files
    that lie elsewhere are kept as they are.
    """

    __slots__ = ("_base", "_keys", "_others", "_records", "_systems")

    def __init__(self, root: bytes) -> None:
        self._base = os.path.join(root, b"")
        self._keys = bytearray()
        self._records = bytearray()
        self._systems: list[tuple[int, str]] = []
        self._others: dict[int, ScannedFile] = {}

    def append(self, file: ScannedFile) -> None:
        """Add a file."""
        self._records += bytes(_RECORD.size)
        self._write(len(self) - 1, file, len(self._keys))
        self._keys += file.logical_key.encode()

    def replace(self, number: int, file: ScannedFile) -> None:
        """Say that a file is different now; it has the logical key that it had."""
        self._others.pop(number, None)
        self._write(number, file, _KEY.unpack_from(self._records, number * _RECORD.size)[_KEY_START])

    def _write(self, number: int, file: ScannedFile, start: int) -> None:
        identity, key = file.identity, file.logical_key.encode()
        times = identity.mtime_ns, identity.ctime_ns
        fields = start, file.size, identity.inode, *times, self._system(identity), len(key)
        executable = file.kind is EntryKind.EXECUTABLE
        is_ordinary = file.path == self._base + key
        try:
            _RECORD.pack_into(self._records, number * _RECORD.size, *fields, executable)
        except struct.error:  # times after 2262
            is_ordinary = False
            _RECORD.pack_into(self._records, number * _RECORD.size, start, file.size, 0, 0, 0, 0, len(key), executable)
        if not is_ordinary:
            self._others[number] = file

    def _system(self, identity: FileIdentity) -> int:
        system = identity.device, identity.filesystem
        if system not in self._systems:  # they are few
            self._systems.append(system)
        return self._systems.index(system)

    def __len__(self) -> int:
        return len(self._records) // _RECORD.size

    @overload
    def __getitem__(self, number: int) -> ScannedFile: ...
    @overload
    def __getitem__(self, number: slice) -> list[ScannedFile]: ...
    def __getitem__(self, number: int | slice) -> ScannedFile | list[ScannedFile]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        if self._others and (other := self._others.get(number)) is not None:
            return other
        fields = _RECORD.unpack_from(self._records, number * _RECORD.size)
        start, size, inode, mtime_ns, ctime_ns, system, key_bytes, executable = fields
        key = bytes(self._keys[start : start + key_bytes])
        device, filesystem = self._systems[system]
        identity = FileIdentity(device, inode, size, mtime_ns, ctime_ns, filesystem)
        kind = EntryKind.EXECUTABLE if executable else EntryKind.FILE
        return ScannedFile(key.decode(), kind, identity, self._base + key)

    def get_size(self, number: int) -> int:
        """Return the bytes of one."""
        size: int = _SIZE.unpack_from(self._records, number * _RECORD.size + _SIZE_AT)[0]
        return size

    def key(self, number: int) -> str:
        """Return the logical key of one."""
        fields = _KEY.unpack_from(self._records, number * _RECORD.size)
        start = fields[_KEY_START]
        return self._keys[start : start + fields[_KEY_BYTES]].decode()

    @property
    def logical_keys(self) -> Iterable[str]:
        """The logical keys of all; each iteration makes them anew."""
        return _Keys(self)

    def others(self) -> Iterator[tuple[int, ScannedFile]]:
        """Return those that are no ordinary files below the root, with their numbers."""
        return iter(list(self._others.items()))

    def total_bytes(self) -> int:
        """Return the bytes of all."""
        return sum(map(self.get_size, range(len(self))))


@dataclass(frozen=True, slots=True)
class _Keys:
    files: ScannedFiles

    def __iter__(self) -> Iterator[str]:
        return map(self.files.key, range(len(self.files)))
