"""The package that holds what was chosen: what it knows of earlier runs, and its next version.

Beside the pictures lie, below ``datapool/``: ``datapool_latest.csv``, a file for each run with the objects that were
looked at, and the last run's report. So a rollback takes back a run whole, and any machine can go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.api.package import Package
from fusepkg.errors import PackageNotFound, PoolUnfit, TagNotFound, UnsupportedFormat
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.opened.version import open_version
from fusepkg.pool.config import is_prefix
from fusepkg.pool.sources import OWN
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.registry.tags import move_tag, read_tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fusepkg.app.context import Context
    from fusepkg.model.reference import Reference
    from fusepkg.work.progress import ProgressCallback

FORMAT = 1

_HEADER = "datapool"

_LOOKED_AT = f"{OWN}objects/"


class LookedAt(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object that a run has looked at: how many pictures or frames it had; why it was skipped, if it was."""

    name: str
    identity: str
    pictures: int = 0
    chosen: int = 0
    skipped: str = ""


class Header(msgspec.Struct, frozen=True):
    """What the package's metadata say of the pool."""

    format: int
    runs: int
    embedder: str
    chosen: int


@dataclass(frozen=True, slots=True)
class PoolVersion:
    """One version of a pool; without a ``package`` there is none yet."""

    reference: Reference
    package: Package | None = None
    header: Header = field(default_factory=lambda: Header(FORMAT, 0, "", 0))

    def looked_at(self) -> set[tuple[str, str]]:
        """Return name and identity of each object that was looked at. Raises UnsupportedFormat, RemoteError."""
        found = set()
        for entry in self.package or ():
            if entry.logical_key.startswith(_LOOKED_AT):
                for number, line in enumerate(entry.get_bytes().splitlines(), 1):
                    try:
                        one = msgspec.json.decode(line, type=LookedAt)
                    except (msgspec.DecodeError, ValueError) as exc:
                        raise UnsupportedFormat(f"{entry.logical_key}, line {number}: {exc}") from exc
                    found.add((one.name, one.identity))
        return found

    def run_tag(self) -> str:
        """Return the tag of the last run's version."""
        return f"{self.reference.tag}-run-{self.header.runs}"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A picture to be added: its name, the file or object that has it, its metadata.

    ``size`` and ``etag`` are those of an object in a bucket, as it was listed.
    """

    logical_key: str
    source: str
    meta: Mapping[str, Any]
    size: int = 0
    etag: str | None = None


def open_pool(context: Context, reference: Reference) -> PoolVersion:
    """Open the newest version of a pool, if there is one. Raises PoolUnfit, PackageError, RemoteError."""
    if is_new_directory(context.store(reference.bucket)):
        return PoolVersion(reference)
    try:
        package = Package.of_version(open_version(context, reference))
    except (PackageNotFound, TagNotFound):
        return PoolVersion(reference)
    if _HEADER not in package.meta:
        raise PoolUnfit(
            f"{package.name} was not made by a datapool", hint="Name another target; a package can be a source"
        )
    try:
        header = msgspec.convert(package.meta[_HEADER], Header)
    except msgspec.ValidationError as exc:
        raise UnsupportedFormat(f"the datapool of {package.name}: {exc}") from exc
    if header.format != FORMAT:
        raise UnsupportedFormat(
            f"the datapool of {package.name} has format {header.format}; this fusepkg knows {FORMAT}"
        )
    return PoolVersion(reference, package, header)


def push_run(
    before: PoolVersion,
    entries: Sequence[NewEntry],
    looked_at: Sequence[LookedAt],
    files: Mapping[str, Path],
    header: Header,
    scratch: Path,
    *,
    message: str,
    anew: bool,
    progress: ProgressCallback,
) -> Package:
    """Publish the version that a run makes: all before, unless ``anew``, and these entries. Raises as a builder does.

    ``files`` are those of the pool itself, by their names below ``datapool/``.
    """
    from fusepkg.api.builder import PackageBuilder  # here: without news nothing is published

    tag = before.reference.tag
    if before.package is None or anew:
        builder = PackageBuilder(f"{before.reference.package}:{tag}", quiet=True)
        builder.draft.based_on[tag] = None if before.package is None else before.package.hash
        meta: dict[str, Any] = {} if before.package is None else before.package.meta
    else:
        builder = PackageBuilder.from_package(before.package, quiet=True)
        meta = builder.meta
    for entry in entries:
        if is_prefix(entry.source):
            place = parse_physical_key(entry.source)
            builder.draft.set_object(entry.logical_key, place, entry.size, None, etag=entry.etag, meta=dict(entry.meta))
        else:
            builder.set(entry.logical_key, entry.source, dict(entry.meta))
    lines = scratch / "objects.jsonl"
    lines.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in looked_at))
    builder.set(f"{_LOOKED_AT}{header.runs:06}.jsonl", lines)
    for name, path in files.items():
        builder.set(f"{OWN}{name}", path)
    builder.meta = {**meta, _HEADER: msgspec.to_builtins(header)}
    builder.message = message
    builder.push_data(None, progress=progress)
    return builder.push_manifest(tag, progress=progress)


def tag_run(context: Context, version: PoolVersion) -> str:
    """Make sure that the last run's version has its own tag, and return that. Raises TagConflict, RemoteError.

    A run that was cut off after its version was published has left it without.
    """
    tag, store = version.run_tag(), context.store(version.reference.bucket)
    assert version.package is not None, "it has been published"
    named = read_tag(store, version.reference.name, tag)
    if named is None or named.top_hash != version.package.hash:
        message = version.package.message
        move_tag(store, version.reference.name, tag, version.package.hash, named, message=message)
    return tag
