"""The three standard streams, made usable whatever the caller has done to them."""

from __future__ import annotations

import codecs
import io
import os
import sys

_NAMES = "fusepkg-names"
"""How the error handler below is registered."""


def prepare_streams() -> None:
    """Open what is closed on /dev/null, and let every name be printed in whatever encoding the output has.

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
    codecs.register_error(_NAMES, _printable)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_NAMES)


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """File names are bytes, and leave as they came; what the encoding does not have is escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    encoded = b"".join(
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in text
    )
    return encoded, error.end
