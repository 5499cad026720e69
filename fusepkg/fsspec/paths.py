"""Paths of the file system: a reference that says its version, and a path in the package."""

from __future__ import annotations

import re

from fusepkg.errors import InvalidReference

PROTOCOL = "fusepkg"

_FORM = f"Write {PROTOCOL}://bucket/name:tag/path, or {PROTOCOL}://bucket/name@hash/path"
_VERSION = re.compile(r"[:@]")


def split_path(path: str) -> tuple[str, str]:
    """Return the reference as it is written, and the path in the package without superfluous slashes.

    The reference ends with the part that has a ``:tag`` or ``@hash``. A version must be written: without one,
    ``bucket/a/b`` could be a file of ``bucket/a`` or the package ``a/b``. Raises InvalidReference.
    """
    scheme, separator, rest = path.rpartition("://")
    parts = rest.split("/")
    candidates = range(1, len(parts) if separator else min(3, len(parts)))
    for number in candidates:
        if _VERSION.search(parts[number]):
            inner = "/".join(part for part in parts[number + 1 :] if part not in ("", "."))
            return f"{scheme}{separator}{'/'.join(parts[: number + 1])}", inner
    raise InvalidReference(f"{path!r} names no version of a package", hint=_FORM)


def join_path(reference: str, inner: str) -> str:
    """Return the whole path of a file or directory in the package that the reference names."""
    return f"{reference}/{inner}" if inner else reference
