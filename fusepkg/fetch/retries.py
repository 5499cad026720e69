"""When a read asks a bucket again: for which errors, how soon, how long. A single request's tries are the store's."""

from __future__ import annotations

import random

from fusepkg.errors import FusepkgError, RemoteError

RETRY_TIMEOUT_S = 30.0
"""How long a read is tried again whose request fails for a reason that may pass, from the first failure on."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 3.0
"""Before a failed request is made again: doubled with each failure, and varied so that not all come at once."""

MISMATCH_TRIES = 2
"""Fetches of an object whose bytes are wrong, before giving up: the damage may lie in the transfer."""


def is_transient(error: FusepkgError) -> bool:
    """Whether the same request may succeed later without anybody changing anything."""
    return isinstance(error, RemoteError) and error.retryable


def pause_after(attempts: int) -> float:
    """Return the seconds to wait after so many failed attempts, at least one."""
    return min(FIRST_PAUSE_S * 2.0 ** (attempts - 1), LONGEST_PAUSE_S) * random.uniform(0.7, 1.3)
