"""A gate: many users inside at once, or one owner alone.

Owns: that an LMDB environment is not closed, replaced or mapped anew while a thread of this process looks into it.
Must not know: LMDB.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """``with gate:`` enters as a user, ``with gate.alone():`` as the owner, once all users have left.

    A user must not enter again, as user or owner: with an owner waiting, it would wait for itself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._users = 0
        self._owned = False

    def __enter__(self) -> None:
        with self._changed:
            while self._owned:
                self._changed.wait()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._users -= 1
            if self._owned and not self._users:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else in until the block ends."""
        self.shut()
        try:
            yield
        finally:
            self.open()

    def shut(self, patience_s: float | None = None) -> bool:
        """Become the owner; False where somebody else stays in for longer than ``patience_s``."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._owned, patience_s):
                return False
            self._owned = True  # from here on no new user gets in, so the wait below ends
            if self._changed.wait_for(lambda: not self._users, patience_s):
                return True
        self.open()
        return False

    def open(self) -> None:
        """Be the owner no longer."""
        with self._changed:
            self._owned = False
            self._changed.notify_all()
