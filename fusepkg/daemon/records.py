"""Which mounts there are: one small file per mount, beside its control socket.

The directory is private to the user (0700). A record outlives its daemon only when that was killed; readers tell
from the control socket, which then gives no answer, and the kernel's mount table.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fusepkg.daemon.mount_table import mount_table
from fusepkg.daemon.runtime import runtime_directories, runtime_directory
from fusepkg.errors import DaemonNotRunning, NotMounted
from fusepkg.model.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.daemon.mount_table import Mounted

_SUFFIX = ".json"

_LEFT_AFTER_S = 60.0
"""A starting mount has a socket or draft without a record for milliseconds; after this long, it was killed."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a mount shows a part of: a version, the expression that picks entries, and the one that names them."""

    reference: str
    top_hash: str
    where: str
    layout: str = ""


class MountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One mount. ``device`` is the ``major:minor`` the kernel gives its files; times are Unix seconds."""

    mount_id: str
    pid: int
    mountpoint: str
    device: str
    reference: str
    top_hash: str
    engine: str
    engine_reason: str
    started_s: float
    socket: str
    log: str
    index_root: str
    offline_since_s: float | None = None
    """When the bucket could not be reached to resolve the tag: the time the tag was last seen to name this version."""
    view: View | None = None
    """Of a view; then ``top_hash`` is the view's own, which only this machine knows."""
    follow: str | None = None
    """The tag that the mount follows."""
    supervisor: int | None = None
    """The process that starts another one in the place of ``pid`` when that dies."""
    failure: str = ""
    """Why no other one is started any more."""


def new_mount_id() -> str:
    """A short name for a mount's files in the runtime directory."""
    return os.urandom(6).hex()


def record_path(mount_id: str) -> Path:
    """Where a mount's record lies."""
    return runtime_directory() / f"{mount_id}{_SUFFIX}"


def write_record(record: MountRecord) -> None:
    """Make a record visible, atomically."""
    path = record_path(record.mount_id)
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(record))
    draft.rename(path)


def remove_record(mount_id: str) -> None:
    """Forget a mount: its record and its socket."""
    for directory in runtime_directories():
        for name in (f"{mount_id}{_SUFFIX}", f"{mount_id}.sock"):
            with suppress(OSError):
                (directory / name).unlink()


def unrecorded_mounts(records: list[MountRecord]) -> list[Mounted]:
    """Return this user's mounts of fusepkg in the kernel's table that none of these records tells of."""
    known = {(record.device, _place(record)) for record in records}
    ours = [mount for mount in mount_table() if mount.is_ours and mount.owner == os.geteuid()]
    return [mount for mount in ours if (mount.device, mount.path) not in known]


@contextmanager
def locked(name: str) -> Iterator[bool]:
    """Hold the lock of that name while the block runs; gives False where another process holds it.

    The kernel drops it with the process.
    """
    path = runtime_directory() / f"{name}.lock"
    descriptor = _take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _take(path: Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its last holder removed it between our open and our lock


def sweep() -> None:
    """Remove the sockets, drafts and locks that killed processes left."""
    directory = runtime_directory()
    for path in (*directory.glob("*.lock"), *directory.glob("*.sock"), *directory.glob("*.draft")):
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime < _LEFT_AFTER_S:
                continue
            if path.suffix == ".lock":
                with locked(path.stem):  # which removes it, if nobody holds it
                    continue
            if not path.with_suffix(_SUFFIX).exists() and not _answers(path):
                path.unlink()


def read_records() -> list[MountRecord]:
    """All mounts of this user, oldest first; records of ended daemons whose mount is gone too are removed."""
    records: list[MountRecord] = []
    table = {(mount.device, mount.path) for mount in mount_table()}
    for path in (path for directory in runtime_directories() for path in directory.glob(f"*{_SUFFIX}")):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=MountRecord)
        except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
            continue
        if (record.device, _place(record)) in table or is_alive(record):
            records.append(record)
        else:
            remove_record(record.mount_id)
    return sorted(records, key=lambda record: record.started_s)


def _place(record: MountRecord) -> bytes:
    return os.fsencode(record.mountpoint)


def find_record(path: Path) -> tuple[MountRecord, str]:
    """The mount that a path lies in, and the path within it. Raises NotMounted, DaemonNotRunning.

    Goes by the longest mountpoint above the path, so that it works when the daemon is dead and stat(2) fails. Links
    are only followed where the path as it stands leads nowhere, the last one only where it must be.
    """
    absolute = os.path.abspath(path)
    in_real_directory = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    records = read_records()
    for spelling in (absolute, in_real_directory, os.path.realpath(absolute)):
        above = [record for record in records if Path(spelling).is_relative_to(record.mountpoint)]
        if above:
            record = max(above, key=lambda record: (len(record.mountpoint), record.started_s))
            return record, str(Path(spelling).relative_to(record.mountpoint))
    unrecorded = _unrecorded_above(absolute, records)
    if unrecorded is not None:
        mountpoint = os.fsdecode(unrecorded.path)
        raise DaemonNotRunning(
            f"{mountpoint} is a mount of fusepkg without a record: its process cannot be asked",
            hint=f"`fusepkg umount {mountpoint}`, and mount it again",
        )
    raise NotMounted(f"{path} does not lie in a mount of yours", hint="`fusepkg mounts` lists them")


def find_unrecorded(path: Path) -> Mounted | None:
    """Return the mount of fusepkg that a path lies in, if it has no record; only the kernel's table is asked."""
    return _unrecorded_above(os.path.abspath(path), read_records())


def _unrecorded_above(path: str, records: list[MountRecord]) -> Mounted | None:
    above = [mount for mount in unrecorded_mounts(records) if Path(path).is_relative_to(os.fsdecode(mount.path))]
    return max(above, key=lambda mount: len(mount.path), default=None)


def is_alive(record: MountRecord) -> bool:
    """Return whether the daemon runs: somebody listens at its socket. Its process's number may be another's by now."""
    return _answers(Path(record.socket))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:  # so many others ask that we would have to wait
            return True
        except OSError:
            return False
    return True


def mounts_below(directory: Path) -> dict[str, str]:
    """What is mounted inside a directory: references with whole hashes, by path below it."""
    found = {}
    for record in read_records():
        mountpoint = Path(record.mountpoint)
        if is_alive(record) and mountpoint != directory and mountpoint.is_relative_to(directory):
            package = parse_reference(record.reference).package
            version = record.view or record
            found[mountpoint.relative_to(directory).as_posix()] = f"{package}@{version.top_hash}"
    return found
