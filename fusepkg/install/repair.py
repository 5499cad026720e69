"""Compare a directory with a package, and make it match: remove and rewrite files, if that is allowed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.check.directory import Difference, DifferenceKind, compare_directory
from fusepkg.errors import InstallError
from fusepkg.install.run import write_anew
from fusepkg.install.target import STAGING
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME
from fusepkg.state.install_record import InstallRecord, installed_at
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fusepkg.fetch.direct import DirectReader
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.state.install_record import WrittenFile
    from fusepkg.work.progress import ProgressCallback
    from fusepkg.work.walk import WalkEntry

_REASONS = {
    DifferenceKind.MISSING: "does not exist locally, but exists in the manifest {name}",
    DifferenceKind.EXTRA: "exists locally, but does not exist in the manifest {name}",
    DifferenceKind.CHANGED: "exists locally, but contents do not match manifest {name}",
}


_NAMED = 3
"""Files named in a refusal before it counts the rest."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that was removed or written; ``source`` is the physical key of its bytes, None if removed."""

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
    """Return how a directory differs from a package; every byte is read. Raises FolderUnfit if there is none."""
    return compare_directory(
        directory,
        index.entries,
        count=len(index.entries),
        total_bytes=index.total_bytes,
        leave_out={STAGING},
        progress=progress,
    )


def find_changes(index: Index, directory: Path, data_dir: Path) -> list[Difference]:
    """Return what has changed in a directory since the install; files whose record says unchanged are not read.

    Raises FolderUnfit, InstallError.
    """
    with closing(InstallRecord(data_dir, directory)) as record:
        trusted = _as_written(record.files())
        return compare_directory(directory, index.entries, leave_out={STAGING}, trusted=trusted)


def _as_written(files: Iterator[WrittenFile]) -> Callable[[Entry, WalkEntry], bool]:
    known = next(files, None)

    def is_as_written(entry: Entry, found: WalkEntry) -> bool:
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
    """Return a difference in words that follow the file's name; ``name`` is the package's."""
    if difference.reason.startswith("is ") and difference.kind is DifferenceKind.CHANGED:
        return f"{difference.reason} {name}"  # such as: is a plain file, but an executable file in the manifest
    return _REASONS[difference.kind].format(name=name)


def force_to_match(
    index: Index,
    reference: str,
    directory: Path,
    reader: DirectReader,
    data_dir: Path,
    *,
    any_directory: bool = False,
    outside_links: bool = False,
    time_s: int | None = None,
    dry_run: bool = False,
    progress: ProgressCallback = no_progress,
) -> list[FileChange]:
    """Make a directory match a package: extra files are removed, wrong ones replaced.

    Return what was changed, in tree order; with ``dry_run`` what would be. With ``any_directory`` files are removed and
    replaced also where no install began with an empty directory.

    Raises FolderUnfit, InstallError, RemoteError, IntegrityError.
    """
    differences = find_differences(index, directory) if directory.exists() or not dry_run else all_missing(index)
    if not dry_run:
        if not any_directory:
            _check_only_installed_files_go(directory, data_dir, differences)
        write_anew(
            index,
            reference,
            directory,
            reader,
            data_dir,
            entries=[found.entry for found in differences if found.entry is not None],
            removed=[_to_remove(found) for found in differences if found.kind is DifferenceKind.EXTRA],
            outside_links=outside_links,
            time_s=time_s,
            progress=progress,
        )
    return [
        FileChange(shown_key(found), found.kind, found.entry.physical_key.readable if found.entry is not None else None)
        for found in differences
    ]


def all_missing(index: Index) -> list[Difference]:
    """Return how a directory that is not there differs from a package."""
    return [Difference(entry.logical_key, "", DifferenceKind.MISSING, entry) for entry in index.entries]


def _check_only_installed_files_go(directory: Path, data_dir: Path, differences: list[Difference]) -> None:
    """Raise InstallError if files would be lost in a directory that may hold more than installs put there."""
    lost = [found for found in differences if found.kind is not DifferenceKind.MISSING]
    installed = installed_at(data_dir, directory)
    if not lost or (installed is not None and installed.is_certain and installed.began_empty):
        return
    removed = sum(found.kind is DifferenceKind.EXTRA for found in lost)
    named = ", ".join(shown_key(found) for found in lost[:_NAMED]) + (", ..." if len(lost) > _NAMED else "")
    what = "nothing was ever installed there" if installed is None else "it held other files before the first install"
    raise InstallError(
        f"{directory} is left as it is: {what}, and {removed:,} of its files would be removed and "
        f"{len(lost) - removed:,} replaced ({named})",
        hint="See all of them with --dry-run (dry_run=True). To lose them: --force --force-any-directory "
        "(any_directory=True)",
    )


def shown_key(difference: Difference) -> str:
    """Return the name shown to people: an empty directory's own instead of its marker's."""
    return difference.logical_key.removesuffix(EMPTY_DIRECTORY_NAME)


def _to_remove(found: Difference) -> tuple[str, bool]:
    directory = found.logical_key.removesuffix(f"/{EMPTY_DIRECTORY_NAME}")
    return directory, directory != found.logical_key
