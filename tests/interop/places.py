"""What both programs are given to publish, and where."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.store.protocol import ObjectStore

CHUNK_BYTES = 8 * 1024 * 1024
SIZES = {"empty": 0, "exactly-a-chunk": CHUNK_BYTES, "one-byte-more": CHUNK_BYTES + 1, "almost": CHUNK_BYTES - 1}

NAMES = (
    unicodedata.normalize("NFC", "é/ñ.txt"),
    unicodedata.normalize("NFD", "é/ñ.txt"),
    "#hash#", "100%", "%41", "what?a=b", "a+b", "with space", " at the ends ", "日本/😀.bin", "~-_.", "'quoted\"",
    "&<>", "a/b", "a b", "a!", "a-b", ".hidden/.file", "...", "back\\slash",
)  # fmt: skip

META: dict[str, Any] = {
    "floats": [1.0, 1e-07, 1e16, 1e22, -0.0, 0.1, 5e-324],
    "integers": [1, -3, 10**30],
    "é😀": {"\U00010ffff": "\x7f\x00/\n", "ﬀ": None, "b": [True, False, {}]},
    "empty": {},
}


@dataclass(frozen=True)
class Place:
    """A registry: ``registry`` as quilt3 calls it, ``bucket`` as fusepkg does, ``store`` to look behind both."""

    registry: str
    bucket: str
    store: ObjectStore
    versioned: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is a directory; what quilt3 publishes there names the files where they are."""
        return self.registry.startswith("file:")

    def reference(self, name: str, rest: str = "") -> str:
        """A package, as fusepkg calls it."""
        return f"{self.bucket}/{name}{rest}"


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
