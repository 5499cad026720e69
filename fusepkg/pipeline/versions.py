"""Data that has a top hash: mounted and tracked directories, whose MD5 is computed once for each version."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fusepkg.daemon.records import read_records
from fusepkg.errors import FolderUnfit, RepositoryUnfit
from fusepkg.gitdata.worktree import Worktree
from fusepkg.pipeline.hashes import OutputHash, hash_path
from fusepkg.publish.push import folder_hash
from fusepkg.work.private import make_private_directories
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from fusepkg.app.context import Context


@dataclass(frozen=True, slots=True)
class Versions:
    """Hashes of paths: ``tracked`` are directories with a pointer, ``mounts`` mountpoints with their top hashes."""

    app: Context
    tracked: frozenset[Path]
    mounts: tuple[tuple[Path, str], ...]

    def hash(self, path: Path) -> OutputHash:
        """Hash a path by DVC's rules, without reading it if it is of a version whose MD5 is known here.

        Raises OSError, RepositoryUnfit, FileChanged.
        """
        version = self._version_of(path)
        if version is None:
            return hash_path(path)
        known = self.app.settings.data_dir / "md5" / hashlib.sha256(version.encode()).hexdigest()[:32]
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(known.read_bytes(), type=OutputHash)
        found = hash_path(path)
        if self._version_of(path) == version:
            with suppress(OSError):  # a full disk: it is read again next time
                make_private_directories(known.parent)
                unfinished = known.with_name(scratch_name("md5-"))
                unfinished.write_bytes(msgspec.json.encode(found))
                unfinished.replace(known)
        return found

    def refuse_mounted(self, path: Path, stage: str) -> None:
        """Raise RepositoryUnfit if an output is mounted, or holds or lies in a mount: it cannot be written."""
        for mountpoint, _ in self.mounts:
            if path.is_relative_to(mountpoint) or mountpoint.is_relative_to(path):
                raise RepositoryUnfit(
                    f"stage {stage} has to write {path}, where a package is mounted",
                    hint=f"fusepkg umount {mountpoint}",
                )

    def _version_of(self, path: Path) -> str | None:
        place = path.resolve()
        for mountpoint, top_hash in self.mounts:
            if place.is_relative_to(mountpoint):
                return f"{top_hash}/{place.relative_to(mountpoint)}"
        if place not in self.tracked or not place.is_dir():
            return None
        try:
            return f"{folder_hash(path, hints=self.app.hints)}/."
        except FolderUnfit:  # with what no version can hold, such as a link
            return None


def versions_at(app: Context, directory: Path) -> Versions:
    """Return what is tracked in the repository of a directory, and what is mounted now. Raises RepositoryUnfit."""
    worktree = Worktree.find(directory)
    tracked = [] if worktree is None else [(worktree.root / name).resolve() for name in worktree.pointers()]

    mounts = [
        (Path(record.mountpoint), record.top_hash) for record in read_records() if os.path.ismount(record.mountpoint)
    ]
    return Versions(app, frozenset(tracked), tuple(mounts))
