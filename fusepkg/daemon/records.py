"""Which mounts there are: one small file per mount, beside its control socket.

Owns: the runtime directory and the records in it. Must not know: how a mount is made or served.

The directory is private to the user (0700). A record outlives its daemon only when that was killed; readers tell
from the control socket, which nobody answers any more, and the kernel's mount table.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fusepkg.errors import ControlError, NotMounted
from fusepkg.model.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX = ".json"

_MAX_SOCKET_BYTES = 107
"""Longest path of a unix socket: sun_path has 108 bytes with the closing zero."""

_SOCKET_NAME_BYTES = len("/0123456789ab.sock")

_LEFT_AFTER_S = 60.0
"""A starting mount has a socket or draft without a record for milliseconds; after this long, it was killed."""


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


def runtime_directory() -> Path:
    """The user's directory for sockets and records, created if need be. Raises ControlError where it is not private."""
    directory = _preferred_directory()
    if directory is not None:
        with suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
            return _checked_private(directory)
    directory = Path(f"/tmp/fusepkg-{os.geteuid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        return _checked_private(directory)
    except OSError as exc:
        raise ControlError(
            f"{directory}, for sockets and records of mounts, cannot be made: {exc.strerror}",
            hint="Set XDG_RUNTIME_DIR to a directory of yours with mode 0700",
        ) from exc


def _preferred_directory() -> Path | None:
    """None where there is none of this user's own, as after su(1), or its sockets' names would be too long."""
    if os.geteuid() == 0:
        return Path("/run/fusepkg")
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not base.startswith("/") or len(os.fsencode(base)) + len("/fusepkg") + _SOCKET_NAME_BYTES > _MAX_SOCKET_BYTES:
        return None
    with suppress(OSError):
        if os.stat(base).st_uid == os.geteuid():
            return Path(base) / "fusepkg"
    return None


def _checked_private(directory: Path) -> Path:
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
        raise ControlError(
            f"{directory} is not a private directory of this user",
            hint="Remove it, or set XDG_RUNTIME_DIR to a directory of yours with mode 0700",
        )
    return directory


def new_mount_id() -> str:
    """A short name for a mount's files in the runtime directory."""
    return secrets.token_hex(6)


def write_record(record: MountRecord) -> None:
    """Make a record visible, atomically."""
    path = runtime_directory() / f"{record.mount_id}{_SUFFIX}"
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(record))
    draft.rename(path)


def remove_record(mount_id: str) -> None:
    """Forget a mount: its record and its socket."""
    directory = runtime_directory()
    for name in (f"{mount_id}{_SUFFIX}", f"{mount_id}.sock"):
        with suppress(FileNotFoundError):
            (directory / name).unlink()


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
    for path in runtime_directory().glob(f"*{_SUFFIX}"):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=MountRecord)
        except (msgspec.MsgspecError, UnicodeDecodeError, FileNotFoundError):
            continue
        if (record.device, _place(record)) in table or is_alive(record):
            records.append(record)
        else:
            remove_record(record.mount_id)
    return sorted(records, key=lambda record: record.started_s)


def _place(record: MountRecord) -> bytes:
    return os.fsencode(record.mountpoint)


def find_record(path: Path) -> tuple[MountRecord, str]:
    """The mount that a path lies in, and the path within it. Raises NotMounted.

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
    raise NotMounted(f"{path} does not lie in a mount of yours", hint="`fusepkg mounts` lists them")


def is_alive(record: MountRecord) -> bool:
    """Whether the daemon runs: somebody listens at its socket. Its process's number may be another's by now."""
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


# --- the kernel's table ---


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the kernel's table; ``device`` is ``major:minor``, names are as the kernel has them: bytes."""

    device: str
    path: bytes
    kind: bytes
    source: bytes

    @property
    def is_ours(self) -> bool:
        """Whether it shows itself as a mount of fusepkg, also of one whose daemon is dead or whose record is lost."""
        if self.kind == b"erofs":
            return re.search(rb"/fusepkg-[^/]+/image$", self.source) is not None
        return self.kind == b"fuse.fusepkg"


def mount_table() -> list[Mounted]:
    """Everything mounted, in the order it was mounted: of two at one place, the later hides the earlier."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        if line:
            fields = line.split(b" ")
            kind = fields.index(b"-", 6) + 1  # after a varying number of optional fields
            path, source = _unescaped(fields[4]), _unescaped(fields[kind + 1])
            mounts.append(Mounted(fields[2].decode(), path, fields[kind], source))
    return mounts


def _unescaped(name: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), name)


def mounted_devices() -> set[str]:
    """``major:minor`` of everything mounted."""
    return {mount.device for mount in mount_table()}


def top_mount(path: Path) -> Mounted | None:
    """What is mounted exactly there, the last of several; None where nothing is."""
    wanted = os.fsencode(path)
    return next((mount for mount in reversed(mount_table()) if mount.path == wanted), None)


def mounted_at(path: Path) -> bool:
    """Whether something is mounted exactly there."""
    return top_mount(path) is not None


def mounts_below(directory: Path) -> dict[str, str]:
    """What is mounted inside a directory: references with whole hashes, by path below it."""
    found = {}
    for record in read_records():
        mountpoint = Path(record.mountpoint)
        if is_alive(record) and mountpoint != directory and mountpoint.is_relative_to(directory):
            package = parse_reference(record.reference).package
            found[mountpoint.relative_to(directory).as_posix()] = f"{package}@{record.top_hash}"
    return found
