"""Standard output that takes every name, in whatever encoding it has."""

from __future__ import annotations

import codecs
import io
import sys

from fusepkg.work.descriptors import open_standard_streams

_NAMES = "fusepkg-names"
"""How the error handler below is registered."""


def prepare_streams() -> None:
    """Open standard streams that are closed, and let every name be printed. Must run before anything is opened."""
    open_standard_streams()
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
