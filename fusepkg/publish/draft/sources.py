"""What a user adds to a version: a file, a folder, an object, or all objects below a prefix."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from fusepkg.errors import FolderUnfit, FusepkgError, ManifestInvalid, ObjectMissing, UsageError
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.publish.draft.entry_sources import LocalFiles, RemoteObjects
from fusepkg.publish.folder import Symlinks, scan_file, scan_folder
from fusepkg.publish.scanned import ScannedFiles
from fusepkg.registry.manifests import names_local_files
from fusepkg.work.entry_points import entry_point_names, load_entry_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg.publish.draft.entry_sources import EntrySource
    from fusepkg.store.opening import StoreSet
    from fusepkg.store.protocol import ObjectInfo, ObjectStore

_FORMS = "Name a file, a folder, s3://bucket/key, or s3://bucket/prefix/"

PLUGGED = "fusepkg.sources"
"""The entry points that add schemes: each is called with a URL and an empty directory to fill."""

_NAMED_PROBLEMS = 10
"""Objects with unfit names that a message lists before it counts the rest."""


@dataclass(frozen=True, slots=True)
class FoundSource:
    """Something that was found. ``keys`` are the logical keys of its entries, in the order of their numbers.

    For a folder they are relative to wherever it is put; for a file there is one, its name. ``default_key`` is where it
    goes by default; ``shown`` ends with a slash for a folder.
    """

    entries: EntrySource
    keys: Iterable[str]
    shown: str
    default_key: str
    is_folder: bool
    is_local: bool


def find_source(
    text: str,
    stores: StoreSet,
    *,
    symlinks: Symlinks = Symlinks.REFUSE,
    leave_out: Callable[[str, bool], bool] | None = None,
) -> FoundSource:
    """Find what a user named. ``leave_out`` says which names of a folder are not wanted (``scan_folder``).

    Raises UsageError, FolderUnfit, ObjectMissing, and what stores raise.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _find_local(text, text, symlinks, leave_out)
    if scheme == "file":
        path, query = _split_url(text, rest.removeprefix("localhost"))
        if query or not path.startswith("/"):
            raise UsageError(f"{text!r} does not name an absolute path", hint=_FORMS)
        return _find_local(path, path, symlinks, leave_out)
    if scheme != "s3":
        return _find_plugged(text, scheme, symlinks, leave_out)
    return _find_remote(text, rest, stores)


