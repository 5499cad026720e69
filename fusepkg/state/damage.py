"""Objects that a read or a check on this machine has found missing or damaged, for the next push to look at.

A text file with one physical key a line. It may be lost: then a push believes those objects again until it is told to
check.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from fusepkg.work.private import make_private_directories
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

_FILE = "damaged-objects.txt"
_MAX_OBJECTS = 10_000
"""The newest 10,000 are kept; with more damage, push with --check."""


def note_damaged(data_dir: Path, urls: Iterable[str]) -> None:
    """Note objects, by physical key. A file that cannot be written costs a warning in the log.

    Objects below a ``data_dir`` that is gone are not noted: it may come back, and must not be made meanwhile.
    """
    known = damaged_objects(data_dir)
    gone = None if data_dir.exists() else data_dir.absolute().as_uri()
    new = [url for url in dict.fromkeys(urls) if url not in known and not (gone and url.startswith(gone))]
    if not new:
        return
    try:
        make_private_directories(data_dir)
        if len(known) + len(new) > _MAX_OBJECTS:
            _write(data_dir, [*_read(data_dir), *new][-_MAX_OBJECTS:])
            return
        with (data_dir / _FILE).open("a", encoding="utf-8") as file:
            file.write("".join(f"{url}\n" for url in new))
    except OSError as exc:
        log.warning("%s cannot be written (%s): %d damaged objects are not noted", data_dir / _FILE, exc, len(new))


def damaged_objects(data_dir: Path) -> frozenset[str]:
    """Return the physical keys that are noted; none if the file cannot be read."""
    return frozenset(_read(data_dir))


def forget_damaged(data_dir: Path, urls: Iterable[str]) -> None:
    """Forget objects that have been found right."""
    gone = set(urls)
    if not gone:
        return
    try:
        _write(data_dir, [url for url in _read(data_dir) if url not in gone])
    except OSError as exc:
        log.warning("%s cannot be written (%s)", data_dir / _FILE, exc)


def _read(data_dir: Path) -> list[str]:
    try:
        text = (data_dir / _FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.split("\n") if "://" in line]


def _write(data_dir: Path, urls: list[str]) -> None:
    new = data_dir / scratch_name(_FILE)
    new.write_text("".join(f"{url}\n" for url in urls), encoding="utf-8")
    os.replace(new, data_dir / _FILE)
