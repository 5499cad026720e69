"""What there is to choose from: pictures and videos below a bucket's prefix, in a folder, or in a package."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote

from fusepkg.api.package import Package
from fusepkg.errors import ManifestInvalid, PoolUnfit, UsageError
from fusepkg.fetch.unhashed import read_unhashed
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.pool.config import is_folder, is_prefix
from fusepkg.publish.folder import scan_folder
from fusepkg.publish.hash.files import hash_files
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fusepkg.api.entry import PackageEntry
    from fusepkg.app.context import Context
    from fusepkg.work.progress import ProgressCallback

PICTURES = frozenset(["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"])
VIDEOS = frozenset(["avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv"])
"""By the end of a name, in any case. Other objects are left alone."""

OWN = "datapool/"
"""Where a pool keeps what it knows; never a source, so that one pool can be the source of another."""


@dataclass(frozen=True, slots=True)
class SourceObject:
    """A picture or a video. ``name`` and ``identity`` (its ETag or hash) say which; ``address`` is where it lies.

    ``entry`` is that of a package, ``etag`` that of an object in a bucket, ``size`` of either; ``wrong`` says why it
    cannot be used.
    """

    name: str
    identity: str
    address: str
    is_video: bool
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)
    entry: PackageEntry | None = field(default=None, compare=False)
    size: int = field(default=0, compare=False)
    etag: str | None = field(default=None, compare=False)
    wrong: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What is remembered of it."""
        return self.name, self.identity


def list_objects(
    context: Context, sources: Sequence[str], *, progress: ProgressCallback = no_progress
) -> list[SourceObject]:
    """Return all pictures and videos, by name; of equal ones (name and identity) the first.

    Raises UsageError, FolderUnfit, PackageError, RemoteError.
    """
    found: dict[tuple[str, str], SourceObject] = {}
    for source in sources:
        for one in _list(context, source, progress):
            found.setdefault(one.key, one)
    return [found[key] for key in sorted(found)]


def _list(context: Context, source: str, progress: ProgressCallback) -> Iterator[SourceObject]:
    if is_prefix(source):
        return _below_prefix(context, source)
    if is_folder(source):
        return _in_folder(context, Path(source).expanduser(), progress)
    return _in_package(source)


def _below_prefix(context: Context, source: str) -> Iterator[SourceObject]:
    bucket, _, key = source.removeprefix("s3://").partition("/")
    prefix = unquote(key) if key.endswith("/") or not key else f"{unquote(key)}/"
    store, _ = context.stores.for_key(PhysicalKey("s3", bucket, prefix))
    for info in store.list_versions(prefix):
        name = info.key[len(prefix) :]
        if _is_media(name):
            identity = f"etag:{info.etag}" if info.etag else f"version:{info.version}:{info.size}"
            address = store.url(info.key, info.version)
            found = SourceObject(name, identity, address, _is_video(name), size=info.size, etag=info.etag)
            yield _checked(found)


def _in_folder(context: Context, folder: Path, progress: ProgressCallback) -> Iterator[SourceObject]:
    if not folder.is_dir():
        raise UsageError(
            f"the source {folder} is not a folder", hint="Name a folder, s3://bucket/prefix/, or bucket/name:tag"
        )
    files = [file for file in scan_folder(folder).files if file.path is not None and _is_media(file.logical_key)]
    identities = [""] * len(files)
    hash_files(
        files,
        lambda number, hashed: identities.__setitem__(number, str(hashed.digest)),
        hints=context.hints,
        progress=progress,
    )
    for file, identity in zip(files, identities, strict=True):
        name = file.logical_key
        yield SourceObject(name, identity, str(folder / name), _is_video(name))


def _in_package(source: str) -> Iterator[SourceObject]:
    for entry in Package(source):
        name = entry.logical_key
        if _is_media(name) and entry.is_file():
            yield SourceObject(
                name, entry.hash, entry.physical_key, _is_video(name), meta=entry.meta, entry=entry, size=entry.size
            )


def _is_media(name: str) -> bool:
    return not name.startswith(OWN) and _extension(name) in PICTURES | VIDEOS


def _is_video(name: str) -> bool:
    return _extension(name) in VIDEOS


def _extension(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def _checked(found: SourceObject) -> SourceObject:
    try:
        check_logical_key(found.name)
    except ManifestInvalid as exc:
        return replace(found, wrong=exc.message)
    return found


@contextmanager
def opened(context: Context, found: SourceObject) -> Iterator[IO[bytes]]:
    """Open an object for reading. One in a bucket is copied to a temporary file first, in pieces.

    Raises RemoteError, IntegrityError, PoolUnfit, FileChanged for an object that is not as it was listed.
    """
    if found.entry is not None:
        with found.entry.open() as file:
            yield file
    elif is_prefix(found.address):
        with tempfile.TemporaryFile(prefix="fusepkg-pool-") as copy:
            read_unhashed(parse_physical_key(found.address), found.size, context.stores.for_key, copy)
            copy.seek(0)
            yield copy
    else:
        try:
            local = Path(found.address).open("rb")  # noqa: SIM115 - closed below
        except OSError as exc:
            raise PoolUnfit(f"{found.address} cannot be read: {exc.strerror or exc}") from exc
        with local:
            yield local
