"""Forked children that look at something and end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def forked(test: Callable[[], bool]) -> int:
    """A forked child that ends with 0 where ``test()`` holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, which these tests are about
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if test() else 2
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
