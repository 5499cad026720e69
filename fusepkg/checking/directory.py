"""Compare a directory, mounted or copied, with a manifest: names, kinds, and every byte.

Owns: what counts as a difference. Must not know: mounts, printing.

Nothing remembered is used: a check reads all bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Hashing, compute_digest

from fusepkg.model.entry import EntryKind
from fusepkg.publish.folder import scan_folder
from fusepkg.publish.hashing import hash_files
from fusepkg.publish.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fusepkg_cache.digest import Algorithm, Digest

    from fusepkg.model.entry import Entry
    from fusepkg.publish.folder import ScannedFile
    from fusepkg.publish.hashing import Hashed
    from fusepkg.publish.progress import ProgressCallback

_READ_BYTES = 1 << 20
"""Read and hashed at a time where a whole file is hashed in one piece."""

_KIND_WORDS = {
    EntryKind.FILE: "a plain file",
    EntryKind.EXECUTABLE: "an executable file",
    EntryKind.SYMLINK: "a symbolic link",
    EntryKind.EMPTY_DIRECTORY: "an empty directory",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry or file that is not as the manifest has it, and how, in words that follow its name."""

    logical_key: str
    reason: str


def compare_directory(
    directory: Path, entries: Iterable[Entry], *, progress: ProgressCallback = no_progress
) -> list[Difference]:
    """All differences, in order of logical keys. Raises FolderUnfit where the directory cannot be read."""
    scanned = scan_folder(directory).files
    pairs = zip(scanned, hash_files(scanned, progress=progress), strict=True)
    hashed = {file.logical_key: (file, digest) for file, digest in pairs}
    differences: list[Difference] = []
    for entry in entries:
        pair = hashed.pop(entry.logical_key, None)
        if pair is None:
            differences.append(Difference(entry.logical_key, "is in the manifest, but does not exist in the directory"))
        elif reason := _difference(entry, *pair):
            differences.append(Difference(entry.logical_key, reason))
    differences += [Difference(key, "exists in the directory, but not in the manifest") for key in hashed]
    return sorted(differences, key=lambda difference: difference.logical_key)


def _difference(entry: Entry, file: ScannedFile, hashed: Hashed) -> str | None:
    if entry.kind is not file.kind:
        return f"is {_KIND_WORDS[file.kind]}, but {_KIND_WORDS[entry.kind]} in the manifest"
    if entry.size != file.size:
        return f"has {file.size} bytes, but {entry.size} in the manifest"
    digest = hashed.digest
    if digest.algorithm is not entry.digest.algorithm:
        digest = _digest(entry.digest.algorithm, file)
    return None if entry.digest.matches(digest) else "has other contents than the manifest says"


def _digest(algorithm: Algorithm, file: ScannedFile) -> Digest:
    """What the bytes of a file hash to by another algorithm than ours: those of manifests that quilt3 wrote."""
    if file.path is None:
        return compute_digest(algorithm, file.link.encode())
    hashing = Hashing(algorithm, file.size)
    with open(file.path, "rb") as opened:
        while piece := opened.read(_READ_BYTES):
            hashing.update(piece)
    return hashing.digest()
