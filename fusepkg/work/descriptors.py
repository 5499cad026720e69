"""Open the descriptors of standard input, output and error if the caller has closed them."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Open those that are closed on /dev/null.

    Must run before anything else is opened: a file or pipe that got the number of a closed stream would be written
    to as that stream.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
