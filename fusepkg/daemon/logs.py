"""Where a mount's daemon writes: one bounded log file per mountpoint."""

from __future__ import annotations

import hashlib
import logging
import logging.handlers
import os
import sys
from typing import TYPE_CHECKING

from fusepkg_cache.private_directory import NotPrivate, make_private

from fusepkg.daemon.runtime import runtime_directory

if TYPE_CHECKING:
    import io
    from pathlib import Path

MAX_LOG_BYTES = 1024 * 1024
"""Size at which a log is rotated: with one old one kept, a mount's logs take 2 MiB at most."""

MAX_NAME_CHARACTERS = 60
"""How much of a mountpoint's name is in its log's: four bytes each, they fit a file name of 255 bytes."""

_CONTROL = {
    number: f"\\x{number:02x}" for number in (*range(0x20), *range(0x7F, 0xA0)) if number not in (ord("\n"), ord("\t"))
} | {number: f"\\u{number:04x}" for number in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Control characters, line separators and changes of the writing direction, and how they are shown."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_path_for(cache_dir: Path, mountpoint: Path) -> Path:
    """The log of mounts at that directory; created, private.

    It lies in the cache directory, or in the runtime directory where that cannot be written to or its disk is full:
    what is wrong with the cache has to be told somewhere. Raises ControlError.
    """
    place = os.fsencode(os.path.abspath(mountpoint))
    shown = os.path.basename(place).decode(errors="replace")[:MAX_NAME_CHARACTERS]
    legible = "".join(letter if letter.isprintable() else "?" for letter in shown) or "root"
    name = f"{legible}-{hashlib.sha256(place).hexdigest()[:8]}.log"
    try:
        path = _created(cache_dir / "logs", name)
        disk = os.statvfs(path)
        if disk.f_bavail * disk.f_frsize >= MAX_LOG_BYTES:
            return path
    except (OSError, NotPrivate):  # others could replace the log: no place for it
        pass
    return _created(runtime_directory(), name)


def _created(directory: Path, name: str) -> Path:
    make_private(directory)
    os.close(_opened(directory / name))
    return directory / name


def _opened(path: str | Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A handler whose files only this user can read, from their creation on."""

    def _open(self) -> io.TextIOWrapper:
        return os.fdopen(_opened(self.baseFilename), "a", encoding="utf-8", errors="backslashreplace")


def log_to_file(path: Path, *, debug: bool) -> None:
    """Log to the file from here on, and send what is printed there too; standard input becomes empty."""
    logging.raiseExceptions = False  # a full disk costs log lines, and no tracebacks about them
    _install(_PrivateFile(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8"), debug=debug)
    null = os.open(os.devnull, os.O_RDWR)
    # libfuse and the mount helper write to standard error; their words belong in the log, whatever its rotation does.
    words = _opened(path)
    sys.stdout.flush()
    sys.stderr.flush()
    for source, target in ((null, 0), (words, 1), (words, 2)):
        os.dup2(source, target)
    for descriptor in (null, words):
        os.close(descriptor)


def log_to_terminal(*, debug: bool) -> None:
    """Log to standard error, for mounts in the foreground."""
    _install(logging.StreamHandler(), debug=debug)


class _Legible(logging.Formatter):
    """Escapes what would steer a terminal: names in packages are whatever their publisher chose."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return super().formatMessage(record).translate(_CONTROL)


def _install(handler: logging.Handler, *, debug: bool) -> None:
    handler.setFormatter(_Legible(_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fusepkg").setLevel(logging.DEBUG if debug else logging.INFO)
