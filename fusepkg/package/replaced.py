"""Where an object lies now, if a push has healed its version since the index here was built.

The top hash does not cover places, so a healed version keeps its name, and an index built before names the old ones.
Once an object is found missing or damaged, its manifest is read again, and the index here is brought up to date.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import weakref
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError
from fusepkg.index.build import rebuild_index
from fusepkg.index.files import MANIFEST
from fusepkg.package.open import open_package
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.package.open import OpenedPackage
    from fusepkg.registry.resolve import Resolved
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

PAUSE_S = 10.0
"""How long, at least, what a manifest said last is believed: it is not read for each of many damaged objects."""

_PAUSE_PER_READING = 20
"""The same in units of what reading it took: a million entries take a quarter of a minute."""


@dataclass(slots=True)
class _Version:
    """A version that was opened; ``newer`` is another manifest that it has now, ``again_s`` when to look next."""

    resolved: Resolved
    index_root: Path
    index: weakref.ref[Index]
    newer: Index | None = None
    again_s: float = 0.0


class ReplacedPlaces:
    """The opened versions of one registry. Safe for many threads. ``store`` is the registry's."""

    def __init__(self, store: ObjectStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._versions: list[_Version] = []

    def note(self, opened: OpenedPackage) -> None:
        """Note a version whose objects may be asked for, for as long as somebody has its index open."""
        with self._lock:
            self._versions = [version for version in self._versions if version.index() is not None]
            self._versions.append(_Version(opened.resolved, opened.index_root, weakref.ref(opened.index)))

    def find(self, entry: Entry) -> PhysicalKey | None:
        """Return where the entry's bytes lie by the manifest as it is now; None if that says nothing new. Blocks."""
        with self._lock:
            for version in self._versions:
                index = version.index()
                if index is None or _place_in(index, entry) != entry.physical_key:
                    continue
                self._read_again(version, index)
                place = None if version.newer is None else _place_in(version.newer, entry)
                if place not in (None, entry.physical_key):
                    return place
        return None

    def _read_again(self, version: _Version, index: Index) -> None:
        began_s = self._clock()
        if began_s < version.again_s:
            return
        resolved = version.resolved
        reference = replace(resolved.reference, top_hash=resolved.top_hash)
        try:
            with tempfile.TemporaryDirectory(prefix="fusepkg-index-") as scratch:
                newer = open_package(self._store, resolved, Path(scratch), lambda *_: None).index
                pairs = zip(index.entries, newer.entries, strict=True)
                if any(one.physical_key != other.physical_key for one, other in pairs):
                    version.newer = newer  # it stays readable
                    log.warning("the manifest of %s names other objects now; they are read instead", reference)
                    with suppress(FusepkgError, OSError):
                        rebuild_index(version.index_root, newer.top_hash, newer.directory / MANIFEST)
        except (FusepkgError, OSError) as exc:
            log.warning("the manifest of %s cannot be read again: %s", reference, exc)
        ended_s = self._clock()
        version.again_s = ended_s + max(PAUSE_S, _PAUSE_PER_READING * (ended_s - began_s))


def _place_in(index: Index, entry: Entry) -> PhysicalKey | None:
    """Return where an index says that an entry's bytes lie; None if it has no such entry."""
    wanted = place_of(entry.logical_key)
    entries = index.entries
    number = bisect_left(range(len(entries)), wanted, key=lambda at: place_of(entries.logical_key(at)))
    if number == len(entries):
        return None
    found = entries.entry(number)
    return found.physical_key if (found.logical_key, found.digest) == (entry.logical_key, entry.digest) else None
