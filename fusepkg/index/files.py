"""Where the files of an index lie, and opening them.

``<root>/v2/<top hash>/`` holds ``image``, ``entries``, ``seal`` and ``manifest.jsonl.zst``, written once and never
changed. Another layout gets another version directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fusepkg.errors import IndexDamaged
from fusepkg.index.checked import CheckedFile
from fusepkg.index.seal import read_key, read_seal

if TYPE_CHECKING:
    from pathlib import Path

LAYOUT = "v2"
OLD_LAYOUTS = ("v1",)
"""Their kept manifests are read."""

IMAGE, ENTRIES, SEAL, MANIFEST = "image", "entries", "seal", "manifest.jsonl.zst"


def index_directory(root: Path, top_hash: str) -> Path:
    """Where the index of that version lies."""
    return root / LAYOUT / top_hash


def root_of(directory: Path) -> Path:
    """Return the root below which the index in a directory lies."""
    return directory.parents[1]


class IndexFiles(NamedTuple):
    """The two files that are read block by block."""

    image: CheckedFile
    entries: CheckedFile


def open_files(root: Path, top_hash: str) -> IndexFiles:
    """Open the files of one index. Raises IndexDamaged if one is missing, of a wrong size, or not sealed here."""
    directory = index_directory(root, top_hash)
    key = read_key(root)
    if key is None:
        raise IndexDamaged(f"the indexes in {root} have no secret of this user's own")
    sums = read_seal(directory / SEAL, key, top_hash)
    return IndexFiles(CheckedFile(directory / IMAGE, sums.image), CheckedFile(directory / ENTRIES, sums.entries))
