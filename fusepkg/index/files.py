"""Where the files of an index lie, and whether they look whole.

Owns: the directory layout. Must not know: how the files are made, who uses them.

``<root>/v1/<top hash>/`` holds ``image``, ``image.sums``, ``entries`` and ``manifest.jsonl.zst``, written once and
never changed. Another layout gets another version directory, and leaves this one alone. An empty file ``damaged``
appears where a reader met damage: the next one to open the index builds it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import IndexDamaged
from fusepkg.index.checked import DAMAGED
from fusepkg.index.entries import EntryTable
from fusepkg.index.reader import ImageReader

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT = "v1"
IMAGE, SUMS, ENTRIES, MANIFEST = "image", "image.sums", "entries", "manifest.jsonl.zst"


def index_directory(root: Path, top_hash: str) -> Path:
    """Where the index of that version lies."""
    return root / LAYOUT / top_hash


def open_files(directory: Path) -> tuple[ImageReader, EntryTable]:
    """Open the files of one index; a few pages are read, whatever its size. Raises IndexDamaged."""
    if (directory / DAMAGED).exists():
        raise IndexDamaged(f"the index {directory} was found damaged")
    image = ImageReader(directory / IMAGE, directory / SUMS)
    entries = EntryTable(directory / ENTRIES)
    if not directory.name == image.top_hash == entries.top_hash or image.data_blocks != entries.data_blocks:
        raise IndexDamaged(f"the files in {directory} do not belong together")
    return image, entries
