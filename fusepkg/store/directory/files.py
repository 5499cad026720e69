"""What a directory store does with files beyond reading and writing one: walking, making directories, metadata."""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fusepkg.store.directory.names import GOES_ON, OTHER_DIRECTORY, OWN_NAME, part_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KERNEL_COPY_BYTES = 64 << 20
"""Asked of the kernel at a time: a call without blocks to share copies for as long, and cannot be interrupted."""

COPY_BYTES = 1024 * 1024
"""Bytes copied at a time where the kernel cannot."""

METADATA_ATTRIBUTE = "user.fusepkg.metadata"
"""Extended attribute with an object's metadata, as JSON."""


def walk(directory: bytes, above: bytes, prefix: bytes) -> Iterator[tuple[bytes, int]]:
    """Key and size of every file below a directory whose key starts with ``prefix``, in byte order of keys.

    ``above`` is what keys of files in this directory start with. Symbolic links to directories are not followed.
    """
    found = _contents(directory, b"", at_root=not above)
    for name, is_directory, entry in sorted(found, key=lambda item: item[0] + b"/" * item[1]):
        key = above + name
        if is_directory:
            key += b"/"
            if key.startswith(prefix) or prefix.startswith(key):
                with suppress(FileNotFoundError):
                    yield from walk(entry.path, key, prefix)
        elif key.startswith(prefix):
            with suppress(FileNotFoundError):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield key, status.st_size


def directories(directory: bytes, above: bytes, prefix: bytes) -> Iterator[bytes]:
    """What keys with that prefix begin with, up to the ``/`` past it, in byte order: directories that hold files."""
    found = _contents(directory, b"", at_root=not above)
    for name, is_directory, entry in sorted(found, key=lambda item: item[0] + b"/" * item[1]):
        key = above + name + b"/"
        if not is_directory:
            continue
        with suppress(FileNotFoundError):
            if len(key) <= len(prefix):
                if prefix.startswith(key):
                    yield from directories(entry.path, key, prefix)
            elif key.startswith(prefix) and any(True for _ in walk(entry.path, key, prefix)):
                yield key


def _contents(directory: bytes, begun: bytes, *, at_root: bool) -> Iterator[tuple[bytes, bool, os.DirEntry[bytes]]]:
    """Parts of keys in a directory, each with whether it is a directory; ``begun`` is what its own name began."""
    with os.scandir(directory) as entries:
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if at_root and entry.name == OWN_NAME:
                continue
            if is_directory and entry.name.endswith(GOES_ON):
                yield from _contents(entry.path, begun + entry.name[: -len(GOES_ON)], at_root=False)
            else:
                yield begun + part_of(entry.name, is_directory=is_directory), is_directory, entry


def make_directory(place: bytes) -> bytes:
    """Make a directory if there is none, beside a file of that name if there is one; where it is.

    Any number of threads and processes may do this at once and all end with the same directory.
    """
    for path in (place, place + OTHER_DIRECTORY):
        try:
            os.mkdir(path)
        except FileExistsError:
            if os.path.isdir(path):
                return path
        else:
            flush_directory(os.path.dirname(path))
            return path
    raise NotADirectoryError(place)


def flush_directory(directory: bytes) -> None:
    """Bring the names in a directory to the disk."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def copy_bytes(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the rest of one to the end of the other; within the kernel, or by sharing blocks, where that can be done."""
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), KERNEL_COPY_BYTES):
            pass
    except OSError:  # no file, or file systems between which the kernel does not copy: from where it stopped
        pass
    shutil.copyfileobj(source, target, COPY_BYTES)


# --- metadata ------------------------------------------------------------------------------------------------


def keep_metadata(own: bytes, file: int, metadata: Mapping[str, str]) -> None:
    """Attach metadata to a file that has no name yet; where the file system cannot, below ``own``, by inode."""
    beside = _beside(own, file)
    with suppress(FileNotFoundError):
        os.unlink(beside)  # of a file that had this inode before
    if not metadata:
        return
    content = json.dumps(dict(metadata)).encode()
    try:
        os.setxattr(file, METADATA_ATTRIBUTE, content)
    except OSError:
        os.makedirs(os.path.dirname(beside), exist_ok=True)
        Path(os.fsdecode(beside)).write_bytes(content)


def metadata_of(own: bytes, file: int) -> dict[str, str]:
    """A file's metadata. Raises ValueError where they are damaged."""
    try:
        content = os.getxattr(file, METADATA_ATTRIBUTE)
    except OSError:  # none on this file, or on no file of this file system
        try:
            content = Path(os.fsdecode(_beside(own, file))).read_bytes()
        except OSError:
            return {}
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return {str(name): str(value) for name, value in found.items()}


def _beside(own: bytes, file: int) -> bytes:
    return own + b"/metadata/%d" % os.fstat(file).st_ino
