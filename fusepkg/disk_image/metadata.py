"""The names of a disk image: those of the index, with files that say where in the same image their bytes lie.

metadata (superblock, inodes, directories) | the data address space of the index, each file from a block of its own on

The metadata has the size that the image of the index has, so a byte at ``a`` of the data address space lies at
``data_start(index) + a``. It is a pure function of the version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import UnsupportedFormat
from fusepkg.index import erofs
from fusepkg.index.erofs import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.index.opening import Index

_PIECE_BYTES = 1024 * 1024
"""Metadata read at once: whole blocks."""

_BLOCKS_FIELD, _FEATURES_FIELD, _DEVICES_FIELD, _SLOT_FIELD = 9, 14, 16, 17
"""Fields of ``erofs.SUPERBLOCK`` that differ from the index's."""


def data_start(index: Index) -> int:
    """Where the bytes of files begin, in bytes."""
    return index.image.size


def image_size(index: Index) -> int:
    """Size of the whole file, in bytes."""
    return index.image.size + index.data_blocks * BLOCK_BYTES


def metadata(index: Index) -> Iterator[bytes]:
    """Yield the metadata in pieces.

    Raises UnsupportedFormat where names and bytes together are more than one image can have; IndexDamaged.
    """
    metadata_blocks = index.image.size // BLOCK_BYTES
    if metadata_blocks + index.data_blocks > erofs.MAX_DEVICE_BLOCKS:
        raise UnsupportedFormat("a disk image has room for 16 TiB, names included", hint="Split the package")
    for start in range(0, index.image.size, _PIECE_BYTES):
        piece = bytearray(index.image.read(start, _PIECE_BYTES))
        if not start:
            piece[:BLOCK_BYTES] = _first_block(piece, metadata_blocks + index.data_blocks)
        _point_into_image(piece, start, index.entries.inodes_end, metadata_blocks)
        yield bytes(piece)


def _first_block(block: bytearray, blocks: int) -> bytes:
    """The first block without the device of the data."""
    fields = list(erofs.SUPERBLOCK.unpack_from(block, erofs.SUPERBLOCK_OFFSET))
    fields[_BLOCKS_FIELD] = blocks
    fields[_FEATURES_FIELD] = erofs.INCOMPATIBLE_CHUNKED_FILE
    fields[_DEVICES_FIELD] = fields[_SLOT_FIELD] = 0
    return (bytes(erofs.SUPERBLOCK_OFFSET) + erofs.SUPERBLOCK.pack(*fields)).ljust(BLOCK_BYTES, b"\0")


def _point_into_image(piece: bytearray, start: int, inodes_end: int, first_data_block: int) -> None:
    """Let the files whose inodes lie in a piece name blocks of the image itself; no inode crosses a block's end."""
    first = erofs.INODES_BLOCK * BLOCK_BYTES
    for block in range(0, len(piece), BLOCK_BYTES):
        if not first <= start + block < inodes_end:
            continue
        at = erofs.ROOT_NID * erofs.SLOT_BYTES if start + block == first else 0
        stop = min(BLOCK_BYTES, inodes_end - start - block)
        for inode in erofs.inodes_in(piece, block + at, block + stop):
            if int.from_bytes(piece[inode : inode + 2], "little") & ~erofs.EXTENDED == erofs.CHUNKED:
                chunk = inode + erofs.EXTENDED_INODE.size
                advise, _, place = erofs.CHUNK_INDEX.unpack_from(piece, chunk)
                erofs.CHUNK_INDEX.pack_into(piece, chunk, advise, erofs.THIS_DEVICE, first_data_block + place)
