"""Pins: blobs that are never evicted, a named list of them in a file each, ``pins/<SHA-256 of the name>``.

A pin is meant to last, so it lies beside the index, which may be lost or cleared. The keys are sorted and all of
one length: whether a few neighbours are pinned is found with some twenty small reads, however long the list. A file is
written in full and renamed, so that a name has its old list or its new one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES
from fusepkg_cache.records import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from fusepkg_cache.digest import Digest
    from fusepkg_cache.unfinished import UnfinishedFiles

log = logging.getLogger(__name__)

_HEAD = struct.Struct("<8sQQI")
"""Magic, when it was pinned in seconds of Unix time, number of blobs, length of the name, which follows."""

_MAGIC = b"fsppin1\n"
_KEY_BYTES = 1 + DIGEST_BYTES

_SLICE = 64
"""Keys of a pin read at once for each key that is asked for, rather than searching for that key alone."""

MAX_NAME_BYTES = 4096
"""A name is read whenever pins are listed."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Some blobs that are never evicted: how many, and since when (seconds of Unix time)."""

    name: str
    blobs: int
    since: int


@dataclass(frozen=True, slots=True)
class _List:
    """The sorted keys of one pin, in its opened file."""

    pin: Pin
    descriptor: int
    begin: int

    def keys(self, first: int, last: int) -> list[bytes]:
        """The keys with these numbers, the last one excluded; fewer where the file was cut off."""
        found = os.pread(self.descriptor, (last - first) * _KEY_BYTES, self.begin + first * _KEY_BYTES)
        return [found[at : at + _KEY_BYTES] for at in range(0, len(found), _KEY_BYTES)]

    def place(self, key: bytes) -> int:
        """The number of the first key that is not below ``key``."""
        low, high = 0, self.pin.blobs
        while low < high:
            middle = (low + high) // 2
            if self.keys(middle, middle + 1) < [key]:
                low = middle + 1
            else:
                high = middle
        return low

    def among(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of some sorted keys are in the list."""
        first, last = self.place(keys[0]), self.place(keys[-1] + b"\0")
        if last - first <= _SLICE * len(keys):
            return set(self.keys(first, last)).intersection(keys)
        return {key for key in keys if self.keys(place := self.place(key), place + 1) == [key]}


class Pins:
    """The pins of one cache directory."""

    def __init__(self, directory: Path, unfinished: UnfinishedFiles) -> None:
        self._directory = directory
        self._unfinished = unfinished

    def put(self, name: str, digests: Iterable[Digest], since: int) -> None:
        """Pin blobs, kept now or later, in place of those the name had. Raises OSError."""
        text = name.encode()
        if not 0 < len(text) <= MAX_NAME_BYTES:
            raise ValueError(f"the name of a pin has {len(text)} bytes, not 1..{MAX_NAME_BYTES}")
        keys = sorted({key_of(digest) for digest in digests})
        head = _HEAD.pack(_MAGIC, since, len(keys), len(text)) + text
        written = self._unfinished.write([head, b"".join(keys)])
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            written.rename(self._path(name))
        except BaseException:
            written.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> bool:
        """Let go of a pin; whether there was one."""
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def all(self) -> list[Pin]:
        """All pins, in order of their names."""
        return sorted((some.pin for some in self._lists()), key=lambda pin: pin.name)

    def among(self, keys: Iterable[bytes]) -> set[bytes]:
        """Which of some keys are pinned."""
        ordered = sorted(keys)
        if not ordered:
            return set()
        return set().union(*(some.among(ordered) for some in self._lists()))

    def _path(self, name: str) -> Path:
        return self._directory / hashlib.sha256(name.encode()).hexdigest()

    def _lists(self) -> Iterator[_List]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        for name in names:
            try:
                descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue  # let go of meanwhile
            try:
                found = _opened(descriptor)
                if found is None:
                    log.warning("%s is damaged: what it pinned is not kept any longer", self._directory / name)
                    os.unlink(self._directory / name)
                else:
                    yield found
            finally:
                os.close(descriptor)


def _opened(descriptor: int) -> _List | None:
    """The list in a file; None where it is no whole one."""
    head = os.pread(descriptor, _HEAD.size + MAX_NAME_BYTES, 0)
    if len(head) < _HEAD.size:
        return None
    magic, since, blobs, name_bytes = _HEAD.unpack_from(head)
    begin = _HEAD.size + name_bytes
    if magic != _MAGIC or os.fstat(descriptor).st_size != begin + blobs * _KEY_BYTES:
        return None
    name = head[_HEAD.size : begin].decode(errors="replace")
    return _List(Pin(name, blobs, since), descriptor, begin)
