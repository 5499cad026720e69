"""A directory as an ObjectStore: the embedded registry, ``file://`` registries, and files that ``file://`` keys name.

Safe for many threads and processes, on any file system with hard links.

An object is complete before it has a name: it is written to a file of its own in ``.fusepkg-store``, flushed to the
disk, and then linked under its name (which fails if the name is taken) or renamed over it. Nothing ever turns from a
file into a directory or back, so that the place of a key, once it has one, is always the same.
"""

from __future__ import annotations

import io
import os
import stat
import time
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, BinaryIO

from fusepkg.errors import (
    AccessDenied,
    BucketNotFound,
    CopyUnsupported,
    FileChanged,
    ObjectExists,
    ObjectMissing,
    RemoteError,
    RemoteProtocol,
    RemoteUnavailable,
)
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.store.directory.files import (
    copy_bytes,
    directories,
    flush_directory,
    keep_metadata,
    make_directory,
    metadata_of,
    walk,
)
from fusepkg.store.directory.names import OTHER_DIRECTORY, OTHER_FILE, OWN_NAME, names_of
from fusepkg.store.protocol import AT_MOST_BYTES, CHANGED_HINT, ObjectInfo, too_large
from fusepkg.store.threaded_reads import ThreadedReads
from fusepkg.work.private import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fusepkg.store.protocol import AsyncReads, Deliver

STALE_S = 24 * 3600.0
"""Age of an unfinished file that no living process writes any more."""


