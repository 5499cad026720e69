"""The private directory for sockets, records and locks of mounts."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from fusepkg.errors import ControlError

_MAX_SOCKET_BYTES = 107
"""Longest path of a unix socket: sun_path has 108 bytes with the closing zero."""

_LISTENER = re.compile(rb" (/\S*/fusepkg(?:-\d+)?)/[0-9a-f]{12}\.sock$", re.MULTILINE)
"""The directory of a control socket, in the kernel's list of sockets."""

_SOCKET_NAME_BYTES = len("/0123456789ab.sock")


def runtime_directory() -> Path:
    """Return the first place that can be used, created if need be. Raises ControlError where there is none."""
    reasons = []
    for directory in _places():
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            reasons.append(f"{directory}: {exc.strerror}")
            continue
        reason = _why_not(directory)
        if reason is None and not os.access(directory, os.W_OK | os.X_OK):
            reason = "cannot be written to"
        if reason is None:
            return directory
        reasons.append(f"{directory} {reason}")
    raise ControlError(
        f"there is no place for the sockets and records of mounts: {'; '.join(reasons)}",
        hint="Set XDG_RUNTIME_DIR to a directory of yours with mode 0700",
    )


def runtime_directories() -> list[Path]:
    """Return all places that are there and private: another session of this user may have taken another one.

    Those of sessions with another XDG_RUNTIME_DIR are found by the sockets that their daemons listen at.
    """
    places = dict.fromkeys([*_places(), *_places_of_listeners()])
    return [directory for directory in places if _why_not(directory) is None]


def _places_of_listeners() -> list[Path]:
    try:
        sockets = Path("/proc/net/unix").read_bytes()
    except OSError:
        return []
    return [Path(os.fsdecode(found)) for found in dict.fromkeys(_LISTENER.findall(sockets))]


def _places() -> list[Path]:
    user = os.geteuid()
    places = [Path("/run/fusepkg")] if user == 0 else []
    if user != 0 and (base := os.environ.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        places.append(Path(base) / "fusepkg")
    places += [Path(f"/run/user/{user}/fusepkg"), Path(f"/tmp/fusepkg-{user}"), Path(f"/dev/shm/fusepkg-{user}")]
    return [place for place in dict.fromkeys(places) if _is_fit(place)]


def _is_fit(place: Path) -> bool:
    """Return whether sockets' names fit, and the directory above is this user's (not so after su(1)) or everybody's."""
    if len(os.fsencode(place)) + _SOCKET_NAME_BYTES > _MAX_SOCKET_BYTES:
        return False
    try:
        above = place.parent.stat()
    except OSError:
        return False
    return above.st_uid == os.geteuid() or (above.st_uid == 0 and bool(above.st_mode & stat.S_ISVTX))


def _why_not(directory: Path) -> str | None:
    """Why a directory may not be believed, or None."""
    try:
        state = directory.lstat()
    except OSError as exc:
        return f"cannot be used: {exc.strerror}"
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
        return "is not a private directory of this user"
    return None