def _find_plugged(
    text: str, scheme: str, symlinks: Symlinks, leave_out: Callable[[str, bool], bool] | None
) -> FoundSource:
    """Find what a source of somebody else's brings: files in a directory that is gone when this process ends."""
    if scheme not in entry_point_names(PLUGGED):
        raise UsageError(f"{text!r} has the unknown scheme {scheme!r}", hint=_FORMS)
    fetch = load_entry_point(PLUGGED, scheme)
    directory = Path(tempfile.mkdtemp(prefix="fusepkg-source-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    try:
        fetch(text, directory)
    except FusepkgError:
        raise
    except Exception as exc:
        raise FolderUnfit(f"{text} cannot be fetched: {type(exc).__name__}: {exc}") from exc
    found = _find_local(f"{directory}/", f"{directory}/", symlinks, leave_out)
    return replace(found, shown=f"{text.rstrip('/')}/", default_key="")


# --- this machine --------------------------------------------------------------------------------------------


def _find_local(text: str, path: str, symlinks: Symlinks, leave_out: Callable[[str, bool], bool] | None) -> FoundSource:
    if not path or "\0" in path:
        raise UsageError(f"{text!r} names nothing", hint=_FORMS)
    if not os.path.exists(path):
        raise FolderUnfit(f"{text} does not exist", hint=_FORMS)
    absolute = Path(os.path.abspath(path))
    shown = shown_path(path)
    if not absolute.is_dir():
        if path.endswith("/"):
            raise FolderUnfit(f"{text} is not a folder", hint="Leave out the slash to add a file")
        file = scan_file(absolute)
        alone = ScannedFiles(os.path.dirname(file.path or b"/"))
        alone.append(file)
        entries = LocalFiles.of(os.fsencode(absolute.parent), alone)
        return FoundSource(entries, (file.logical_key,), shown, _default_key(path), is_folder=False, is_local=True)
    files = scan_folder(absolute, symlinks, leave_out).files
    entries = LocalFiles.of(os.fsencode(absolute), files)
    key = _default_key(path)
    return FoundSource(
        entries,
        files.logical_keys,
        shown if shown.endswith("/") else f"{shown}/",
        f"{key}/" if key else "",
        is_folder=True,
        is_local=True,
    )


def shown_path(path: str) -> str:
    """A path as the user gave it, with ``./`` where that went without saying."""
    normal = os.path.normpath(path)
    if normal == ".":
        return "./"
    if path.endswith("/"):
        normal += "/"
    return normal if normal.startswith(("/", "../")) or normal == ".." else f"./{normal}"


def _default_key(path: str) -> str:
    """A path below the working directory keeps its parts, any other its last name."""
    normal = os.path.normpath(path)
    if normal == ".":
        return ""
    if normal == ".." or normal.startswith(("/", "../")):
        return os.path.basename(os.path.abspath(path))
    return normal


def find_folder(directory: Path, *, symlinks: Symlinks = Symlinks.REFUSE) -> FoundSource:
    """Find what a folder holds, to be the whole of a version. Raises FolderUnfit."""
    files = scan_folder(directory, symlinks).files
    entries = LocalFiles.of(os.fsencode(os.path.abspath(directory)), files)
    return FoundSource(entries, files.logical_keys, f"{directory}/", "", is_folder=True, is_local=True)


def check_registry_is_outside(store: ObjectStore, directory: Path) -> None:
    """Refuse a folder that holds the registry: it would be published into itself, twice as large each time.

    Raises: FolderUnfit.
    """
    if not names_local_files(store):
        return
    root = Path(parse_physical_key(store.url("any")).key).parent.resolve()
    if root.is_relative_to(directory.resolve()):
        raise FolderUnfit(f"The registry {root} lies in {directory}", hint="Publish a folder outside the registry")


# --- buckets -------------------------------------------------------------------------------------------------


def _find_remote(text: str, rest: str, stores: StoreSet) -> FoundSource:
    bucket, _, key = rest.partition("/")
    key, query = _split_url(text, key)
    if not bucket or "?" in bucket or "#" in bucket:
        raise UsageError(f"{text!r} names no bucket", hint=_FORMS)
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    version = parameters.pop("versionId", "") or None
    if parameters or (query and version is None):
        raise UsageError(f"{text!r} has a query that means nothing here", hint="Only ?versionId=... is understood")
    shown = f"s3://{bucket}/{key}"
    if key and not key.endswith("/"):
        return _find_object(PhysicalKey("s3", bucket, key, version), shown, stores)
    if version is not None:
        raise UsageError(f"{text!r} names a version of a prefix", hint="Only single objects have versions")
    return _find_objects(bucket, key, shown, stores)


def _find_object(place: PhysicalKey, shown: str, stores: StoreSet) -> FoundSource:
    store, key = stores.for_key(place)
    try:
        info = store.head(key, version=place.version)
    except ObjectMissing as exc:
        raise ObjectMissing(
            f"{shown} is not there", hint=f"To add all that lies below it, write {shown}/ with a slash"
        ) from exc
    place = PhysicalKey("s3", place.bucket, key, info.version)
    name = key.rpartition("/")[2]
    return FoundSource(RemoteObjects.of([(place, info.size)]), (name,), shown, name, is_folder=False, is_local=False)


def _find_objects(bucket: str, prefix: str, shown: str, stores: StoreSet) -> FoundSource:
    store, _ = stores.for_key(PhysicalKey("s3", bucket, prefix))
    found = _Objects(bucket, prefix)
    for info in store.list_versions(prefix):
        found.add(info)
    found.finish()
    if found.problems:
        more = len(found.problems) - _NAMED_PROBLEMS
        named = "; ".join(found.problems[:_NAMED_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise FolderUnfit(
            f"{shown} cannot be part of a package: {named}",
            hint="Copy these to other names, or add the others one by one",
        )
    if not found.keys:
        raise FolderUnfit(f"No object lies below {shown}", hint="Check the prefix")
    entries = RemoteObjects.of(found.objects, frozenset(found.empty_directories))
    name = prefix.rstrip("/").rpartition("/")[2]
    return FoundSource(entries, found.keys, shown, f"{name}/" if name else "", is_folder=True, is_local=False)


class _Objects:
    """Collect the objects below a prefix, which come in byte order of keys.

    An object without bytes whose key ends with a slash is how consoles and other programs keep a directory: it is an
    empty directory if nothing lies below it. One with bytes is a problem, for no file can have its name.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._mark: ObjectInfo | None = None
        """A directory's object, until it is known whether anything lies below it."""
        self.keys: list[str] = []
        self.objects: list[tuple[PhysicalKey, int]] = []
        self.empty_directories: list[int] = []
        self.problems: list[str] = []

    def add(self, info: ObjectInfo) -> None:
        """Take the next object."""
        if self._mark is not None and not info.key.startswith(self._mark.key):
            self._keep_mark(self._mark)
        self._mark = None
        key = info.key[len(self._prefix) :]
        if info.key.endswith("/"):
            if info.size:
                self.problems.append(f"{info.key[:120]!r} ends with a slash, and holds {info.size:,} bytes")
            else:
                self._mark = info
        elif key.rpartition("/")[2] == EMPTY_DIRECTORY_NAME:
            if info.size:
                self.problems.append(f"{key[:120]!r} has the name that marks empty directories")
            else:
                self._append(key, info, is_empty_directory=True)
        else:
            self._append(key, info)

    def finish(self) -> None:
        """Nothing more is coming."""
        if self._mark is not None:
            self._keep_mark(self._mark)

    def _keep_mark(self, mark: ObjectInfo) -> None:
        key = mark.key[len(self._prefix) :]
        if key:  # the prefix itself is shown anyway
            self._append(key + EMPTY_DIRECTORY_NAME, mark, is_empty_directory=True)

    def _append(self, key: str, info: ObjectInfo, *, is_empty_directory: bool = False) -> None:
        try:
            check_logical_key(key)
        except ManifestInvalid as exc:
            self.problems.append(exc.message.removeprefix("manifest: "))
            return
        if is_empty_directory:
            self.empty_directories.append(len(self.keys))
        self.keys.append(key)
        self.objects.append((PhysicalKey("s3", self._bucket, info.key, info.version), info.size))


def _split_url(text: str, rest: str) -> tuple[str, str]:
    """Path, decoded, and query of a URL as quilt3 writes it."""
    if "#" in rest:
        raise UsageError(f"{text!r} has a fragment", hint="Write # in a name as %23")
    path, _, query = rest.partition("?")
    return unquote(path), query
