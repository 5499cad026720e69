"""What a user adds to a version: a file, a folder, an object, or all objects below a prefix.

Owns: reading the text that names it, finding what it holds, and how it is shown. Must not know: the version it gets
into, hashing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from fusepkg.errors import FolderUnfit, ManifestInvalid, ObjectMissing, UsageError
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.publish.folder import scan_file, scan_folder
from fusepkg.publish.origins import LocalFiles, RemoteObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fusepkg.publish.origins import Origin
    from fusepkg.store.opening import StoreSet

_FORMS = "Name a file, a folder, s3://bucket/key, or s3://bucket/prefix/"

_NAMED_PROBLEMS = 10
"""Objects with unfit names that a message lists before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that was found. ``keys`` are the logical keys of its entries, in the order of their numbers.

    For a folder they are relative to wherever it is put; for a file there is one, its name. ``default_key`` is where it
    goes if nobody says; ``shown`` ends with a slash for a folder.
    """

    origin: Origin
    keys: Sequence[str]
    shown: str
    default_key: str
    is_folder: bool
    is_local: bool


def find_source(
    text: str,
    stores: StoreSet,
    *,
    follow_symlinks: bool = False,
    leave_out: Callable[[str, bool], bool] | None = None,
) -> Source:
    """Find what a user named. ``leave_out`` says which names of a folder are not wanted (``scan_folder``).

    Raises UsageError, FolderUnfit, ObjectMissing, and what stores raise.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _find_local(text, text, follow_symlinks, leave_out)
    if scheme == "file":
        path, query = _split_url(text, rest.removeprefix("localhost"))
        if query or not path.startswith("/"):
            raise UsageError(f"{text!r} does not name an absolute path", hint=_FORMS)
        return _find_local(path, path, follow_symlinks, leave_out)
    if scheme != "s3":
        raise UsageError(f"{text!r} has the unknown scheme {scheme!r}", hint=_FORMS)
    return _find_remote(text, rest, stores)


# --- this machine --------------------------------------------------------------------------------------------


def _find_local(text: str, path: str, follow_symlinks: bool, leave_out: Callable[[str, bool], bool] | None) -> Source:
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
        origin = LocalFiles(os.fsencode(absolute.parent), [file])
        return Source(origin, (file.logical_key,), shown, _default_key(path), is_folder=False, is_local=True)
    files = scan_folder(absolute, follow_symlinks, leave_out).files
    origin = LocalFiles(os.fsencode(absolute), list(files))
    key = _default_key(path)
    return Source(
        origin,
        [file.logical_key for file in files],
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


# --- buckets -------------------------------------------------------------------------------------------------


def _find_remote(text: str, rest: str, stores: StoreSet) -> Source:
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


def _find_object(place: PhysicalKey, shown: str, stores: StoreSet) -> Source:
    store, key = stores.for_key(place)
    try:
        info = store.head(key, version=place.version)
    except ObjectMissing as exc:
        raise ObjectMissing(
            f"{shown} is not there", hint=f"To add all that lies below it, write {shown}/ with a slash"
        ) from exc
    place = PhysicalKey("s3", place.bucket, key, info.version)
    name = key.rpartition("/")[2]
    return Source(RemoteObjects([(place, info.size)]), (name,), shown, name, is_folder=False, is_local=False)


def _find_objects(bucket: str, prefix: str, shown: str, stores: StoreSet) -> Source:
    store, _ = stores.for_key(PhysicalKey("s3", bucket, prefix))
    keys, objects, problems = [], [], []
    for info in store.list_versions(prefix):
        if info.key.endswith("/"):  # what consoles make to show an empty folder
            continue
        key = info.key[len(prefix) :]
        try:
            check_logical_key(key)
        except ManifestInvalid as exc:
            problems.append(exc.message.removeprefix("manifest: "))
            continue
        keys.append(key)
        objects.append((PhysicalKey("s3", bucket, info.key, info.version), info.size))
    if problems:
        more = len(problems) - _NAMED_PROBLEMS
        named = "; ".join(problems[:_NAMED_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
        raise FolderUnfit(f"{shown} cannot be part of a package: {named}", hint="Add the others one by one")
    if not keys:
        raise FolderUnfit(f"No object lies below {shown}", hint="Check the prefix")
    name = prefix.rstrip("/").rpartition("/")[2]
    return Source(RemoteObjects(objects), keys, shown, f"{name}/" if name else "", is_folder=True, is_local=False)


def _split_url(text: str, rest: str) -> tuple[str, str]:
    """Path, decoded, and query of a URL as quilt3 writes it."""
    if "#" in rest:
        raise UsageError(f"{text!r} has a fragment", hint="Write # in a name as %23")
    path, _, query = rest.partition("?")
    return unquote(path), query
