"""Reading a scanned file, and noticing that it is not the file that was scanned any more."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg.errors import FileChanged, FolderUnfit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.publish.scanned import ScannedFile

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK for a FIFO that took the file's place: its open must not wait for a writer."""


@contextmanager
def opened_unchanged(file: ScannedFile) -> Iterator[int]:
    """A descriptor of the file. Raises FileChanged on the way in and out if it is not as it was scanned."""
    assert file.path is not None
    try:
        descriptor = os.open(file.path, _FLAGS)
    except OSError as exc:
        raise unreadable(file, exc) from exc
    try:
        check_unchanged(file, descriptor)
        yield descriptor
        check_unchanged(file, descriptor)
    except OSError as exc:
        raise unreadable(file, exc) from exc
    finally:
        os.close(descriptor)


def read_whole(file: ScannedFile) -> bytes:
    """All bytes of an entry: of the file, the target of a link, nothing for an empty directory."""
    if file.path is None:
        return file.link.encode()
    data = bytearray(file.size)
    with opened_unchanged(file) as descriptor:
        read_into(file, descriptor, memoryview(data), 0)
    return bytes(data)


def read_into(file: ScannedFile, descriptor: int, buffer: memoryview, offset: int) -> None:
    """Fill a buffer from one place of a file; a file that ends before raises FileChanged."""
    at = 0
    while at < len(buffer):
        got = os.preadv(descriptor, [buffer[at:]], offset + at)
        if got == 0:
            raise file_changed(file)
        at += got


def check_unchanged(file: ScannedFile, descriptor: int | None = None) -> None:
    """Raise FileChanged unless the file, open or by name, has the size, mtime and inode it was scanned with."""
    assert file.path is not None
    try:
        status = os.stat(file.path, follow_symlinks=False) if descriptor is None else os.fstat(descriptor)
    except OSError as exc:
        raise file_changed(file) from exc
    was = file.identity
    now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if now != (was.device, was.inode, was.size, was.mtime_ns):
        raise file_changed(file)


def is_surely_unchanged(file: ScannedFile, since_ns: int) -> bool:
    """Return whether its time of last change says that the file has the bytes it had when it was scanned.

    ``since_ns`` is when its reading began (``time.time_ns``). False: only its bytes can tell.
    """
    assert file.path is not None
    if not file.identity.is_settled(since_ns):
        return False
    try:
        return os.stat(file.path, follow_symlinks=False).st_ctime_ns == file.identity.ctime_ns
    except OSError as exc:
        raise file_changed(file) from exc


def file_changed(file: ScannedFile) -> FileChanged:
    """The error that names a file that changed."""
    return FileChanged(
        f"{_shown(file)} changed while it was published", hint="Push again when nothing writes to the folder"
    )


def unreadable(file: ScannedFile, exc: OSError) -> FileChanged | FolderUnfit:
    """The error that names a file that could be read when it was scanned."""
    if isinstance(exc, FileNotFoundError):
        return file_changed(file)
    return FolderUnfit(f"{_shown(file)} cannot be read ({exc.strerror})", hint="Make it readable and push again")


def _shown(file: ScannedFile) -> str:
    return os.fsencode(file.path or file.logical_key).decode("utf-8", "backslashreplace")
