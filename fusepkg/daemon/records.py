"""Which mounts there are: one small file per mount, beside its control socket.

Owns: the runtime directory and the records in it. Must not know: how a mount is made or served.

The directory is private to the user (0700). A record outlives its daemon only when that was killed; readers tell
from the process id and the kernel's mount table.
"""

from __future__ import annotations

import os
import secrets
import select
import stat
from contextlib import suppress
from pathlib import Path

import msgspec

from fusepkg.errors import ControlError, NotMounted

_SUFFIX = ".json"


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
    uid = os.geteuid()
    if uid == 0:
        directory = Path("/run/fusepkg")
    elif base := os.environ.get("XDG_RUNTIME_DIR"):
        directory = Path(base) / "fusepkg"
    else:
        directory = Path(f"/tmp/fusepkg-{uid}")
    directory.mkdir(mode=0o700, exist_ok=True)
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != uid or state.st_mode & 0o077:
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


def read_records() -> list[MountRecord]:
    """All mounts of this user, oldest first; records of ended daemons whose mount is gone too are removed."""
    records: list[MountRecord] = []
    devices = mounted_devices()
    for path in runtime_directory().glob(f"*{_SUFFIX}"):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=MountRecord)
        except (msgspec.MsgspecError, FileNotFoundError):
            continue
        if not is_alive(record) and record.device not in devices:
            remove_record(record.mount_id)
        else:
            records.append(record)
    return sorted(records, key=lambda record: record.started_s)


def find_record(path: Path) -> tuple[MountRecord, str]:
    """The mount that a path lies in, and the path within it. Raises NotMounted.

    Goes by the longest mountpoint above the path, so that it works when the daemon is dead and stat(2) fails.
    """
    absolute = Path(os.path.abspath(path))
    candidates = [record for record in read_records() if absolute.is_relative_to(record.mountpoint)]
    if not candidates:
        absolute = absolute.parent.resolve() / absolute.name
        candidates = [record for record in read_records() if absolute.is_relative_to(record.mountpoint)]
    if not candidates:
        raise NotMounted(f"{path} does not lie in a mount of yours", hint="`fusepkg mounts` lists them")
    record = max(candidates, key=lambda record: (len(record.mountpoint), record.started_s))
    return record, str(absolute.relative_to(record.mountpoint))


def is_alive(record: MountRecord) -> bool:
    """Whether the daemon's process runs and has its socket.

    A process that has ended but was not reaped, as in containers whose first process reaps nothing, does not run.
    """
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return False
    try:
        has_ended = bool(select.select([process], [], [], 0)[0])
    finally:
        os.close(process)
    return not has_ended and Path(record.socket).exists()


def mounted_devices() -> set[str]:
    """``major:minor`` of everything mounted, as the kernel's table has it."""
    return {line.split()[2] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def mounted_at(path: Path) -> bool:
    """Whether something is mounted exactly there."""
    wanted = str(path)
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        if line.split()[4].encode("latin-1", "surrogateescape").decode("unicode_escape") == wanted:
            return True
    return False
