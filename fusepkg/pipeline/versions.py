"""Data that has a top hash: its MD5 is computed once for each version, and outputs that are tracked become versions."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fusepkg.daemon.records import read_records
from fusepkg.errors import FusepkgError, RepositoryUnfit
from fusepkg.gitdata.directories import bring_to
from fusepkg.gitdata.halfway import hash_of
from fusepkg.gitdata.pointer import Pointer, parse_pointer
from fusepkg.gitdata.versions import track
from fusepkg.gitdata.worktree import Worktree
from fusepkg.pipeline.hashes import OutputHash, hash_path
from fusepkg.pipeline.urls import fact_of
from fusepkg.work.private import make_private_directories
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.app.context import Context
    from fusepkg.pipeline.repository import PipelineTree
    from fusepkg.pipeline.urls import UrlFact


@dataclass(frozen=True, slots=True)
class Versions:
    """Hashes of paths: ``tracked`` are those with a pointer, with its ``file``; ``mounts`` mountpoints with their
    top hashes."""

    app: Context
    tree: PipelineTree
    worktree: Worktree | None
    tracked: Mapping[Path, str]
    mounts: tuple[tuple[Path, str], ...]

    def hash(self, path: Path) -> OutputHash:
        """Hash a path by DVC's rules, without reading it if it is of a version whose MD5 is known here.

        Raises OSError, RepositoryUnfit, FileChanged.
        """
        version = self._version_of(path)
        if version is None:
            return self._read(path)
        known = self._notes / hashlib.sha256(version.encode()).hexdigest()[:32]
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode(known.read_bytes(), type=OutputHash)
        found = self._read(path)
        if self._version_of(path) == version:
            _note(known, msgspec.json.encode(found))
        return found

    def fact(self, url: str) -> UrlFact:
        """Ask what a URL holds now. Raises RepositoryUnfit, RemoteError."""
        return fact_of(self.app, url)

    def refuse_mounted(self, path: Path, stage: str) -> None:
        """Raise RepositoryUnfit if an output is mounted, or holds or lies in a mount: it cannot be written."""
        for mountpoint, _ in self.mounts:
            if path.is_relative_to(mountpoint) or mountpoint.is_relative_to(path):
                raise RepositoryUnfit(
                    f"stage {stage} has to write {path}, where a package is mounted",
                    hint=f"fusepkg umount {mountpoint}",
                )

    def is_tracked(self, path: Path) -> bool:
        """Return whether an output is tracked, so that it becomes a version."""
        return path.resolve() in self.tracked

    def keep(self, path: Path, md5: str) -> Pointer:
        """Make a version of a tracked output, and remember it by its MD5. Raises what tracking raises."""
        assert self.worktree is not None, "what is tracked lies in a repository"
        pointer = track(self.app, self.worktree, path).pointer
        _note(self._notes / f"of-{md5}", pointer.text().encode())
        return pointer

    def restore(self, path: Path, md5: str) -> bool:
        """Put a tracked output back from the version that had this MD5; False if there is none any more.

        There must be nothing at ``path``.
        """
        try:
            pointer = parse_pointer((self._notes / f"of-{md5}").read_bytes(), md5)
            bring_to(self.app, pointer, path)
            if self._read(path).md5 == md5:
                return True
        except (OSError, FusepkgError):  # the stage runs instead
            pass
        remove(path)
        return False

    @property
    def _notes(self) -> Path:
        return self.app.settings.data_dir / "md5"

    def _read(self, path: Path) -> OutputHash:
        return hash_path(path, self.tree.root, self.tree.ignores)

    def _version_of(self, path: Path) -> str | None:
        place = path.resolve()
        for mountpoint, top_hash in self.mounts:
            if place.is_relative_to(mountpoint):
                return f"{top_hash}/{place.relative_to(mountpoint)}{self._mark(path)}"
        if place not in self.tracked:
            return None
        found = hash_of(self.app, path, self.tracked[place])  # None: with what no version can hold, such as a link
        return None if found is None else f"{found}/.{self._mark(path)}"

    def _mark(self, path: Path) -> str:
        """Return what ignore files leave out of a path, as they change the MD5 of a version."""
        if not path.is_relative_to(self.tree.root):
            return ""
        return self.tree.ignores.mark(path.relative_to(self.tree.root).as_posix())


def versions_at(app: Context, tree: PipelineTree) -> Versions:
    """Return what is tracked in a repository, and what is mounted now. Raises RepositoryUnfit."""
    worktree = Worktree.find(tree.root)
    pointers = {} if worktree is None else worktree.pointers()
    tracked = {(worktree.root / name).resolve(): pointer.file for name, pointer in pointers.items() if worktree}
    mounts = [
        (Path(record.mountpoint), record.top_hash) for record in read_records() if os.path.ismount(record.mountpoint)
    ]
    return Versions(app, tree, worktree, tracked, tuple(mounts))


def remove(place: Path) -> None:
    """Remove a file or directory, if it is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _note(path: Path, data: bytes) -> None:
    with suppress(OSError):  # a full disk: it is read again next time
        make_private_directories(path.parent)
        unfinished = path.with_name(scratch_name("md5-"))
        unfinished.write_bytes(data)
        unfinished.replace(path)
