"""Hashes of files and directories by DVC's rules, and keeping them in its cache."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fusepkg.dvc.files import DIRECTORY_SUFFIX
from fusepkg.dvc.ignores import IGNORE_FILE
from fusepkg.dvc.objects import LAYOUT
from fusepkg.errors import FileChanged, RepositoryUnfit
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from fusepkg.dvc.ignores import Ignores

_PIECE_BYTES = 1 << 20


class OutputHash(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `dvc.lock` says of a file or directory; ``md5`` of a directory ends with `.dir`. Sizes in bytes."""

    md5: str
    size: int
    nfiles: int | None = None
    isexec: bool = False


def hash_path(path: Path, root: Path, ignores: Ignores, cache: Path | None = None) -> OutputHash:
    """Hash a file or directory; with ``cache`` also keep it there, as DVC does with outputs.

    ``ignores`` are those of the repository at ``root``. Raises OSError, RepositoryUnfit, FileChanged if a file changes
    meanwhile.
    """
    if not path.is_dir():
        return _hash_file(path, cache)
    inside = os.path.relpath(path, root) if path.is_relative_to(root) else None
    files: list[Path] = []
    for directory, below, names in os.walk(path, onerror=_fail):
        if IGNORE_FILE in names:
            raise RepositoryUnfit(f"{directory} has a {IGNORE_FILE}, which DVC refuses within data", hint="Remove it")
        if inside is None:
            files += [Path(directory, name) for name in names]
            continue
        at = os.path.normpath(os.path.join(inside, os.path.relpath(directory, path)))
        below[:] = [name for name in below if not ignores.leaves_out_itself(_join(at, name), is_directory=True)]
        kept = [name for name in names if not ignores.leaves_out_itself(_join(at, name), is_directory=False)]
        files += [Path(directory, name) for name in kept]
    found = {file.relative_to(path).as_posix(): _hash_file(file, cache) for file in files}
    listed = [{"md5": found[name].md5, "relpath": name} for name in sorted(found)]
    text = json.dumps(listed, sort_keys=True).encode()
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest() + DIRECTORY_SUFFIX
    if cache is not None:
        _put(cache, md5, text)
    return OutputHash(md5, sum(one.size for one in found.values()), len(found))


def object_in(cache: Path, md5: str) -> Path:
    """Return where DVC's cache has an object."""
    return cache / LAYOUT / md5[:2] / md5[2:]


def _hash_file(path: Path, cache: Path | None) -> OutputHash:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    md5 = digest.hexdigest()
    if cache is not None and not object_in(cache, md5).exists():
        target = object_in(cache, md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not copy_checked(path, target, md5, 0o444):  # by which DVC knows objects that need no look
            raise FileChanged(f"{path} changed while it was read", hint="Has its stage left something running?")
    return OutputHash(md5, status.st_size, isexec=bool(status.st_mode & 0o111))


def copy_checked(source: Path, target: Path, md5: str, mode: int) -> bool:
    """Copy a file, hashing what is written: whole and with that MD5, or not at all. Return whether it had it."""
    unfinished = target.with_name(scratch_name("tmp-"))
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with source.open("rb") as file, unfinished.open("xb") as out:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != md5:
            return False
        unfinished.chmod(mode)
        unfinished.replace(target)
        return True
    finally:
        unfinished.unlink(missing_ok=True)


def _put(cache: Path, name: str, data: bytes) -> None:
    target = object_in(cache, name)
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(scratch_name("tmp-"))
    try:
        unfinished.write_bytes(data)
        unfinished.chmod(0o444)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _join(directory: str, name: str) -> str:
    return name if directory == "." else f"{directory}/{name}"


def _fail(error: OSError) -> None:
    raise error
