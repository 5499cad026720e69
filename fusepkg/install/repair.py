"""Whether a directory is what a package says, and making it so.

Owns: what is removed and what is written anew, and the words for both. Must not know: printing, where bytes come from.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.check.directory import Difference, DifferenceKind, compare_directory
from fusepkg.install.run import write_anew
from fusepkg.install.target import STAGING
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME
from fusepkg.state.install_record import InstallRecord
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg.index.opening import Index
    from fusepkg.install.fetch import Origin
    from fusepkg.model.entry import Entry
    from fusepkg.state.install_record import WrittenFile
    from fusepkg.work.progress import ProgressCallback
    from fusepkg.work.walk import Found

_REASONS = {
    DifferenceKind.MISSING: "does not exist locally, but exists in the manifest {name}",
    DifferenceKind.EXTRA: "exists locally, but does not exist in the manifest {name}",
    DifferenceKind.CHANGED: "exists locally, but contents do not match manifest {name}",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One file that was removed, or written; ``source`` is where its bytes came from, None for a removed one."""

    logical_key: str
    kind: DifferenceKind
    source: str | None

    def __str__(self) -> str:
        if self.source is None:
            return f"{self.logical_key} removed"
        if self.logical_key.endswith("/"):
            return f"{self.logical_key} made"
        verb = "replaced with" if self.kind is DifferenceKind.CHANGED else "downloaded from"
        return f"{self.logical_key} {verb} {self.source}"


def find_differences(index: Index, directory: Path, *, progress: ProgressCallback = no_progress) -> list[Difference]:
    """How a directory differs from a package, every byte read. Raises FolderUnfit where there is none."""
    return compare_directory(
        directory,
        index.entries,
        count=len(index.entries),
        total_bytes=index.total_bytes,
        leave_out={STAGING},
        progress=progress,
    )


def find_changes(index: Index, directory: Path, data_dir: Path) -> list[Difference]:
    """What has changed in a directory since a package was installed there: files as they were written are not read.

    Raises FolderUnfit, InstallError.
    """
    with closing(InstallRecord(data_dir, directory)) as record:
        trusted = _as_written(record.files())
        return compare_directory(directory, index.entries, leave_out={STAGING}, trusted=trusted)


def _as_written(files: Iterator[WrittenFile]) -> Callable[[Entry, Found], bool]:
    known = next(files, None)

    def is_as_written(entry: Entry, found: Found) -> bool:
        nonlocal known
        while known is not None and known.place < found.place:
            known = next(files, None)
        return (
            known is not None
            and known.place == found.place
            and (known.kind, known.digest, known.size) == (entry.kind, entry.digest, found.status.st_size)
            and known.is_untouched(found.status)
        )

    return is_as_written


def describe(difference: Difference, name: str) -> str:
    """A difference in words that follow the file's name; ``name`` is the package's."""
    if difference.reason.startswith("is ") and difference.kind is DifferenceKind.CHANGED:
        return f"{difference.reason} {name}"  # such as: is a plain file, but an executable file in the manifest
    return _REASONS[difference.kind].format(name=name)


def force_to_match(
    index: Index,
    reference: str,
    directory: Path,
    origin: Origin,
    data_dir: Path,
    *,
    progress: ProgressCallback = no_progress,
) -> list[Change]:
    """Make a directory exactly what the package says: what is too much is removed, the rest written anew.

    Gives what was changed, in tree order. Raises FolderUnfit, InstallError, RemoteError, IntegrityError.
    """
    differences = find_differences(index, directory)
    extra = [found for found in differences if found.kind is DifferenceKind.EXTRA]
    wrong = [found for found in differences if found.kind is not DifferenceKind.EXTRA]
    entries = [found.entry for found in wrong if found.entry is not None]
    removed = map(_to_remove, extra)
    write_anew(index, reference, directory, origin, data_dir, entries=entries, removed=removed, progress=progress)
    return [
        Change(shown_key(found), found.kind, found.entry.physical_key.readable if found.entry is not None else None)
        for found in differences
    ]


def shown_key(difference: Difference) -> str:
    """What a person calls it: an empty directory by its name."""
    return difference.logical_key.removesuffix(EMPTY_DIRECTORY_NAME)


def _to_remove(found: Difference) -> tuple[str, bool]:
    directory = found.logical_key.removesuffix(f"/{EMPTY_DIRECTORY_NAME}")
    return directory, directory != found.logical_key
