"""One process's use of one cache directory, shared by all cache objects of the process.

Owns: that LMDB is opened at most once per process and directory (its locks belong to the process: a second opening
would share them, and its closing drop them), who still uses it, and that a forked child does not. Must not know: what
is kept.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import lmdb

from fusepkg_cache.bound import Bound
from fusepkg_cache.commits import Commits
from fusepkg_cache.environment import Environment
from fusepkg_cache.errors import CacheUnusable
from fusepkg_cache.files import Blobs
from fusepkg_cache.layout import prepare
from fusepkg_cache.recency import Recency
from fusepkg_cache.staging import Staging

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache.layout import Layout

_sessions: dict[tuple[int, int], Session] = {}
_lock = threading.Lock()

# Held across a fork, so that the child does not inherit it locked by a thread it does not have.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Session:
    """What is open for one directory. Made by ``acquire``, closed when the last ``release`` is called."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.process = os.getpid()
        self.users = 0
        self.environment = Environment(layout)
        self.bound = Bound(self)
        self.commits = Commits(self.environment, self.bound.step)
        self.recency = Recency(self.commits)
        self.staging = Staging(layout.staging)
        self.blobs = Blobs(layout.blobs)

    def check_process(self) -> None:
        """Raise CacheUnusable in a child of the process that opened the session.

        Threads and locks do not survive a fork, and closing the inherited environment would free the slots that the
        parent's readers hold.
        """
        if self.process != os.getpid():
            raise CacheUnusable(
                f"the cache in {self.layout.directory} was opened by process {self.process} before it forked this one",
                hint="Open the cache after the fork, or close it before",
            )


def acquire(directory: Path) -> Session:
    """The open session of a directory. Raises CacheUnusable."""
    layout = prepare(directory)
    with _lock:
        found = layout.root.stat()
        session = _sessions.get((found.st_dev, found.st_ino))
        if session is None:
            session = _sessions[found.st_dev, found.st_ino] = Session(layout)
        session.check_process()
        session.users += 1
        return session


def release(session: Session) -> None:
    """Leave a session; closes it when nobody is left. Does nothing in a forked child."""
    with _lock:
        if session.process != os.getpid():
            return
        session.users -= 1
        if session.users:
            return
        for key in [key for key, value in _sessions.items() if value is session]:
            del _sessions[key]
        with suppress(CacheUnusable, OSError, lmdb.Error):  # a full disk, say: only the order of eviction suffers
            session.recency.write()
        session.commits.close()
        session.environment.close()
        session.staging.close()
