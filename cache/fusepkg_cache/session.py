"""One process's use of one cache directory, shared by all cache objects of the process.

Owns: that LMDB is opened at most once per process and directory (its locks belong to the process: a second opening
would share them, and its closing drop them), who still uses it, and what becomes of it in a fork. Must not know: what
is kept.

Forks: LMDB is closed before one, and opened again by whoever calls next, parent or child, each for itself. A child's
cache objects get a session of their own at their first call. So workers that were forked from a program that reads, as
data loaders do, need not know.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import lmdb

from fusepkg_cache._translate import hanging
from fusepkg_cache.bound import Bound
from fusepkg_cache.claims import Claims
from fusepkg_cache.commits import PATIENCE_S, Commits
from fusepkg_cache.environment import Environment
from fusepkg_cache.errors import CacheUnusable
from fusepkg_cache.files import Blobs
from fusepkg_cache.layout import prepare
from fusepkg_cache.pins import Pins
from fusepkg_cache.recency import Recency
from fusepkg_cache.staging import Staging

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg_cache.layout import Layout

_sessions: dict[tuple[int, int], Session] = {}
_inherited: list[Session] = []
"""Sessions of the process this one was forked from. Kept, for letting go of one could close what it has open."""

sessions_lock = threading.RLock()
"""Held while a session is opened or closed, and across a fork: the child does not inherit it locked by a thread that
it does not have."""

_FORK_PATIENCE_S = 5.0
"""How long a fork waits for transactions to end: they take milliseconds, unless a stopped process has LMDB's lock. If
it is not enough, the child is told that it cannot have this cache."""

_suspended: list[Session] = []


def _before_fork() -> None:
    """Close LMDB: what is inherited open could be neither used nor closed nor opened a second time in the child."""
    sessions_lock.acquire()
    deadline = time.monotonic() + _FORK_PATIENCE_S
    _suspended.extend(
        session
        for session in set(_sessions.values())
        if session.environment.suspend(max(0.0, deadline - time.monotonic()))
    )


def _after_fork_in_parent() -> None:
    while _suspended:
        _suspended.pop().environment.resume()
    sessions_lock.release()


def _after_fork_in_child() -> None:
    _suspended.clear()
    _inherited.extend(_sessions.values())
    for session in _sessions.values():
        session.staging.disown()
    _sessions.clear()
    sessions_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class Session:
    """What is open for one directory. Made by ``acquire``, closed when the last ``release`` is called."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.process = os.getpid()
        self.users = 0
        self.environment = Environment(layout)
        self.staging = Staging(layout.staging)
        self.blobs = Blobs(layout.blobs)
        self.pins = Pins(layout.pins, self.staging)
        self.bound = Bound(self)
        self.commits = Commits(self.environment, self.bound.step, self.bound.settle)
        self.recency = Recency(self.commits)
        self.claims = Claims(layout.claims_file)

        self._count_files()

    def _count_files(self) -> None:
        """Have files counted that nobody counted yet, in the background."""
        if not self.bound.walk_due:
            return
        if os.listdir(self.layout.blobs):
            self.commits.wake(0)
        else:
            with suppress(OSError, lmdb.Error):  # a full disk, say: later, then
                self.environment.change(lambda changes: changes.walked())

    def end(self, patience_s: float) -> bool:
        """Close everything; False where a transaction hangs: to be tried again."""
        with suppress(CacheUnusable):  # closed already, the last time this was tried
            self.recency.submit()
        if not self.commits.close(patience_s):
            return False
        self.bound.close()
        self.environment.close()
        self.staging.close()
        return True

    @property
    def ours(self) -> bool:
        """Whether this process opened the session, rather than one it was forked from."""
        return self.process == os.getpid()

    def check_process(self) -> None:
        """Raise CacheUnusable in a child of the process that opened the session: its threads and locks stayed there."""
        if not self.ours:
            raise CacheUnusable(
                f"this use of the cache in {self.layout.directory} was begun by process {self.process}, "
                "which then forked this one",
                hint="Begin it anew after the fork; the cache object itself can be used further",
            )


def acquire(directory: Path) -> Session:
    """The open session of a directory. Raises CacheUnusable."""
    layout = prepare(directory)
    with sessions_lock:
        found = layout.root.stat()
        key = (found.st_dev, found.st_ino)
        session = _sessions.get(key) or _replaced(layout)
        if session is not None and not session.users:  # the last release could not close it
            if not session.end(0):
                raise hanging(PATIENCE_S)
            _forget(session)
            session = None
        _sessions[key] = session = session or Session(layout)
        session.users += 1
        return session


def _replaced(layout: Layout) -> Session | None:
    """The session of a directory that was removed and made anew: it goes on in the new one, under the same path."""
    return next((session for session in _sessions.values() if session.layout == layout), None)


def _forget(session: Session) -> None:
    for key in [key for key, value in _sessions.items() if value is session]:
        del _sessions[key]


def release(session: Session) -> None:
    """Leave a session; closes it when nobody is left. Does nothing in a forked child."""
    with sessions_lock:
        if not session.ours:
            return
        session.users -= 1
        if not session.users and session.end(PATIENCE_S):
            _forget(session)
