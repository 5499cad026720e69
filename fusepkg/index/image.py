"""Writes the image of a package: a small EROFS file system with all names and no data.

The image is a pure function of the entries.

Entries come in tree order, so only the directories on the way to the current entry are open, each with its finished
blocks. Inodes go to the image as they come; directory blocks go to a second file, which is appended at the end, when it
is known where the inodes end.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from array import array
from typing import TYPE_CHECKING

from fusepkg.errors import UnsupportedFormat
from fusepkg.index import erofs
from fusepkg.index.erofs import BLOCK_BYTES as BLOCK_BYTES
from fusepkg.model.entry import EntryKind
from fusepkg.model.links import blunted
from fusepkg.model.times import FIXED_S, content_time_s, directory_time_s

if TYPE_CHECKING:
    from typing import BinaryIO

    from fusepkg.model.record import EntryRecord

# Looked up once: an attribute of an enum class costs a tenth of an entry's whole time here.
_FILE, _SYMLINK, _EMPTY_DIRECTORY = EntryKind.FILE, EntryKind.SYMLINK, EntryKind.EMPTY_DIRECTORY

DIRECTORY_MODE = stat.S_IFDIR | 0o755
SYMLINK_MODE = stat.S_IFLNK | 0o777
FILE_MODE = stat.S_IFREG | 0o644
EXECUTABLE_MODE = stat.S_IFREG | 0o755

_CHUNKED = erofs.EXTENDED | erofs.CHUNKED

MAX_FILE_BYTES = BLOCK_BYTES << erofs.MAX_CHUNK_BITS
"""Largest file: what one chunk covers."""

_DIRENT_BYTES = erofs.DIRENT.size

_FLUSH_BYTES = 1024 * 1024
"""Inodes written at once."""


class _Directory:
    """A directory that may still get names."""

    __slots__ = ("blocks", "children", "dots", "name", "nid", "offset", "pending", "subdirectories", "used")

    def __init__(self, name: bytes, nid: int, parent_nid: int, offset: int) -> None:
        self.name = name
        self.nid = nid
        self.offset = offset
        self.subdirectories = 0
        self.blocks = bytearray()
        self.children = bytearray()
        self.pending: list[tuple[bytes, int, int]] = []
        self.used = 0
        self.dots = [(b"..", parent_nid), (b".", nid)]  # to be put where they sort, from the end of the list

    def add(self, name: bytes, nid: int, kind: int) -> None:
        while self.dots and name > self.dots[-1][0]:
            dot, place = self.dots.pop()
            self.add(dot, place, erofs.TYPE_DIRECTORY)
        needed = _DIRENT_BYTES + len(name)
        if self.used + needed > BLOCK_BYTES:
            self.blocks += self._last_block().ljust(BLOCK_BYTES, b"\0")
            self.pending.clear()
            self.used = 0
        self.pending.append((name, nid, kind))
        self.used += needed

    def note_time(self, name: bytes, time_s: int) -> None:
        """The time of a child, once it is known, in the order of names."""
        self.children += b"%b/%d/" % (name, time_s)

    def close(self) -> int:
        """Finish; the size in bytes, up to the end of the last name."""
        while self.dots:
            dot, place = self.dots.pop()
            self.add(dot, place, erofs.TYPE_DIRECTORY)
        self.blocks += self._last_block()
        return len(self.blocks)

    def _last_block(self) -> bytes:
        name_offset = erofs.DIRENT.size * len(self.pending)
        entries = []
        for name, nid, kind in self.pending:
            entries.append(erofs.DIRENT.pack(nid, name_offset, kind, 0))
            name_offset += len(name)
        entries.extend(name for name, _, _ in self.pending)
        return b"".join(entries)


def _shown_target(record: EntryRecord) -> bytes:
    target = record.symlink_target
    return blunted(record.key, target) if record.leads_out else target


class ImageWriter:
    """Builds one image in ``image``; ``scratch`` is an empty file for the directory blocks."""

    def __init__(self, image: BinaryIO, scratch: BinaryIO) -> None:
        self.data_blocks = 0
        self._image = image
        self._scratch = scratch
        self._scratch_blocks = 0
        self._buffer = bytearray(erofs.SLOT_BYTES * erofs.ROOT_NID)  # slots below the root stay empty
        self._end = len(self._buffer)  # of the inodes so far, in bytes from the first
        self._inodes = 0
        # Of each inode with blocks of its own in the image: where it lies, first block, size, nlink, time.
        self._patches = array("Q")
        self._directories = 0
        self._path = b""
        image.seek(erofs.INODES_BLOCK * BLOCK_BYTES)
        self._open: list[_Directory] = []
        self._open_directory(b"", erofs.ROOT_NID)

    @property
    def inodes_end(self) -> int:
        """Where the inodes so far end, in bytes."""
        return erofs.INODES_BLOCK * BLOCK_BYTES + self._end

    def add(self, record: EntryRecord, number: int) -> int:
        """Add the next entry, the ``number``-th of the package; gives the first data block of its bytes.

        Raises UnsupportedFormat where the format has no room for it.
        """
        directory, _, name = record.key.rpartition(b"/")
        if directory != self._path:
            self._enter(directory)
        start = self.data_blocks
        kind = record.kind
        if kind is _EMPTY_DIRECTORY:
            return start
        ino = number + erofs.FIRST_ENTRY_INO
        time_s = content_time_s(record.algorithm, record.value, record.size)
        parent = self._open[-1]
        if kind is _SYMLINK:
            parent.add(name, self._symlink(_shown_target(record), ino, time_s), erofs.TYPE_SYMLINK)
        else:
            mode = FILE_MODE if kind is _FILE else EXECUTABLE_MODE
            parent.add(name, self._file(mode, record, ino, time_s), erofs.TYPE_FILE)
        parent.note_time(name, time_s)
        return start

    def finish(self, top_hash: str) -> None:
        """Close all directories and write what only now is known."""
        while self._open:
            self._close_directory()
        self._flush()
        padding = -self._end % BLOCK_BYTES
        self._image.write(bytes(padding))
        first_block = erofs.INODES_BLOCK + (self._end + padding) // BLOCK_BYTES
        self._scratch.seek(0)
        shutil.copyfileobj(self._scratch, self._image, _FLUSH_BYTES)
        self._image.seek(0)
        self._image.write(self._first_block(top_hash, first_block + self._scratch_blocks))
        self._image.flush()
        descriptor = self._image.fileno()
        for at in range(0, len(self._patches), 5):
            offset, block, size, nlink, time_s = self._patches[at : at + 5]
            os.pwrite(descriptor, struct.pack("<QI", size, first_block + block), offset + erofs.SIZE_AT)
            os.pwrite(descriptor, struct.pack("<QII", time_s, 0, nlink), offset + erofs.MTIME_AT)

    def _first_block(self, top_hash: str, blocks: int) -> bytes:
        superblock = erofs.SUPERBLOCK.pack(
            erofs.MAGIC,
            0,
            erofs.COMPATIBLE_MTIME,
            BLOCK_BYTES.bit_length() - 1,
            0,
            erofs.ROOT_NID,
            self._inodes,
            FIXED_S,
            0,
            blocks,
            erofs.INODES_BLOCK,
            0,
            bytes.fromhex(top_hash)[:16],
            b"fusepkg",
            erofs.INCOMPATIBLE_CHUNKED_FILE | erofs.INCOMPATIBLE_DEVICE_TABLE,
            0,
            1,
            erofs.DEVICE_SLOT_NUMBER,
            *(0, 0, 0, 0, 0),
        )
        slot = erofs.DEVICE_SLOT.pack(top_hash.encode("ascii"), self.data_blocks, 0)
        return (bytes(erofs.SUPERBLOCK_OFFSET) + superblock + slot).ljust(BLOCK_BYTES, b"\0")

    # --- inodes ----------------------------------------------------------------------------------------------

    def _file(self, mode: int, record: EntryRecord, ino: int, time_s: int) -> int:
        size = record.size
        if not size:
            fields = (erofs.EXTENDED | erofs.PLAIN, 0, mode, 0, 0, 0, ino, 0, 0, time_s, 0, 1)
            return self._inode(erofs.EXTENDED_INODE.pack(*fields))
        start = self.data_blocks
        blocks = (size + BLOCK_BYTES - 1) // BLOCK_BYTES
        if size > MAX_FILE_BYTES or start + blocks > erofs.MAX_DEVICE_BLOCKS:
            raise UnsupportedFormat(
                f"manifest line {record.line}: a mount has room for 16 TiB, and for 8 TiB in one file",
                hint="Split the package",
            )
        self.data_blocks = start + blocks
        chunks = erofs.CHUNK_INDEXES | (blocks - 1).bit_length()  # one chunk, whatever the size
        return self._inode(
            erofs.FILE.pack(_CHUNKED, 0, mode, 0, size, chunks, ino, 0, 0, time_s, 0, 1, 0, erofs.DATA_DEVICE, start)
        )

    def _symlink(self, target: bytes, ino: int, time_s: int) -> int:
        if len(target) <= erofs.MAX_INLINE_BYTES:
            layout = erofs.EXTENDED | erofs.INLINE
            fields = (layout, 0, SYMLINK_MODE, 0, len(target), 0, ino, 0, 0, time_s, 0, 1)
            inode = erofs.EXTENDED_INODE.pack(*fields) + target
            return self._inode(inode.ljust(-(-len(inode) // erofs.SLOT_BYTES) * erofs.SLOT_BYTES, b"\0"))
        nid, offset = self._inode_with_blocks(SYMLINK_MODE, ino)
        self._patches.extend((offset, self._scratch_blocks, len(target), 1, time_s))
        self._write_blocks(target)
        return nid

    def _inode_with_blocks(self, mode: int, ino: int) -> tuple[int, int]:
        fields = (erofs.EXTENDED | erofs.PLAIN, 0, mode, 0, 0, 0, ino, 0, 0, 0, 0, 0)
        nid = self._inode(erofs.EXTENDED_INODE.pack(*fields))
        return nid, erofs.INODES_BLOCK * BLOCK_BYTES + nid * erofs.SLOT_BYTES

    def _inode(self, data: bytes) -> int:
        """Place an inode and what follows it, whole slots, in one block."""
        at = self._end
        room = BLOCK_BYTES - at % BLOCK_BYTES
        if len(data) > room:
            self._buffer += bytes(room)
            at += room
        if len(self._buffer) >= _FLUSH_BYTES:
            self._flush()
        self._buffer += data
        self._end = at + len(data)
        self._inodes += 1
        return at // erofs.SLOT_BYTES

    def _flush(self) -> None:
        self._image.write(self._buffer)
        self._buffer.clear()

    # --- directories -----------------------------------------------------------------------------------------

    def _enter(self, path: bytes) -> None:
        """Make ``path`` the current directory: close what is left, open what is new."""
        old = self._path.split(b"/") if self._path else []
        new = path.split(b"/") if path else []
        shared = 0
        while shared < min(len(old), len(new)) and old[shared] == new[shared]:
            shared += 1
        while len(self._open) > shared + 1:
            self._close_directory()
        for name in new[shared:]:
            parent = self._open[-1]
            parent.subdirectories += 1
            parent.add(name, self._open_directory(name, parent.nid), erofs.TYPE_DIRECTORY)
        self._path = path

    def _open_directory(self, name: bytes, parent_nid: int) -> int:
        nid, offset = self._inode_with_blocks(DIRECTORY_MODE, erofs.FIRST_DIRECTORY_INO + self._directories)
        self._directories += 1
        self._open.append(_Directory(name, nid, parent_nid, offset))
        return nid

    def _close_directory(self) -> None:
        directory = self._open.pop()
        size = directory.close()
        time_s = directory_time_s(directory.children)
        self._patches.extend((directory.offset, self._scratch_blocks, size, 2 + directory.subdirectories, time_s))
        if self._open:
            self._open[-1].note_time(directory.name, time_s)
        self._write_blocks(directory.blocks)

    def _write_blocks(self, data: bytes | bytearray) -> None:
        self._scratch.write(data)
        self._scratch.write(bytes(-len(data) % BLOCK_BYTES))
        self._scratch_blocks += -(-len(data) // BLOCK_BYTES)
