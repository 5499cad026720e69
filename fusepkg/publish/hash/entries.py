"""Hashing the entries of a version being made: files of this machine, and objects in buckets."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from fusepkg.publish.draft.entry_sources import LocalFiles, RemoteObjects
from fusepkg.publish.hash.files import hash_files
from fusepkg.publish.hash.objects import hash_objects
from fusepkg.publish.hash.read import file_changed
from fusepkg.state.file_identity import FileSystems
from fusepkg.work.progress import no_progress
from fusepkg.work.threads import StopFlag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.publish.draft.tree import Slot
    from fusepkg.publish.hashes import Hashed
    from fusepkg.publish.scanned import ScannedFile
    from fusepkg.state.hints import Hints
    from fusepkg.work.progress import ProgressCallback


def hash_entries(
    draft: Draft,
    slots: Iterable[Slot],
    *,
    look_again: bool = True,
    hints: Hints | None,
    progress: ProgressCallback = no_progress,
) -> bool:
    """Hash those of the entries that have no hash yet, or whose file has changed. Return whether there were any.

    Without ``look_again`` files are not looked at again to see whether they have changed since they were scanned: one
    that has raises FileChanged as it is read. The hash of an object is what its server attests, or computed from one
    reading of it.

    Raises: FileChanged, FolderUnfit, and what stores raise.
    """
    files = _Files()
    objects: list[tuple[RemoteObjects, int]] = []
    file_systems = FileSystems()
    for item, number in slots:
        entries = item.entries
        if isinstance(entries, LocalFiles):
            is_known = _is_as_hashed(entries, number, file_systems) if look_again else number in entries.hashes
            if not is_known:
                files.append(entries, number)
        elif isinstance(entries, RemoteObjects) and number not in entries.hashes:
            objects.append((entries, number))
    stop = StopFlag()
    if files:
        hash_files(files, files.hashed, total_bytes=files.total_bytes, hints=hints, stop=stop, progress=progress)
    if objects:
        is_in_s3 = draft.reference.bucket.scheme == "s3"
        temporary = None if is_in_s3 else draft.temporary_blobs.directory()
        hash_objects(objects, draft.stores, temporary, hints=hints, stop=stop, progress=progress)
    return bool(files or objects)


class _Files(Sequence["ScannedFile"]):
    """Files to hash, each looked up when it is its turn."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._sources: list[LocalFiles] = []
        self._numbers = array("I")

    def append(self, source: LocalFiles, number: int) -> None:
        self._sources.append(source)
        self._numbers.append(number)
        self.total_bytes += source.get_size(number)

    def hashed(self, index: int, hashed: Hashed) -> None:
        self._sources[index].hashes.put(self._numbers[index], hashed)

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, index: int) -> ScannedFile: ...
    @overload
    def __getitem__(self, index: slice) -> list[ScannedFile]: ...
    def __getitem__(self, index: int | slice) -> ScannedFile | list[ScannedFile]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return self._sources[index].files[self._numbers[index]]


def _is_as_hashed(local: LocalFiles, number: int, file_systems: FileSystems) -> bool:
    """Return whether a file has its hash still; one that has changed is scanned again."""
    file = local.files[number]
    if file.path is None:
        return number in local.hashes
    try:
        status = os.stat(file.path, follow_symlinks=False)
    except OSError as exc:
        raise file_changed(file) from exc
    if not stat.S_ISREG(status.st_mode):
        raise file_changed(file)
    identity = file_systems.identity(file.path, status)
    if identity != file.identity:
        local.files.replace(number, replace(file, identity=identity))
        local.hashes.forget(number)
    return number in local.hashes
