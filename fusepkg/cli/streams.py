"""Make standard output accept every file name, in any encoding."""

from __future__ import annotations

import codecs
import io
import sys

from fusepkg.work.descriptors import open_standard_streams

_NAMES = "fusepkg-names"
"""How the error handler below is registered."""


def prepare_streams() -> None:
    """Open closed standard streams, and make every name printable. Call it before any file is opened."""
    open_standard_streams()
    codecs.register_error(_NAMES, _printable)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_NAMES)


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Print file names as their bytes; escape characters that the encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    encoded = b"".join(
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in text
    )
    return encoded, error.end
