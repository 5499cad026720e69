"""Memory that the processes of one mount share: the first writes which versions it shows, each writes its own counters.

Each number has one writer, so there are no locks. A reader may see a counter just before or just after it changes; the
versions are read again if they changed meanwhile.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = 1000
"""Versions of a mount whose uses are counted; requests for later ones go to the first process."""

_GENERATION, _WATCHING, _LENGTH = 0, 1, 2
"""Places of the first numbers, 8 bytes each: changes of the versions, which reads to report, bytes of the JSON."""

_FACTS_AT, _FACTS_END = 64, 256 * 1024

_HITS, _SERVED, _USES = 0, 1, 2
_SLOT = 1024
"""Numbers of one process: reads answered, their bytes, and uses of each version."""


class SharedMemory:
    """The memory as one process sees it; ``slot`` is the part it writes to, 0 for the first process."""

    def __init__(self, descriptor: int, slot: int, slots: int) -> None:
        self.descriptor = descriptor
        self._first = _FACTS_END // 8 + slot * _SLOT
        self._slots = slots
        self._map = mmap.mmap(descriptor, _FACTS_END + slots * _SLOT * 8)
        self._numbers = memoryview(self._map).cast("q")

    @classmethod
    def created(cls, slots: int) -> SharedMemory:
        """Make the memory for ``slots`` processes, as the first of them. Raises OSError."""
        descriptor = os.memfd_create("fusepkg-mount", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _FACTS_END + slots * _SLOT * 8)
        return cls(descriptor, 0, slots)

    # --- what is shown ---------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Changes with what is shown."""
        return self._numbers[_GENERATION]

    def publish(self, facts: dict[str, Any]) -> bool:
        """Tell the other processes what is shown; return False if it is more than fits."""
        text = json.dumps(facts).encode()
        if len(text) > _FACTS_END - _FACTS_AT:
            return False
        self._numbers[_GENERATION] += 1  # odd: not to be read
        self._map[_FACTS_AT : _FACTS_AT + len(text)] = text
        self._numbers[_LENGTH] = len(text)
        self._numbers[_GENERATION] += 1
        return True

    def facts(self) -> tuple[int, dict[str, Any]]:
        """Return what is shown, with its generation; nothing, and -1, in the middle of a change."""
        before = self._numbers[_GENERATION]
        text = bytes(self._map[_FACTS_AT : _FACTS_AT + self._numbers[_LENGTH]])
        if before % 2 or self._numbers[_GENERATION] != before:
            return -1, {}
        return before, json.loads(text or b"{}")

    # --- what was done ---------------------------------------------------------------------------------------

    @property
    def watched(self) -> int:
        """Which reads to report to the first process (``Watched``)."""
        return self._numbers[_WATCHING]

    def watch(self, wanted: int) -> None:
        """Set which reads to report to this process, the first."""
        self._numbers[_WATCHING] = wanted

    def count_read(self, count: int) -> None:
        """Count a read that this process has answered."""
        self._numbers[self._first + _HITS] += 1
        self._numbers[self._first + _SERVED] += count

    def use(self, version: int, more: int) -> None:
        """Count uses of a version that have begun in this process, or ended (negative)."""
        self._numbers[self._first + _USES + version] += more

    def reads(self) -> tuple[int, int]:
        """Return how many reads all processes have answered, and their bytes."""
        return self._sum(_HITS), self._sum(_SERVED)

    def uses(self, version: int) -> int:
        """Return how many uses of a version, over all processes, the kernel has not released."""
        return self._sum(_USES + version)

    def _sum(self, place: int) -> int:
        first = _FACTS_END // 8 + place
        return sum(self._numbers[first + slot * _SLOT] for slot in range(self._slots))


def publish_versions(shared: SharedMemory, versions: dict[int, tuple[str, Path]], current: int) -> None:
    """Tell the other processes which versions are open: hash and directory of the index, by number."""
    facts = {number: (top_hash, str(directory)) for number, (top_hash, directory) in versions.items()}
    if not shared.publish({"versions": facts, "current": current}):
        shared.publish({"versions": {}, "current": current})