class DirectoryStore:
    """Objects below ``root``, which need not exist before the first is created.

    With ``verbatim`` keys are paths below ``root`` as they are, whoever wrote the files; nothing can be created, nor
    listed, for it may be the root of the whole machine. With ``private`` the root is made for this user alone.
    """

    def __init__(self, root: Path, *, verbatim: bool = False, private: bool = False) -> None:
        self.root = root
        self._private = private
        self._verbatim = verbatim
        self._base = os.fsencode(root).rstrip(b"/")
        self._own = self._base + b"/" + OWN_NAME
        self._swept = False

    # --- reading ---------------------------------------------------------------------------------------------

    def get(
        self,
        key: str,
        *,
        version: str | None = None,
        offset: int = 0,
        length: int | None = None,
        at_most: int = AT_MOST_BYTES,
    ) -> bytes:
        """See ObjectStore."""
        with self._translated(key), self._opened(key, version) as file:
            left = os.fstat(file).st_size - offset if length is None else length
            if length is None and left > at_most:
                raise too_large(self.url(key), at_most)
            pieces = []
            while left > 0 and (piece := os.pread(file, left, offset)):
                pieces.append(piece)
                offset, left = offset + len(piece), left - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def open_reads(self, deliver: Deliver) -> AsyncReads:
        """See ObjectStore."""
        return ThreadedReads(self.get, deliver)

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """See ObjectStore."""
        with self._translated(key), self._opened(key, version) as file, open(file, "rb", closefd=False) as reader:
            while piece := reader.read(piece_bytes):
                yield piece

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See ObjectStore."""
        with self._translated(key), self._opened(key, version) as file:
            try:
                metadata = metadata_of(self._own, file)
            except ValueError as exc:
                raise RemoteProtocol(f"{self.url(key)}: its metadata are not what was written") from exc
            found = os.fstat(file)
            return ObjectInfo(key, found.st_size, None, metadata, etag=_etag(found))

    def part_bytes(self, key: str, *, version: str | None = None) -> list[int] | None:
        """See ObjectStore."""
        with self._translated(key), self._opened(key, version):
            return None

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        if self._verbatim:
            raise RemoteError(f"{self.url(prefix)} cannot be listed: files are only read here")
        return islice(self._listed(prefix), limit)

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        return self.list(prefix)

    def list_directories(self, prefix: str) -> Iterator[str]:
        """See ObjectStore."""
        if self._verbatim:
            raise RemoteError(f"{self.url(prefix)} cannot be listed: files are only read here")
        with self._translated(prefix):
            self._check_root()
            for key in directories(self._base or b"/", b"", prefix.encode("utf-8", "surrogateescape")):
                with suppress(UnicodeDecodeError):  # as in _listed
                    yield key.decode()

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._translated(prefix):
            self._check_root()
            for key, size in walk(self._base or b"/", b"", prefix.encode("utf-8", "surrogateescape")):
                with suppress(UnicodeDecodeError):  # not a key: no object's file has such a name
                    yield ObjectInfo(key.decode(), size)

    @contextmanager
    def reader(self, key: str) -> Iterator[BinaryIO]:
        """An object's file, open for reading. Raises what ``get`` raises."""
        with self._translated(key), self._opened(key, None) as file, open(file, "rb", closefd=False) as reader:
            yield reader

    def open_file(self, key: str) -> int:
        """Return a descriptor of an object's file, which the caller closes. Raises ObjectMissing, OSError."""
        names = self._names(key)
        if names is None:
            raise ObjectMissing(f"{self.url(key)} is not there: no file has such a name")
        file = self._open(names)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise ObjectMissing(f"{self.url(key)} is not a file")
        return file

    @contextmanager
    def _opened(self, key: str, version: str | None) -> Iterator[int]:
        if version is not None:
            raise ObjectMissing(f"{self.url(key)} has no version {version!r}: a directory keeps none")
        names = self._names(key)
        if names is None:
            raise ObjectMissing(f"{self.url(key)} is not there: no file has such a name")
        try:
            file = self._open(names)
        except (FileNotFoundError, NotADirectoryError) as exc:
            self._check_root()
            raise ObjectMissing(f"{self.url(key)} is not there") from exc
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ObjectMissing(f"{self.url(key)} is not a file")
            yield file
        finally:
            os.close(file)

    def _open(self, names: Sequence[bytes]) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe must not wait for its writer
        plain = b"/".join([self._base, *names])
        try:
            file = os.open(plain, flags)
        except (FileNotFoundError, NotADirectoryError):
            if self._verbatim:
                raise
        else:
            if self._verbatim or not stat.S_ISDIR(os.fstat(file).st_mode):
                return file
            os.close(file)
        return os.open(self._place(names), flags)

    def _place(self, names: Sequence[bytes]) -> bytes:
        """Where a key's file lies, or would lie now, beside the files and directories there are."""
        place = self._base
        for name in names[:-1]:
            place += b"/" + name
            if os.path.lexists(place) and not os.path.isdir(place):
                place += OTHER_DIRECTORY
        place += b"/" + names[-1]
        return place + OTHER_FILE if os.path.isdir(place) else place

    # --- writing ---------------------------------------------------------------------------------------------

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore. Where ``source`` is a file that cannot be opened, the OSError passes."""
        with _reader(source) as reader:
            return self._create(key, reader, metadata or {})

    def copy(
        self,
        source: PhysicalKey,
        key: str,
        *,
        size: int,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """See ObjectStore. The files share their blocks where the file system can."""
        if source.scheme != "file":
            raise CopyUnsupported(f"{source} does not lie in a directory")
        with DirectoryStore(Path("/"), verbatim=True).reader(source.key.removeprefix("/")) as reader:
            found = os.fstat(reader.fileno())
            if found.st_size != size:
                raise FileChanged(f"{source} has {found.st_size} bytes instead of {size}", hint=CHANGED_HINT)
            if etag not in (None, _etag(found)):
                raise FileChanged(f"{source} changed", hint=CHANGED_HINT)
            return self._create(key, reader, metadata or {})

    def stays(self, found: ObjectInfo) -> bool:
        """See ObjectStore."""
        return True

    def _create(self, key: str, reader: BinaryIO, metadata: Mapping[str, str]) -> ObjectInfo:
        with self._translated(key), self._staged(key, reader, metadata) as (staged, size):
            place = self._prepare(key)
            try:
                try:
                    os.link(staged, place)
                except FileExistsError:
                    if not os.path.isdir(place):
                        raise
                    os.link(staged, place + OTHER_FILE)
            except FileExistsError as exc:
                raise ObjectExists(f"{self.url(key)} exists already") from exc
            flush_directory(os.path.dirname(place))
        return ObjectInfo(key, size, None, dict(metadata))

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """See ObjectStore. Where ``source`` is a file that cannot be opened, the OSError passes."""
        with (
            _reader(source) as reader,
            self._translated(key),
            self._staged(key, reader, metadata or {}) as (staged, size),
        ):
            place = self._prepare(key)
            try:
                os.rename(staged, place)
            except IsADirectoryError:
                os.rename(staged, place + OTHER_FILE)
            flush_directory(os.path.dirname(place))
        return ObjectInfo(key, size, None, dict(metadata or {}))

    @contextmanager
    def _staged(self, key: str, reader: BinaryIO, metadata: Mapping[str, str]) -> Iterator[tuple[bytes, int]]:
        """The object's bytes and metadata in a file without a name yet, safe on the disk; its path and size."""
        if self._verbatim or self._names(key) is None:
            reason = "files are only read here" if self._verbatim else "no file can have such a name"
            raise RemoteError(f"{self.url(key)} cannot be written: {reason}")
        staging = self._own + b"/unfinished"
        if self._private:
            make_private_directories(self.root)
        os.makedirs(staging, exist_ok=True)
        self._sweep(staging)
        staged = staging + b"/" + token_hex(16).encode()
        try:
            with open(staged, "xb") as file:
                copy_bytes(reader, file)
                keep_metadata(self._own, file.fileno(), metadata)
                file.flush()
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
            yield staged, size
        finally:
            with suppress(FileNotFoundError):  # renamed
                os.unlink(staged)

    def _prepare(self, key: str) -> bytes:
        """Make the directories above a key's file; the file's path."""
        names = self._names(key)
        assert names is not None
        place = self._base
        for name in names[:-1]:
            place += b"/" + name
            if not os.path.isdir(place):
                place = make_directory(place)
        return place + b"/" + names[-1]

    def _sweep(self, staging: bytes) -> None:
        """Remove what crashed processes left unfinished; once per store."""
        if self._swept:
            return
        self._swept = True
        for entry in os.scandir(staging):
            with suppress(FileNotFoundError):
                if entry.stat().st_mtime < time.time() - STALE_S:
                    os.unlink(entry.path)

    # --- names and errors ------------------------------------------------------------------------------------

    def sign_url(self, key: str, *, version: str | None = None, expires_s: int) -> str:
        """See ObjectStore."""
        return self.url(key, version)

    def url(self, key: str, version: str | None = None) -> str:
        """See ObjectStore. The path of the file as it is, so that other programs find it; there are no versions."""
        names = self._names(key)
        place = self._base + b"/" + key.encode("utf-8", "replace") if names is None else self._place(names)
        return str(PhysicalKey("file", "", place.decode("utf-8", "replace")))

    def _names(self, key: str) -> Sequence[bytes] | None:
        if not self._verbatim:
            return names_of(key)
        path = key.encode("utf-8", "surrogateescape")
        return None if b"\0" in path or b".." in path.split(b"/") else [path]

    def _check_root(self) -> None:
        if not os.path.isdir(self._base or b"/"):
            raise BucketNotFound(f"the directory {self.root} does not exist", hint="The first push creates it")

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Raise the file system's errors as ours."""
        try:
            yield
        except PermissionError as exc:
            raise AccessDenied(f"{self.url(key)}: {exc.strerror}", hint="Check who owns the directory") from exc
        except OSError as exc:
            raise RemoteUnavailable(f"{self.url(key)}: {exc.strerror or exc}", hint="Check the disk") from exc


def _etag(file: os.stat_result) -> str:
    return f"{file.st_ino}-{file.st_mtime_ns}-{file.st_size}"


def _reader(source: bytes | Path) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
