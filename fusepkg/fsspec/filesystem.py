"""The file system that fsspec registers for ``fusepkg://``: read-only, seekable, verified.

It is not one of asyncio: those may not be used after a fork, which data loaders do. Its batches (``cat``,
``cat_ranges``) are fetched side by side, and fsspec wraps it where a library wants asyncio.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from fusepkg.engines.errnos import errno_of
from fusepkg.errors import (
    FusepkgError,
    InvalidReference,
    ManifestInvalid,
    MissingExtra,
    NoEntry,
    PackageError,
    ReadOnly,
    UnsupportedFormat,
    UsageError,
)
from fusepkg.fsspec.files import children, describe, entry_of, find
from fusepkg.fsspec.paths import PROTOCOL, join_path, split_path
from fusepkg.fsspec.versions import forget_versions, opened_version, remember_version
from fusepkg.opened.contexts import current_flags, flags_of
from fusepkg.opened.file import BUFFER_BYTES, BufferedEntry

try:
    from fsspec.spec import AbstractFileSystem
except ImportError as exc:
    raise MissingExtra("fusepkg:// needs the package fsspec", hint='pip install "fusepkg[fsspec]"') from exc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fusepkg.app.settings import Flags
    from fusepkg.model.entry import Entry
    from fusepkg.opened.version import OpenVersion


class PackageFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """``fusepkg://bucket/name:tag/path``. Options are those of ``configure``, which count where none are given.

    A tag is looked up once in a process; ``invalidate_cache`` makes it be looked up again. Errors are OSErrors, with
    the error of fusepkg as their cause.
    """

    protocol = PROTOCOL
    root_marker = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.failed_reads: deque[FusepkgError] = deque(maxlen=1)
        """The last one, for libraries that make a text of what a file raises."""
        own = {name: value for name, value in options.items() if name not in _OPTIONS_OF_FSSPEC}
        try:
            self._flags: Flags | None = flags_of(**own) if own else None
        except TypeError as exc:
            raise UsageError(
                f"{sorted(own)} are not all options of {PROTOCOL}://", hint="Give those of fusepkg.configure()"
            ) from exc

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the settings of ``configure``, which another process does not have."""
        return _reopened, (asdict(self._flags or current_flags()),)

    @property
    def fsid(self) -> str:
        """One registry of names: the same path is the same file everywhere."""
        return PROTOCOL

    # --- names -----------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size in bytes, type, hash and time of content of a file or directory. Raises OSError."""
        with _os_errors(path):
            version, reference, inner = self._located(path)
            return describe(version, find(version.tree, inner), join_path(reference, inner))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what a directory holds, with infos unless ``detail`` is False; a file is its own listing."""
        with _os_errors(path):
            version, reference, inner = self._located(path)
            inode, name = find(version.tree, inner), join_path(reference, inner)
            if inode.is_directory:
                found = list(children(version, inner, name))
            else:
                found = [describe(version, inode, name)]
        return found if detail else [info["name"] for info in found]

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is such a file or directory. Raises OSError where that cannot be told."""
        try:
            self.info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def modified(self, path: str) -> datetime:
        """Return the time of the content, in UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    created = modified

    def ukey(self, path: str) -> str:
        """Return what changes with the content: the hash of a file."""
        info = self.info(path)
        return str(info.get("hash") or info["name"])

    def checksum(self, path: str) -> int:
        """Return the hash of a file as a number."""
        return int(self.ukey(path).rpartition(":")[2], 16)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look tags up again."""
        forget_versions()
        super().invalidate_cache(path)

    # --- bytes -----------------------------------------------------------------------------------------------

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return the bytes of a file, or of a slice of it."""
        (found,) = self._read([path], [start], [end])
        return _bytes_or_error(path, found)

    def cat_ranges(
        self,
        paths: list[str],
        starts: list[int] | int | None,
        ends: list[int] | int | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Return the bytes of many slices, fetched side by side; an error in the place of bytes, or raised."""
        found = self._read(paths, _each(starts, len(paths)), _each(ends, len(paths)))
        if on_error == "return":
            pairs = zip(paths, found, strict=True)
            return [_as_read_error(path, one) if isinstance(one, FusepkgError) else one for path, one in pairs]
        return [_bytes_or_error(path, one) for path, one in zip(paths, found, strict=True)]

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        """Return the bytes of a file, or of many by path, fetched side by side."""
        paths = self.expand_path(path, recursive=recursive)
        if recursive:
            paths = [one for one in paths if self.isfile(one)]
        if len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0], **kwargs)
        each = kwargs.get("start"), kwargs.get("end")
        found = self._read(paths, _each(each[0], len(paths)), _each(each[1], len(paths)))
        contents: dict[str, Any] = {}
        for name, one in zip(paths, found, strict=True):
            if not isinstance(one, FusepkgError):
                contents[name] = one
            elif on_error == "raise":
                raise _as_read_error(name, one) from one
            elif on_error == "return":
                contents[name] = _as_read_error(name, one)
        return contents

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **__: Any) -> PackageFile:
        if mode != "rb":
            self._refuse(path)
        with _os_errors(path):
            version, _, inner = self._located(path)
            return PackageFile(self, path, version, entry_of(version, inner), block_size)

    def _located(self, path: str) -> tuple[OpenVersion, str, str]:
        reference, inner = split_path(self._strip_protocol(path))
        return opened_version(reference, self._flags), reference, inner

    def _read(
        self, paths: Sequence[str], starts: Sequence[int | None], ends: Sequence[int | None]
    ) -> list[bytes | FusepkgError]:
        """Read slices of files, those of one registry in one batch."""
        found: list[bytes | FusepkgError] = [b""] * len(paths)
        batches: dict[Any, list[tuple[int, tuple[Entry, int, int]]]] = {}
        for number, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
            try:
                version, _, inner = self._located(path)
                entry = entry_of(version, inner)
            except FusepkgError as exc:
                found[number] = exc
                continue
            first, stop, _ = slice(start, end).indices(entry.size)
            reader = version.context.blocking_reader(version.reference.bucket)
            batches.setdefault(reader, []).append((number, (entry, first, max(0, stop - first))))
        for reader, wanted in batches.items():
            for (number, _), data in zip(wanted, reader.read_many([one for _, one in wanted]), strict=True):
                found[number] = data
        return found

    # --- what a package does not do --------------------------------------------------------------------------

    def _refuse(self, path: Any, *_: Any, **__: Any) -> NoReturn:
        raise _as_os_error(str(path), ReadOnly("a version of a package never changes; publish the next one"))

    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = mv = pipe_file = put_file = touch = _refuse


