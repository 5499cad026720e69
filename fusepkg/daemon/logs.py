"""Where a mount's daemon writes: one bounded log file per mountpoint.

Owns: log files, their size, and the daemon's standard streams. Must not know: what is logged.
"""

from __future__ import annotations

import hashlib
import logging
import logging.handlers
import os
import sys
from pathlib import Path

MAX_LOG_BYTES = 1024 * 1024
"""Size at which a log is rotated: with one old one kept, a mount's logs take 2 MiB at most."""

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_path_for(cache_dir: Path, mountpoint: Path) -> Path:
    """The log of mounts at that directory; created, private."""
    directory = cache_dir / "logs"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = os.path.abspath(mountpoint)
    return directory / f"{Path(place).name or 'root'}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}.log"


def log_to_file(path: Path, *, debug: bool) -> None:
    """Log to the file from here on, and send what is printed there too; standard input becomes empty."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")
    _install(handler, debug=debug)
    path.touch(mode=0o600)
    null = os.open(os.devnull, os.O_RDWR)
    # libfuse and the mount helper write to standard error; their words belong in the log, whatever its rotation does.
    words = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    for source, target in ((null, 0), (words, 1), (words, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(words)


def log_to_terminal(*, debug: bool) -> None:
    """Log to standard error, for mounts in the foreground."""
    _install(logging.StreamHandler(), debug=debug)


def _install(handler: logging.Handler, *, debug: bool) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fusepkg").setLevel(logging.DEBUG if debug else logging.INFO)
