"""Changes that two people make at once: the second one is made again on what is there then."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from fusepkg.errors import TagConflict

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 20
"""Times a change is made before its conflict is the user's: some twenty people who write at once all succeed."""

_PAUSE_S = 0.05
"""Longest pause after the first conflict; each further one may be as much longer, so that writers drift apart."""

_T = TypeVar("_T")


def repeat_conflicts(attempt: Callable[[], _T]) -> _T:
    """Make a change on what is there now, again where somebody else was first. Raises TagConflict at last."""
    for done in range(1, TRIES):
        try:
            return attempt()
        except TagConflict:
            time.sleep(random.uniform(0, _PAUSE_S * done))
    return attempt()
