"""Phases and counters of long work, passed to a callback."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Phase(enum.Enum):
    """A phase of long work; the value is shown to people."""

    SCAN = "scanning"
    HASH = "hashing"
    UPLOAD = "uploading"
    PACK = "packing"
    MANIFEST = "writing the manifest"
    TAG = "moving the tag"
    CHECK = "checking"
    DOWNLOAD = "downloading"
    EMBED = "embedding"
    CHOOSE = "choosing"
    EXTRACT = "extracting frames"


@dataclass(frozen=True, slots=True)
class Progress:
    """Numbers of one phase. ``total`` and ``total_bytes`` are 0 where they are not known yet."""

    phase: Phase
    done: int
    total: int
    done_bytes: int
    total_bytes: int


ProgressCallback = Callable[[Progress], None]
"""Called from the thread that pushes, often: at the start and end of a phase and after each piece of work."""


def no_progress(_progress: Progress) -> None:
    """Do nothing: the callback of callers that show no progress."""


class PhaseCounters:
    """Counts one phase and tells the callback; used by one thread."""

    __slots__ = ("_callback", "_done", "_done_bytes", "_phase", "_total", "_total_bytes")

    def __init__(self, callback: ProgressCallback, phase: Phase, *, total: int = 0, total_bytes: int = 0) -> None:
        self._callback = callback
        self._phase = phase
        self._total = total
        self._total_bytes = total_bytes
        self._done = self._done_bytes = 0
        self.add(0, 0)

    def add(self, done: int, done_bytes: int) -> None:
        """Add finished items and bytes."""
        self._done += done
        self._done_bytes += done_bytes
        self._callback(Progress(self._phase, self._done, self._total, self._done_bytes, self._total_bytes))
