"""One version of a package, for Python programs: look, read, compare, bring it onto this machine.

A package is an open index: names and records are read from mapped memory as they are asked for, so that a package of a
million entries opens as quickly as one of ten.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, overload

from fusepkg.api import local
from fusepkg.api.contents import directory_range, summarise
from fusepkg.api.display import Text, show_package
from fusepkg.api.entry import PackageDirectory, PackageEntry
from fusepkg.api.listing import Listing
from fusepkg.api.names import find_readme, plain_key, reference_of
from fusepkg.api.results import Differences
from fusepkg.disk_image.write import write_disk_image
from fusepkg.errors import EntryNotFound, FsError, UsageError
from fusepkg.index.difference import compare_indexes
from fusepkg.model.reference import DEFAULT_TAG, Reference, parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.opened.version import OpenVersion, open_version
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    import io
    import os
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from fusepkg.api.builder import PackageBuilder
    from fusepkg.api.results import Changes, Verification
    from fusepkg.app.context import Context
    from fusepkg.app.settings import Flags
    from fusepkg.fetch.blocking_reader import BlockingReader
    from fusepkg.index.opening import Index
    from fusepkg.index.reader import Inode
    from fusepkg.query.result import QueryResult
    from fusepkg.transforms.work import FailedEntries
    from fusepkg.work.progress import ProgressCallback

_SETTERS = frozenset(
    {
        "add", "set", "set_meta", "set_dir", "move_dir_contents", "delete", "sample", "build_manifest", "push",
        "push_data", "push_manifest", "push_data_and_manifest", "as_package",
    }
)  # fmt: skip
"""What a ``PackageBuilder`` has and a package, which never changes, does not."""


class Package:
    """An immutable version of a package: ``Package("bucket/dataset:tag")``, or with ``tag=`` or ``hash=``.

    Raises: InvalidReference, PackageError, RemoteError, IntegrityError, CacheFailure.
    """

    __slots__ = ("_directory_meta", "_version")

    def __init__(
        self,
        name: str,
        tag: str | None = None,
        hash: str | None = None,  # noqa: A002 - the name users know
    ) -> None:
        self._version = open_version(current_context(), reference_of(name, tag, hash))
        self._directory_meta: dict[str, dict[str, Any]] | None = None

    @classmethod
    def of_version(cls, version: OpenVersion) -> Self:
        """The package of a version that is open already."""
        package = cls.__new__(cls)
        package._version = version  # noqa: SLF001 - it is one of ours
        package._directory_meta = None  # noqa: SLF001 - as above
        return package

    def __getattr__(self, name: str) -> NoReturn:
        if name in _SETTERS:
            raise AttributeError(
                f"Package has no method {name}(). A package never changes: make the next version of it with "
                "as_package_builder()"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # --- what it is ------------------------------------------------------------------------------------------

    @property
    def hash(self) -> str:
        """The top hash: the same for the same names, contents and metadata, wherever they lie."""
        return self._version.index.top_hash

    @property
    def name(self) -> str:
        """``bucket/name``, with the tag it was opened by if it was."""
        return f"{self._version.reference.package}:{self.tag}" if self.tag else self._version.reference.package

    @property
    def tag(self) -> str | None:
        """The tag it was opened by; None where a hash named it."""
        return self._version.tag

    @property
    def reference(self) -> Reference:
        """Bucket and name, and the hash of this version."""
        return replace(self._version.reference, tag=self.tag or DEFAULT_TAG, top_hash=self.hash)

    @property
    def manifest(self) -> str:
        """Where the manifest lies; ``local`` where it has not been pushed."""
        return self._version.manifest

    @property
    def meta(self) -> dict[str, Any]:
        """The package's metadata. A copy."""
        meta = self.index.entries.package_header().get("user_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def metadata(self) -> dict[str, Any]:
        """Another name of ``meta``."""
        return self.meta

    @property
    def message(self) -> str:
        """What its publisher said of this version."""
        return str(self.index.header.get("message") or "")

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return self.index.total_bytes

    @property
    def index(self) -> Index:
        """The open index, for what reads many entries at once."""
        return self._version.index

    @property
    def context(self) -> Context:
        """The settings and clients it was opened with."""
        return self._version.context

    @property
    def reader(self) -> BlockingReader:
        """Reads the bytes of its entries, also many at a time."""
        return self.context.blocking_reader(self.reference.bucket)

    def __repr__(self) -> str:
        fields = [("name", self.name), ("tophash", self.hash), ("manifest", self.manifest)]
        return show_package(type(self).__name__, fields, summarise(self.index.entries))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Package):
            return NotImplemented
        return (self.reference.package, self.hash) == (other.reference.package, other.hash)

    def __hash__(self) -> int:
        return hash((self.reference.package, self.hash))

    def __reduce__(self) -> tuple[Callable[..., Package], tuple[Any, ...]]:
        return _reopened, (self.context.settings.flags, self.reference.package, self.tag, self.hash)

    # --- what it holds ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.index.entries)

    def __iter__(self) -> Iterator[PackageEntry]:
        """All entries, in the order of a sorted walk through the directories."""
        return self._numbered(range(len(self)))

    def __contains__(self, logical_key: object) -> bool:
        """Return whether there is a file, or a directory (with or without its slash), of that name."""
        return isinstance(logical_key, str) and self._found(logical_key) is not None

    def __getitem__(self, logical_key: str) -> PackageEntry:
        """An entry. Raises EntryNotFound."""
        return self.get_entry(logical_key)

    def get_entry(self, logical_key: str) -> PackageEntry:
        """An entry by its logical key. Raises EntryNotFound, also for a directory."""
        inode = self._inode(logical_key)
        if inode.entry_number is None:
            raise EntryNotFound(
                f"{logical_key!r} is a directory of {self.name}", hint=f"ls({logical_key!r}) lists what it holds"
            )
        return self._entry(inode.entry_number)

    def ls(self, path: str = "") -> Listing[PackageEntry | PackageDirectory]:
        """What a directory holds; a file is its own listing. Raises EntryNotFound."""
        inode, prefix = self._inode(path), plain_key(path)
        if inode.entry_number is not None:
            entry = self._entry(inode.entry_number)
            return Listing(lambda: iter([entry]))
        return Listing(lambda: self._children(inode.nid, f"{prefix}/" if prefix else ""))

    @overload
    def filter(self, keep: Callable[[PackageEntry], bool]) -> Listing[PackageEntry]: ...
    @overload
    def filter(self, *, where: str, layout: str = "", timeout: float | None = None) -> Package: ...
    def filter(
        self,
        keep: Callable[[PackageEntry], bool] | None = None,
        *,
        where: str = "",
        layout: str = "",
        timeout: float | None = None,
    ) -> Listing[PackageEntry] | Package:
        """The entries that ``keep`` says yes to, or a package of those for which ``where`` is true.

        ``where`` is an expression of SQL over the columns that ``query`` knows, ``layout`` one that gives new names:
        ``filter(where="meta->>'label' = 'cat'", layout="'cats/' || name")``. Such a package is a view: it can be read,
        mounted, downloaded, and published by ``as_package_builder()``; its hash is known to this machine only.

        Raises UsageError; with ``where`` as ``query``, and QueryInvalid where nothing is picked or names clash.
        """
        if keep is not None and not where and not layout:
            chosen = keep
            return Listing(lambda: (entry for entry in self if chosen(entry)))
        if keep is not None or not where:
            raise UsageError("filter() takes a function, or where= and perhaps layout=", hint='where="true" is all')
        from fusepkg.query.view import open_view  # here, as in query

        return Package.of_version(open_view(self._version, where, layout, timeout))

    def query(self, sql: str, *, timeout: float | None = None) -> QueryResult:
        """Run one SELECT over ``entries`` and the tables in the package: Parquet, CSV and JSON Lines files, by name.

        ``entries`` has one row an entry: logical_key, name, directory, size, hash, physical_key, kind, meta (JSON).
        ``timeout`` is in seconds, 300 unless given. Needs ``fusepkg[query]``.

        Raises MissingExtra, QueryInvalid, QueryStopped, RemoteError, IntegrityError, CacheFailure.
        """
        from fusepkg.query.run import run_query  # here, because it needs libraries that only some users have

        return run_query(self._version, sql, timeout)

    def get_metadata(self, path: str = "") -> dict[str, Any]:
        """The metadata of an entry or a directory, of the package for ``""``. Raises EntryNotFound."""
        key = plain_key(path)
        if not key:
            return self.meta
        inode = self._inode(key)
        if inode.entry_number is not None:
            return self._entry(inode.entry_number).meta
        if self._directory_meta is None:
            self._directory_meta = self.index.entries.directory_meta()
        return dict(self._directory_meta.get(f"{key}/", {}))

    def get_meta(self, path: str = "") -> dict[str, Any]:
        """Another name of ``get_metadata``."""
        return self.get_metadata(path)

    # --- reading ---------------------------------------------------------------------------------------------

    def get(self, logical_key: str) -> bytes:
        """All bytes of an entry, verified. Raises EntryNotFound, RemoteError, IntegrityError."""
        return self.get_entry(logical_key).get_bytes()

    def get_contents(self, logical_key: str) -> bytes:
        """Another name of ``get``."""
        return self.get(logical_key)

    def open(self, logical_key: str) -> io.BufferedReader:
        """An entry as a seekable binary file. Raises EntryNotFound."""
        return self.get_entry(logical_key).open()

    def readme(self) -> Text:
        """The README of the package; empty where there is none. Raises RemoteError, IntegrityError."""
        name = find_readme(str(found) for found in self.ls() if found.is_file())
        return Text("" if name is None else self.get(name).decode(errors="replace"))

    # --- comparing, and what comes next ----------------------------------------------------------------------

    def diff(self, other: Package) -> Differences:
        """What is not the same in ``other``: ``added`` is what that has and this has not."""
        return Differences(tuple(compare_indexes(self.index, other.index)))

    def as_package_builder(self) -> PackageBuilder:
        """The next version in the making: everything of this one, to be added to and changed."""
        from fusepkg.api.builder import PackageBuilder  # here, because it stands on this module

        return PackageBuilder.from_package(self)

    def map(
        self,
        function: Callable[[Any], object],
        *,
        out: str,
        executor: object = "threads",
        jobs: int | None = None,
        names: str = "",
        by: int = 1,
        version: str | None = None,
        message: str | None = None,
        meta: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Mapped:
        """Make a new package of this one, entry by entry, and publish it as ``out``. A repeat does what is missing.

        ``function`` gets a ``PackageEntry``, or with ``by=N`` a list of N. It gives bytes or a path (the entry keeps
        its name and metadata), a dictionary of them by logical key, each alone or as ``(data, meta)``, or None.

        ``executor`` is "threads", "processes", "dask", "ray", "spark", one that was installed, an Executor of
        ``concurrent.futures``, a Client of Dask or a session of Spark, with ``jobs`` workers. ``names`` picks entries
        as .gitignore does. ``version`` stands for the function's code, by default its source.

        Raises UsageError, PublishError, KeyCollision, TagConflict, MissingExtra, RemoteError.
        """
        from fusepkg.transforms.transform import Plan, transform  # here, as in query

        made = transform(self, function, Plan(out, executor, jobs, names, by, version, message, meta, prefix), progress)
        version_made = open_version(
            self.context, replace(made.reference, top_hash=made.top_hash), tag=made.tag, is_input=False
        )
        return Mapped(Package.of_version(version_made), made.done, made.reused, made.failures)

    def entry_at(self, number: int) -> PackageEntry:
        """The entry of a number, which is its place in the manifest."""
        return self._entry(number)

    # --- on this machine -------------------------------------------------------------------------------------

    def download(
        self,
        directory: str | os.PathLike[str],
        *,
        outside_links: bool = False,
        times: str = "content",
        progress: ProgressCallback = no_progress,
    ) -> None:
        """Make a directory hold this package, fetching only what is missing or out of date.

        What you have changed there stays, with a warning, and so do files that are not in the package:
        ``verify_directory_matches_manifest`` names them. Symbolic links that lead out of the package can only be
        followed if ``outside_links`` is True. Files that are written get the time of their content, with ``times``
        ``fixed`` 1980-01-01, with ``now`` the time of the call.

        Raises UsageError, InstallError, RemoteError, IntegrityError.
        """
        local.download(self._version, self.name, directory, progress, outside_links=outside_links, times=times)

    def install(
        self, directory: str | os.PathLike[str], *, lazy: bool = False, progress: ProgressCallback = no_progress
    ) -> None:
        """The same; with ``lazy`` a mount, which is there at once, fetches what is read, and stays until unmounted.

        Raises also MountError.
        """
        if lazy:
            local.start(self._version, Path(directory), "auto")
        else:
            self.download(directory, progress=progress)

    def write_disk_image(self, file: str | os.PathLike[str], *, progress: ProgressCallback = no_progress) -> int:
        """Write all of the package as one file that Linux mounts by itself (EROFS); return its size in bytes.

        Equal versions give equal files. Raises UsageError if the file is there, SystemFailure, RemoteError,
        IntegrityError.
        """
        return write_disk_image(self.index, self.reader, Path(file), progress=progress)

    def verify_directory_matches_manifest(
        self, directory: str | os.PathLike[str], *, progress: ProgressCallback = no_progress
    ) -> Verification:
        """Return whether a directory holds this package and nothing else; every byte is read.

        The answer is true or false, and prints the differences. Raises FolderUnfit where there is no directory.
        """
        return local.verify(self._version, self.name, directory, progress)

    def force_directory_to_match_manifest(
        self,
        directory: str | os.PathLike[str],
        *,
        any_directory: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback = no_progress,
    ) -> Changes:
        """Remove from a directory what is not in this package, and replace what is not as it is there.

        Return what was done; with ``dry_run`` what would be. Only a directory that was empty before the first download
        may lose files, unless ``any_directory`` is True.

        Raises InstallError, RemoteError, IntegrityError.
        """
        return local.force(self._version, self.name, directory, progress, any_directory=any_directory, dry_run=dry_run)

    def cache(self, path: str = "", *, progress: ProgressCallback = no_progress) -> None:
        """Fetch a file, a directory or everything into the cache, where it stays until there is no more room.

        Raises EntryNotFound, RemoteError, IntegrityError, CacheFailure.
        """
        local.cache_entries(self._version, self._numbers(path), progress)

    def clear_cache(self, path: str = "") -> None:
        """Drop a file, a directory or everything from the cache. Raises EntryNotFound, CacheFailure."""
        local.clear_cache(self._version, self._numbers(path))

    @contextmanager
    def mount(self, directory: str | os.PathLike[str] | None = None, *, engine: str = "auto") -> Iterator[Path]:
        """The package as a read-only directory while the block runs: a new one unless you name it.

        It ends with this process, however that ends: also by SIGTERM or SIGKILL.

        Raises MountError.
        """
        with local.mounted(self._version, None if directory is None else Path(directory), engine) as mountpoint:
            yield mountpoint

    # --- inside ----------------------------------------------------------------------------------------------

    def _entry(self, number: int) -> PackageEntry:
        return PackageEntry(self, number, self.index.entries.logical_key(number))

    def _numbered(self, numbers: range) -> Iterator[PackageEntry]:
        entries = self.index.entries
        for number in numbers:
            yield PackageEntry(self, number, entries.logical_key(number))

    def _numbers(self, path: str) -> range:
        """The numbers of the entries that a path names. Raises EntryNotFound."""
        key = plain_key(path)
        if not key:
            return range(len(self))
        number = self._inode(key).entry_number
        return directory_range(self.index.entries, f"{key}/") if number is None else range(number, number + 1)

    def _children(self, nid: int, prefix: str) -> Iterator[PackageEntry | PackageDirectory]:
        for name, child, _ in self._version.tree.readdir(nid, 0):
            key = prefix + name.decode()
            number = self._version.tree.inode(child).entry_number
            yield PackageDirectory(self, f"{key}/") if number is None else PackageEntry(self, number, key)

    def _found(self, path: str) -> Inode | None:
        try:
            return self._version.tree.resolve(plain_key(path))
        except FsError:
            return None

    def _inode(self, path: str) -> Inode:
        inode = self._found(path)
        if inode is None:
            raise EntryNotFound(f"{self.name} has no {path!r}", hint="ls() lists its top level")
        return inode


@dataclass(frozen=True, slots=True)
class Mapped:
    """What ``map`` made: ``done`` calls of the function, ``reused`` ones of earlier runs, and the ``failures``.

    Entries that failed are not in the package; the same call again tries them again.
    """

    package: Package
    done: int
    reused: int
    failures: tuple[FailedEntries, ...]


def _reopened(flags: Flags, name: str, tag: str | None, top_hash: str) -> Package:
    """What unpickling makes: the same version, opened where it is unpickled."""
    reference = replace(parse_reference(name), top_hash=top_hash)
    return Package.of_version(open_version(current_context(flags), reference, tag=tag))
