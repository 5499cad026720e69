"""Keys as paths below a directory: every key S3 takes, on any file system.

A key's parts are the path's names, unchanged but for what a file system cannot hold. A name's last two characters say
so:

    ``~=``  nothing; it follows a name that would else end in one of these marks
    ``~+``  a directory that holds the rest of a name too long for one
    ``~d``  a directory beside a file of the same name (keys ``a`` and ``a/b``, in that order)
    ``~f``  a file beside a directory of the same name (keys ``a/b`` and ``a``, in that order)
"""

from __future__ import annotations

LITERAL, GOES_ON, OTHER_DIRECTORY, OTHER_FILE = b"~=", b"~+", b"~d", b"~f"
_MARKS = (LITERAL, GOES_ON, OTHER_DIRECTORY, OTHER_FILE)

OWN_NAME = b".fusepkg-store"
"""Directory below the root for what is no object: files not complete yet."""

MAX_PLAIN_BYTES = 251
"""Longest part kept as one name: 255 bytes are what file systems allow, two marks may follow."""

PIECE_BYTES = 240
"""Bytes of each but the last piece of a part that is longer."""


def names_of(key: str) -> list[bytes] | None:
    """A key's path, name by name; None for keys that no path can stand for (empty parts, ``.``, ``..``, NUL)."""
    try:
        parts = key.encode().split(b"/")
    except UnicodeEncodeError:
        return None
    names: list[bytes] = []
    for part in parts:
        if part in (b"", b".", b"..") or b"\0" in part:
            return None
        while len(part) > MAX_PLAIN_BYTES:
            names.append(part[:PIECE_BYTES] + GOES_ON)
            part = part[PIECE_BYTES:]
        marked = part.endswith(_MARKS) or (part == OWN_NAME and not names)
        names.append(part + LITERAL if marked else part)
    return names


def part_of(name: bytes, *, is_directory: bool) -> bytes:
    """What a file or directory name stands for, without its mark."""
    own = (LITERAL, OTHER_DIRECTORY if is_directory else OTHER_FILE)
    return name[:-2] if name.endswith(own) else name
