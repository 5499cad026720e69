"""One entry of a version in the making, for Python programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusepkg.publish.draft.entry_sources import DraftEntry


class BuilderEntry:
    """What one entry is so far; ``logical_key`` is its name."""

    __slots__ = ("_entry", "logical_key")

    def __init__(self, entry: DraftEntry) -> None:
        self._entry = entry
        self.logical_key = entry.logical_key

    def __repr__(self) -> str:
        return f"BuilderEntry({self.logical_key!r})"

    def __str__(self) -> str:
        return self.logical_key

    @property
    def physical_key(self) -> str:
        """Where its bytes lie now: a file of this machine, or an object."""
        return str(self._entry.physical_key)

    @property
    def physical_keys(self) -> list[str]:
        """The same in a list."""
        return [self.physical_key]

    @property
    def size(self) -> int:
        """In bytes."""
        return self._entry.size

    @property
    def hash(self) -> str | None:
        """Algorithm and value; None until the manifest is built."""
        digest = self._entry.digest
        return None if digest is None else str(digest)

    @property
    def meta(self) -> dict[str, Any]:
        """Its metadata. A copy: change them with ``set_meta``."""
        return self._entry.user_meta

    @property
    def metadata(self) -> dict[str, Any]:
        """Another name of ``meta``."""
        return self.meta
