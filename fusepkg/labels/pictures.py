"""The pictures that labels are of: a package, to which those of a session are added, and whose hits come to a disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Hashing

from fusepkg.api.builder import PackageBuilder
from fusepkg.api.package import Package
from fusepkg.errors import EntryNotFound, LabelsUnfit
from fusepkg.labels.documents import named
from fusepkg.labels.package import open_if_there
from fusepkg.labels.session import LABELS
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.labels.documents import Label
    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference
    from fusepkg.work.progress import ProgressCallback

_SAME: Mapping[str, str] = {}
"""Names stay as they are."""

_PIECE_BYTES = 1 << 20
"""Read at a time."""


def open_pictures(context: Context, reference: Reference) -> Package | None:
    """Return the pictures; None where there are none yet. Raises PackageError, RemoteError."""
    version = open_if_there(context, reference)
    return None if version is None else Package.of_version(version)


def find_new(package: Package | None, labels: Iterable[Label], directory: Path | None) -> dict[str, Path]:
    """Return the files to be added, by logical key: those in ``directory`` that the package lacks.

    Raises LabelsUnfit for labels whose picture is in neither, and where both have one with other bytes.
    """
    new: dict[str, Path] = {}
    wrong = []
    for name, label in {label.file_name: label for label in labels}.items():
        if name is None:
            wrong.append(f"{label.where} has no file_name")
            continue
        file = None if directory is None else directory / name
        is_here = file is not None and file.is_file()
        entry = _entry(package, name)
        if entry is None and file is not None and is_here:
            new[name] = file
        elif entry is None:
            wrong.append(f"{label.where}: the picture {name} is neither in {directory} nor in the package")
        elif file is not None and is_here and not _is_same(entry, file):
            wrong.append(f"{label.where}: the picture {name} is another one in the package")
    if wrong:
        raise LabelsUnfit(named("labels without their picture", wrong), hint="Correct them; nothing was changed")
    return new


def push_pictures(
    reference: Reference,
    package: Package | None,
    added: dict[str, Path],
    deleted: Sequence[str],
    message: str | None,
    progress: ProgressCallback = no_progress,
) -> Package:
    """Publish a version with these pictures added and deleted. Raises TagConflict where somebody else was first."""
    if package is None:
        builder = PackageBuilder(str(reference), quiet=True)
        builder.draft.based_on[reference.tag] = None
    else:
        builder = PackageBuilder.from_package(package, quiet=True)
    for name, file in added.items():
        builder.set(name, file)
    for name in deleted:
        builder.delete(name)
    builder.message = message
    builder.push_data(None, progress=progress)
    return builder.push_manifest(reference.tag, progress=progress)


def choose(package: Package, names: Iterable[str], new_names: Mapping[str, str] = _SAME) -> tuple[Package, list[str]]:
    """Return a package, of this process only, with these pictures of another; and the names it lacks."""
    entries, lost = _entries(package, names, new_names)
    builder = PackageBuilder(package.reference.package, quiet=True)
    builder.draft.add_stored(entries)
    return builder.as_package(allow_local_manifest=True), lost


def publish_chosen(package: Package, names: Iterable[str], labels: Path, new_names: Mapping[str, str]) -> Package:
    """Publish these pictures, and a file of their labels, as a version that no tag names; no picture is copied.

    It lies in the embedded registry, so that nobody needs to be allowed to write to the bucket; beside the pictures
    where these lie in a directory.
    """
    is_remote = package.reference.bucket.scheme == "s3"
    place = f"local/{package.reference.name}" if is_remote else package.reference.package
    builder = PackageBuilder(place, quiet=True)
    builder.draft.add_stored(_entries(package, names, new_names)[0])
    builder.set(LABELS, labels)
    builder.push_data(None, local_files_only=True)
    return builder.push_manifest()


def _entries(package: Package, names: Iterable[str], new_names: Mapping[str, str]) -> tuple[list[Entry], list[str]]:
    """Return the entries of these names, under their new ones, and the names that the package lacks.

    Each is looked up by itself: there may be a million others.
    """
    found, lost = [], []
    for name in sorted(set(names)):
        entry = _entry(package, name)
        if entry is None:
            lost.append(name)
        else:
            found.append(replace(entry, logical_key=new_names.get(name, name)))
    return found, lost


def _entry(package: Package | None, name: str) -> Entry | None:
    try:
        return None if package is None else package.get_entry(name).record
    except EntryNotFound:
        return None


def _is_same(entry: Entry, file: Path) -> bool:
    """Whether a file has an entry's bytes. Raises LabelsUnfit where it cannot be read."""
    try:
        size = file.stat().st_size
        hashing = Hashing(entry.digest.algorithm, size)
        with file.open("rb") as opened:
            while piece := opened.read(_PIECE_BYTES):
                hashing.update(piece)
    except OSError as exc:
        raise LabelsUnfit(f"{file} cannot be read: {exc.strerror or exc}") from exc
    return size == entry.size and entry.digest.matches(hashing.digest())
