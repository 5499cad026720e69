"""Hashes of files and directories by DVC's rules, and its cache, where it looks for outputs."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from fusepkg.dvc.config import CONFIG, Config
from fusepkg.dvc.files import DIRECTORY_SUFFIX
from fusepkg.dvc.objects import LAYOUT
from fusepkg.errors import FileChanged, RepositoryUnfit
from fusepkg.work.scratch import scratch_name

IGNORE_FILE = ".dvcignore"

_SKIPPED = (".git", ".hg", ".dvc")
"""Directories that DVC leaves out wherever they are."""

_PIECE_BYTES = 1 << 20


class OutputHash(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `dvc.lock` says of a file or directory; ``md5`` of a directory ends with `.dir`. Sizes in bytes."""

    md5: str
    size: int
    nfiles: int | None = None
    isexec: bool = False


def hash_path(path: Path, cache: Path | None = None) -> OutputHash:
    """Hash a file or directory; with ``cache`` also keep it there, as DVC does with outputs.

    Raises OSError, RepositoryUnfit, FileChanged if a file changes meanwhile.
    """
    if not path.is_dir():
        return _hash_file(path, cache)
    files = []
    for directory, below, names in os.walk(path, onerror=_fail):
        if IGNORE_FILE in names:
            raise RepositoryUnfit(f"{directory} has a {IGNORE_FILE}, which DVC refuses within data", hint="Remove it")
        below[:] = [name for name in below if name not in _SKIPPED]
        files += [Path(directory, name) for name in names if name != ".git"]
    found = {file.relative_to(path).as_posix(): _hash_file(file, cache) for file in files}
    listed = [{"md5": found[name].md5, "relpath": name} for name in sorted(found)]
    text = json.dumps(listed, sort_keys=True).encode()
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest() + DIRECTORY_SUFFIX
    if cache is not None:
        _put(cache, md5, text)
    return OutputHash(md5, sum(one.size for one in found.values()), len(found))


def root_of(directory: Path) -> Path:
    """Return the top of the DVC repository a directory lies in; else that of git; else the directory."""
    above = [directory.resolve(), *directory.resolve().parents]
    for mark in (CONFIG, ".git"):
        for one in above:
            if (one / mark).exists():
                return one
    return above[0]


def cache_of(root: Path) -> Path | None:
    """Return where the DVC repository at ``root`` keeps objects; None if it is none. Raises RepositoryUnfit."""
    config = root / CONFIG
    if not config.exists():
        return None
    return Config(config.read_text(errors="replace"), root, str(root)).cache_directory(root)


def check_ignores(root: Path, directories: list[Path]) -> None:
    """Refuse patterns in `.dvcignore`, by which DVC would hash directories otherwise. Raises RepositoryUnfit."""
    places = {above for one in directories for above in (one, *one.parents) if above.is_relative_to(root)}
    for place in sorted({root, *places}):
        with suppress(FileNotFoundError, NotADirectoryError):
            lines = (place / IGNORE_FILE).read_text(errors="replace").splitlines()
            if any(line.strip() and not line.startswith("#") for line in lines):
                raise RepositoryUnfit(
                    f"{place / IGNORE_FILE} has patterns, which fusepkg does not read",
                    hint="Run the pipeline with `dvc repro`, or remove the patterns",
                )


def _hash_file(path: Path, cache: Path | None) -> OutputHash:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    md5 = digest.hexdigest()
    if cache is not None and not _object(cache, md5).exists():
        _copy(path, cache, md5)
    return OutputHash(md5, status.st_size, isexec=bool(status.st_mode & 0o111))


def _copy(path: Path, cache: Path, md5: str) -> None:
    """Copy a file into the cache, hashing what is written, so that no object has another name than its bytes."""
    target = _object(cache, md5)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(scratch_name("tmp-"))
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as source, unfinished.open("xb") as out:
            while piece := source.read(_PIECE_BYTES):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != md5:
            raise FileChanged(f"{path} changed while it was read", hint="Has its stage left something running?")
        unfinished.chmod(0o444)  # by which DVC knows objects that need no look
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _put(cache: Path, name: str, data: bytes) -> None:
    target = _object(cache, name)
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


def _object(cache: Path, md5: str) -> Path:
    return cache / LAYOUT / md5[:2] / md5[2:]


def _fail(error: OSError) -> None:
    raise error
