"""The seal of an index: the sums of all its blocks, signed with a secret of this cache.

A file written by somebody else, even with right sums, has no valid seal. ``<root>/seal.key`` holds the secret (0600);
without it all indexes below ``<root>`` are rebuilt.

    magic | version | blocks of the image | blocks of the entry table | sums of both | 32 bytes of keyed BLAKE2b
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from fusepkg.errors import IndexDamaged
from fusepkg.index.checked import SUM_BYTES, sums_of
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"fusepkgS"
VERSION = 1

KEY = "seal.key"
_KEY_BYTES = 32
_MAC_BYTES = 32
_HEADER = struct.Struct("<8sQQQ")

_MAX_SEAL_BYTES = 1 << 30
"""Largest seal that is read: of an index of 256 GiB."""


class Sums(NamedTuple):
    """The sums of all blocks of both files."""

    image: bytes
    entries: bytes


def write_seal(path: Path, key: bytes, top_hash: str, image: BinaryIO, entries: BinaryIO) -> None:
    """Seal the two finished files of the index of that top hash. Raises OSError."""
    sums = Sums(sums_of(image), sums_of(entries))
    counts = (len(sums.image) // SUM_BYTES, len(sums.entries) // SUM_BYTES)
    sealed = _HEADER.pack(MAGIC, VERSION, *counts) + sums.image + sums.entries
    path.write_bytes(sealed + _mac(key, top_hash, sealed))


def read_seal(path: Path, key: bytes, top_hash: str) -> Sums:
    """Return the sums in a seal. Raises IndexDamaged if the seal is not of that key and top hash."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > _MAX_SEAL_BYTES:
                raise IndexDamaged(f"{path} is too large for a seal")
            data = file.read()
    except OSError as exc:
        raise IndexDamaged(f"{path} cannot be read: {exc}") from exc
    sealed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if len(sealed) < _HEADER.size or not hmac.compare_digest(mac, _mac(key, top_hash, sealed)):
        raise IndexDamaged(f"{path} is damaged, or was not written by this user of this cache")
    _, _, image_blocks, entries_blocks = _HEADER.unpack_from(sealed)
    split = _HEADER.size + image_blocks * SUM_BYTES
    if len(sealed) != split + entries_blocks * SUM_BYTES:
        raise IndexDamaged(f"{path} is damaged")
    return Sums(sealed[_HEADER.size : split], sealed[split:])


def _mac(key: bytes, top_hash: str, sealed: bytes) -> bytes:
    return hashlib.blake2b(bytes.fromhex(top_hash) + sealed, key=key, digest_size=_MAC_BYTES).digest()


def read_key(root: Path) -> bytes | None:
    """Return the secret of the indexes below ``root``; None if it is missing, or others could read or change it."""
    try:
        descriptor = os.open(root / KEY, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        is_private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077
        if not is_private or status.st_uid not in (0, os.geteuid()):
            return None
        key = os.read(descriptor, _KEY_BYTES + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return key if len(key) == _KEY_BYTES else None


def make_key(root: Path) -> bytes:
    """Return the secret of the indexes below ``root``; one that is missing or unfit is made first. Raises OSError."""
    key = read_key(root)
    if key is not None:
        return key
    scratch = root / scratch_name(KEY)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
        os.fsync(descriptor)
        os.close(descriptor)
        with suppress(FileNotFoundError):
            if read_key(root) is None:
                (root / KEY).unlink()
        try:
            os.link(scratch, root / KEY)
        except FileExistsError:  # another process was faster: its key counts
            pass
        except OSError:  # this file system has no hard links
            scratch.rename(root / KEY)
    finally:
        scratch.unlink(missing_ok=True)
    key = read_key(root)
    if key is None:
        raise PermissionError(f"{root / KEY} is not a private file of this user")
    return key
