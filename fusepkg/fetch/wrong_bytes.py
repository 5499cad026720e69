"""What becomes of bytes that are not what the manifest says.

Owns: how often they are asked for again, and the error. Must not know: an event loop; programs without one fetch too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import DigestMismatch

if TYPE_CHECKING:
    from fusepkg.model.entry import Entry

MISMATCH_TRIES = 2
"""Fetches of an object whose bytes are wrong, before giving up: the damage may lie in the transfer."""


def mismatch(entry: Entry) -> DigestMismatch:
    """The error for bytes that are not an entry's."""
    return DigestMismatch(
        f"{entry.physical_key} does not hold the {entry.size} bytes that the manifest names as {entry.digest}",
        hint="The object was changed, truncated or replaced; restore it, or push the file again",
    )
