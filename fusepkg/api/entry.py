"""One entry, or one directory, of a package as a Python program sees it.

Neither holds more than its place in the package: a list of a million entries is a list of a million small objects.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Literal, overload

from fusepkg.errors import UsageError
from fusepkg.model.entry import EntryKind
from fusepkg.opened.file import BufferedEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.api.package import Package
    from fusepkg.model.entry import Entry

_NOTHING = object()


class PackageEntry:
    """A file of a package. Made by ``Package``; ``number`` is its place in the manifest."""

    __slots__ = ("_json", "_number", "_package", "logical_key")

    def __init__(self, package: Package, number: int, logical_key: str) -> None:
        self._package = package
        self._number = number
        self._json: Any = _NOTHING
        self.logical_key = logical_key
        """Its name in the package, such as ``train/1.jpg``."""

    def __repr__(self) -> str:
        return f"PackageEntry({self.logical_key!r})"

    def __str__(self) -> str:
        return self.logical_key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackageEntry):
            return NotImplemented
        return self.logical_key == other.logical_key and self._package == other._package

    def __hash__(self) -> int:
        return hash((self.logical_key, self._package))

    def __reduce__(self) -> tuple[Any, ...]:
        return PackageEntry, (self._package, self._number, self.logical_key)

    @property
    def record(self) -> Entry:
        """The manifest's record as a value."""
        return self._package.index.entries.entry(self._number)

    @property
    def physical_keys(self) -> list[str]:
        """Where the object lies, as the manifest writes it; always one."""
        return [str(self.record.physical_key)]

    @property
    def physical_key(self) -> str:
        """The same without the list."""
        return self.physical_keys[0]

    @property
    def size(self) -> int:
        """In bytes."""
        return self.record.size

    @property
    def hash(self) -> str:
        """Algorithm and value, such as ``sha2-256-chunked:<hex>``."""
        return str(self.record.digest)

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata its publisher gave it. A copy: a package does not change."""
        meta = self.record.meta.get("user_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def metadata(self) -> dict[str, Any]:
        """Another name of ``meta``."""
        return self.meta

    def is_file(self) -> bool:
        """Whether it is a file: not a symbolic link, whose bytes are its target, nor the mark of an empty directory."""
        return self.record.kind in (EntryKind.FILE, EntryKind.EXECUTABLE)

    def is_dir(self) -> bool:
        """False: directories are ``PackageDirectory``."""
        return False

    def get_bytes(self) -> bytes:
        """All bytes, from the cache or the bucket, verified. Raises RemoteError, IntegrityError."""
        return self._package.reader.read(self.record)

    @overload
    def open(self, mode: Literal["rb", "br"] = ...) -> io.BufferedReader: ...
    @overload
    def open(
        self,
        mode: Literal["r", "rt", "tr"],
        *,
        encoding: str | None = ...,
        errors: str | None = ...,
        newline: str | None = ...,
    ) -> io.TextIOWrapper: ...
    def open(
        self, mode: str = "rb", *, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> io.BufferedReader | io.TextIOWrapper:
        """Open the entry as a seekable file; only what is read is fetched. Raises UsageError, and as reading does.

        ``mode`` is as in Python's ``open``: "rb", or "r" for text, which is UTF-8 unless ``encoding`` says otherwise.
        """
        if mode not in ("rb", "br", "r", "rt", "tr"):
            raise UsageError(f"{self.logical_key} cannot be opened with mode {mode!r}: a package is only read")
        record, reader = self.record, self._package.reader
        buffered = BufferedEntry(
            self.logical_key, record.size, lambda offset, length: reader.read(record, offset, length)
        )
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding=encoding or "utf-8", errors=errors, newline=newline)

    def json(self) -> Any:  # noqa: ANN401 - JSON is anything
        """The file's contents, read as JSON once. Raises UsageError where they are something else."""
        if self._json is _NOTHING:
            try:
                self._json = json.loads(self.get_bytes())
            except ValueError as exc:
                raise UsageError(
                    f"{self.logical_key} is not JSON, so it has no items: {exc}", hint="get_bytes() gives its bytes"
                ) from exc
        return self._json

    def __getitem__(self, key: str | int) -> Any:  # noqa: ANN401 - as above
        """An item of a JSON file: ``entry["images"]``."""
        return self.json()[key]

    def __iter__(self) -> Iterator[Any]:
        """What iterating over a JSON file's contents gives."""
        return iter(self.json())

    def cache(self) -> None:
        """Fetch it into the cache, so that reading it waits for no network."""
        self._package.cache(self.logical_key)


class PackageDirectory:
    """A directory of a package; ``logical_key`` ends with a slash."""

    __slots__ = ("_package", "logical_key")

    def __init__(self, package: Package, logical_key: str) -> None:
        self._package = package
        self.logical_key = logical_key

    def __repr__(self) -> str:
        return f"PackageDirectory({self.logical_key!r})"

    def __str__(self) -> str:
        return self.logical_key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackageDirectory):
            return NotImplemented
        return self.logical_key == other.logical_key and self._package == other._package

    def __hash__(self) -> int:
        return hash((self.logical_key, self._package))

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata its publisher gave it; {} where there is none."""
        return self._package.get_metadata(self.logical_key)

    @property
    def metadata(self) -> dict[str, Any]:
        """Another name of ``meta``."""
        return self.meta

    def is_file(self) -> bool:
        """False."""
        return False

    def is_dir(self) -> bool:
        """True."""
        return True

    def ls(self) -> object:
        """What it holds."""
        return self._package.ls(self.logical_key)
