"""Names of entries inside a package: which ones a mount can show, and in which order they come.

Tree order compares keys as lists of their parts, by code point: ``a/b`` comes before ``a!``. It is the order of the top
hash, of the data address space, and of a depth-first walk with sorted directories.
"""

from __future__ import annotations

from fusepkg.errors import ManifestInvalid
from fusepkg.model.entry import MAX_NAME_BYTES
from fusepkg.model.physical_key import MAX_PATH_BYTES

_SHOWN_CHARACTERS = 120
"""How much of a key an error message repeats: keys come from strangers and can have megabytes."""


def tree_sort_key(logical_key: str) -> str:
    """A text that sorts as the key's list of parts does: NUL, which no part holds, is below every other character."""
    return logical_key.replace("/", "\0")


def check_logical_key(logical_key: str) -> None:
    """Refuse a key that no mount could show as one file below its root; raises ManifestInvalid without a line."""
    shown = repr(logical_key[:_SHOWN_CHARACTERS])
    try:
        key_bytes = len(logical_key.encode())
    except UnicodeEncodeError as exc:
        raise ManifestInvalid(f"logical key {shown} holds an unpaired surrogate") from exc
    if key_bytes > MAX_PATH_BYTES:
        raise ManifestInvalid(f"logical key {shown} has {key_bytes} bytes, the limit is {MAX_PATH_BYTES}")
    if "\0" in logical_key:
        raise ManifestInvalid(f"logical key {shown} holds a NUL character")
    if logical_key.startswith("/"):
        raise ManifestInvalid(f"logical key {shown} is absolute")
    for part in logical_key.split("/"):
        if part in ("", ".", ".."):
            raise ManifestInvalid(f"logical key {shown} has the part {part!r}")
        # Cheap test first: a name of 63 characters has at most 252 bytes.
        if len(part) > MAX_NAME_BYTES // 4 and len(part.encode()) > MAX_NAME_BYTES:
            raise ManifestInvalid(f"logical key {shown} has a name above {MAX_NAME_BYTES} bytes")
