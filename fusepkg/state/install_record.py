"""The record of an installed directory: one small database, kept outside it.

A file is known to be as it was written by its inode, size and times, where ``state.file_identity`` lets these be
believed; elsewhere it is hashed. The record may be lost: files are then hashed to tell whose they are. SQLite keeps it
whole when the process is killed; a power cut may damage it, and then it is lost.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.errors import InstallError
from fusepkg.model.entry import EntryKind
from fusepkg.state.file_identity import CLOCK_TICK_NS, is_lasting_name, name_filesystem
from fusepkg.work.private import make_private_directories
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "installed"
"""Name below the data directory."""

_VERSION = 3
"""Of the tables; a database of another version is removed, as if it had been lost."""

_TABLES = """
    CREATE TABLE install (
        directory TEXT NOT NULL, filesystem TEXT NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
        reference TEXT NOT NULL, top_hash TEXT NOT NULL, is_complete INTEGER NOT NULL, time REAL NOT NULL,
        began_empty INTEGER NOT NULL
    );
    CREATE TABLE files (
        place BLOB PRIMARY KEY, kind INTEGER NOT NULL, digest BLOB NOT NULL,
        inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
"""

_EXPECTED = {" ".join(table.split()) for table in _TABLES.split(";") if table.strip()}
"""What SQLite keeps of the tables, but for spaces."""

_DAMAGE = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged database raises; the second where it is damaged in its own error's text."""

_ROWS_PER_COMMIT = 1_000
"""Files forgotten at worst when the process is killed: they are hashed the next time."""

_BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Installed:
    """A package that was written into a directory. ``is_complete`` is False after a download that did not end.

    ``is_certain`` is False where the directory may be another one with the same device number and inode: then only its
    bytes can tell what it holds. ``began_empty`` is False where files lay there before the first install.
    """

    directory: Path
    reference: str
    top_hash: str
    is_complete: bool
    time: float
    is_certain: bool
    began_empty: bool


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file or link as it was after it was written, and what it held.

    ``device`` is where stat data can be believed: ``st_dev`` of the directory's file system, None if they cannot be.
    """

    place: bytes
    kind: EntryKind
    digest: Digest
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int | None = None

    def is_untouched(self, status: os.stat_result) -> bool:
        """Return whether the file is known to be unchanged, its mode included. False: its bytes have to be read."""
        if self.device != status.st_dev or self.ctime_ns % 1_000_000_000 == 0:
            return False
        return self.is_cut_off(status) or self._identity == _identity(status)

    def is_cut_off(self, status: os.stat_result) -> bool:
        """Return whether a power cut took its bytes: another size, but the time of the last change is no later.

        Programs may set the time of the content back, as some that edit pictures do, but not that of the last change.
        """
        is_same = (self.inode, self.mtime_ns) == (status.st_ino, status.st_mtime_ns)
        return is_same and self.size != status.st_size and status.st_ctime_ns <= self.ctime_ns

    @property
    def _identity(self) -> tuple[int, int, int, int]:
        return self.inode, self.size, self.mtime_ns, self.ctime_ns


def written_file(logical_key: str, kind: EntryKind, digest: Digest, status: os.stat_result) -> WrittenFile:
    """Return the record of a file that was just written."""
    return WrittenFile(
        place_of(logical_key), kind, digest, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def installed_at(data_dir: Path, directory: Path) -> Installed | None:
    """Return what was installed into a directory; None if nothing was, or the directory is another one by now."""
    path = _path_for(data_dir, directory)
    if not path.exists():
        return None
    try:
        with closing(_connect(path)) as database:
            row = database.execute(
                "SELECT filesystem, device, inode, directory, reference, top_hash, is_complete, time, began_empty"
                " FROM install"
            ).fetchone()
        place = _Place.of(directory)
    except (*_DAMAGE, OSError):
        return None
    if row is None or not _Place(*row[:3]).may_be(place):
        return None
    is_certain = _Place(*row[:3]) == place
    return Installed(Path(row[3]), row[4], row[5], bool(row[6]), row[7], is_certain, bool(row[8]))


@dataclass(frozen=True, slots=True)
class _Place:
    """The identity of a directory: device, inode, file system."""

    filesystem: str
    device: int
    inode: int

    @classmethod
    def of(cls, directory: Path) -> _Place:
        """Raises OSError."""
        status = directory.stat()
        real = os.path.realpath(directory)
        return cls(name_filesystem(real, status.st_dev), status.st_dev, status.st_ino)

    def may_be(self, now: _Place) -> bool:
        """Whether ``now`` is the same directory. Where file systems have no lasting name, their numbers must do."""
        if self.inode != now.inode:
            return False
        if self.filesystem == now.filesystem:
            return True
        is_named = is_lasting_name(self.filesystem) or is_lasting_name(now.filesystem)
        return not is_named and self.device == now.device


class InstallRecord:
    """The record of one directory, being written. Use it from one thread."""

    def __init__(self, data_dir: Path, directory: Path) -> None:
        self._directory = directory
        path = _path_for(data_dir, directory)
        try:
            make_private_directories(path.parent)
            self._place = _Place.of(directory)
            self._reading, self._writing = self._opened(path)
        except (sqlite3.Error, OSError) as exc:
            raise InstallError(
                f"what is installed in {directory} cannot be recorded in {path}: {exc}",
                hint="Make room, or name another data directory with FUSEPKG_DATA_DIR",
            ) from exc
        self._pending: list[WrittenFile] = []

    def _opened(self, path: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        if path.exists() and not _is_usable(path, self._place):
            _remove_database(path)
        if not path.exists():
            with closing(_connect(path)) as database, database:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")
        return _connect(path), _connect(path)

    def start(self, reference: str, top_hash: str, *, into_empty: bool) -> None:
        """Record the version being installed; until ``finish`` it counts as incomplete. Raises InstallError.

        ``into_empty`` says whether the directory was empty; it counts for the first install only.
        """
        place = self._place
        where = (str(self._directory.absolute()), place.filesystem, place.device, place.inode)
        row = (*where, reference, top_hash, 0, time.time())
        before = self._reading.execute("SELECT began_empty FROM install").fetchone()
        with self._errors_as_ours(), self._writing:
            self._writing.execute("DELETE FROM install")
            began_empty = into_empty or (before is not None and bool(before[0]))
            self._writing.execute("INSERT INTO install VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, began_empty))

    def finish(self, *, is_nothing_else: bool = False) -> None:
        """Record that the install is complete, and whether the directory has other files. Raises InstallError."""
        self._write_all()
        with self._errors_as_ours(), self._writing:
            self._writing.execute("UPDATE install SET is_complete = 1, time = ?", (time.time(),))
            if is_nothing_else:
                self._writing.execute("UPDATE install SET began_empty = 1")

    def files(self) -> Iterator[WrittenFile]:
        """Yield what was written by earlier installs, in tree order."""
        device = self._place.device if is_lasting_name(self._place.filesystem) else None
        for place, kind, digest, inode, size, mtime_ns, ctime_ns in self._reading.execute(
            "SELECT * FROM files ORDER BY place"
        ):
            with suppress(
                ValueError, TypeError, AttributeError
            ):  # damaged, or of a newer version: as if it were not there
                yield WrittenFile(place, EntryKind(kind), _unpack(digest), inode, size, mtime_ns, ctime_ns, device)

    def add(self, file: WrittenFile) -> None:
        """Record a file that was written. Raises InstallError."""
        self._pending.append(file)
        if len(self._pending) >= _ROWS_PER_COMMIT:
            self._write_out(time.time_ns() - CLOCK_TICK_NS)

    def close(self) -> None:
        """Write what is left. Raises InstallError."""
        try:
            self._write_all()
        finally:
            self._reading.close()
            self._writing.close()

    def _write_all(self) -> None:
        if self._pending:
            time.sleep(CLOCK_TICK_NS / 1e9)
            self._write_out(time.time_ns())
            self._pending = [replace(file, ctime_ns=0) for file in self._pending]  # the clock was set back
            self._write_out(time.time_ns())

    def _write_out(self, before_ns: int) -> None:
        """Write what was last changed before that time: any later change gives another ctime."""
        rows = [_row(self._looked_at_again(file)) for file in self._pending if file.ctime_ns < before_ns]
        self._pending = [file for file in self._pending if file.ctime_ns >= before_ns]
        with self._errors_as_ours(), self._writing:
            self._writing.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _looked_at_again(self, file: WrittenFile) -> WrittenFile:
        """Have a file that was changed just after it was written hashed the next time."""
        path = os.path.join(os.fsencode(self._directory), file.place.replace(b"\0", b"/"))
        with suppress(OSError):
            if _identity(os.lstat(path)) == (file.inode, file.size, file.mtime_ns, file.ctime_ns):
                return file
        return replace(file, ctime_ns=0)

    def _errors_as_ours(self) -> _RecordErrors:
        return _RecordErrors(self._directory)


class _RecordErrors:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise InstallError(
                f"what is installed in {self._directory} cannot be recorded: {error}",
                hint="Make room below the data directory (FUSEPKG_DATA_DIR) and try again",
            ) from error


def forget_install(data_dir: Path, directory: Path) -> None:
    """Remove the record of a directory that is gone."""
    _remove_database(_path_for(data_dir, directory))


def _path_for(data_dir: Path, directory: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:32]
    return data_dir / FOLDER / f"{name}.sqlite"


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
    database.execute("PRAGMA synchronous = OFF")  # nothing waits for the disk: what is lost is found out by hashing
    return database


def _row(file: WrittenFile) -> tuple[bytes, int, bytes, int, int, int, int]:
    return file.place, int(file.kind), _pack(file.digest), file.inode, file.size, file.mtime_ns, file.ctime_ns


def _is_usable(path: Path, place: _Place) -> bool:
    """Return whether the record is whole and of this directory, not of one that had its name before."""
    try:
        with closing(_connect(path)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            is_whole = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            tables = database.execute("SELECT sql FROM sqlite_schema").fetchall()
            row = database.execute("SELECT filesystem, device, inode FROM install").fetchone()
    except _DAMAGE:
        return False
    is_whole = is_whole and {" ".join(sql.split()) for (sql,) in tables} == _EXPECTED
    return is_whole and version == _VERSION and (row is None or _Place(*row).may_be(place))


def _pack(digest: Digest) -> bytes:
    return digest.algorithm.value.encode() + b"\0" + digest.value


def _unpack(packed: bytes) -> Digest:
    name, _, value = packed.partition(b"\0")
    return Digest(Algorithm(name.decode()), value)