class PackageFile(BufferedEntry):
    """A file of a package: seekable, read in blocks, each of which is verified. Pickles by its path and position."""

    def __init__(
        self, fs: PackageFileSystem, path: str, version: OpenVersion, entry: Entry, block_size: int | None
    ) -> None:
        reader = version.context.blocking_reader(version.reference.bucket)

        def read_at(offset: int, length: int) -> bytes:
            try:
                return reader.read(entry, offset, length)
            except FusepkgError as exc:
                fs.failed_reads.append(exc)
                raise _as_read_error(path, exc) from exc

        super().__init__(path, entry.size, read_at, block_size or BUFFER_BYTES)
        self.fs: PackageFileSystem = fs
        self.path: str = path
        self.size: int = entry.size

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened_file, (self.fs, self.path, self.tell())


_OPTIONS_OF_FSSPEC = frozenset(
    {"asynchronous", "loop", "skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths"}
)


def file_system_for(version: OpenVersion) -> tuple[PackageFileSystem, str]:
    """Return a file system of its own that knows an open version, and the path of that in it."""
    return _reopened(
        asdict(version.context.settings.flags), skip_instance_cache=True
    ), f"{PROTOCOL}://{remember_version(version)}"


def _reopened(flags: dict[str, Any], **options: bool) -> PackageFileSystem:
    """What unpickling makes."""
    return PackageFileSystem(**options, **{name: value for name, value in flags.items() if value and name != "debug"})


def _reopened_file(fs: PackageFileSystem, path: str, position: int) -> PackageFile:
    file: PackageFile = fs.open(path)
    file.seek(position)
    return file


def _each(value: Any, count: int) -> Sequence[int | None]:
    return value if isinstance(value, list) else [value] * count


def _bytes_or_error(path: str, found: bytes | FusepkgError) -> bytes:
    if isinstance(found, FusepkgError):
        raise _as_read_error(path, found) from found
    return found


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except FusepkgError as exc:
        raise _as_os_error(path, exc) from exc


def _as_read_error(path: str, error: FusepkgError) -> OSError:
    """Return the OSError for bytes that cannot be had: FileNotFoundError only where the version has no such file.

    A package or tag that is not there is another error: Zarr takes a chunk that is "not found" for one full of zeros.
    """
    return OSError(errno_of(error)[0], str(error), path)


def _as_os_error(path: str, error: FusepkgError) -> OSError:
    """Return the OSError, by its errno FileNotFoundError and the like, that programs expect of a file system."""
    is_absent = isinstance(error, PackageError | InvalidReference) and not isinstance(
        error, ManifestInvalid | UnsupportedFormat
    )
    return OSError(errno_of(NoEntry("") if is_absent else error)[0], str(error), path)
