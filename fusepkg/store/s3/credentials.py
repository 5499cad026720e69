"""Credentials that are read again where the server refuses them: files are rotated, sessions renewed by other programs.

AWS's own sources renew credentials that say when they end. Keys in a file, or in the environment of a program that
writes one, say nothing: only the server's refusal tells that they have ended.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import botocore.session
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

REREAD_S = 1.0
"""Credentials that were found unchanged are not read again before."""


class RereadCredentials(Credentials):
    """The credentials of a profile, as boto3 uses them, which ``reread`` replaces by the ones there are now.

    ``generation`` counts how often that was.
    """

    def __init__(self, profile: str | None, current: Credentials) -> None:
        super().__init__("", "")  # the keys are those of ``_current``
        self._profile = profile
        self._current = current
        self._lock = threading.Lock()
        self._read = -REREAD_S
        self.generation = 0

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return the current ones, renewed where they say when they end. Raises BotoCoreError."""
        return self._current.get_frozen_credentials()

    def must_renew(self) -> bool:
        """Whether asking for them may take a while: they are about to end, or were never read."""
        due = getattr(self._current, "refresh_needed", None)  # credentials without an end have no such question
        return due is not None and bool(due())

    def reread(self, generation: int) -> bool:
        """Read the credentials again that were refused in that generation. True if there are others now."""
        with self._lock:
            if self.generation != generation:
                return True
            if time.monotonic() - self._read < REREAD_S:
                return False
            self._read = time.monotonic()
            try:
                found = botocore.session.Session(profile=self._profile).get_credentials()
                if found is None or found.get_frozen_credentials() == self._current.get_frozen_credentials():
                    return False
            except (BotoCoreError, ValueError, OSError):  # such as a file that is just being written
                return False
            self._current = found
            self.generation += 1
            return True
