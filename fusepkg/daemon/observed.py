"""What all mounts of this user are doing: their records, and what their daemons tell, asked side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.daemon import control
from fusepkg.daemon.records import read_records
from fusepkg.errors import FusepkgError

if TYPE_CHECKING:
    from fusepkg.daemon.records import MountRecord

ASKERS = 16
"""Daemons asked at once; one that does not answer holds up no other."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A mount, and its ``status``; None where its daemon gave none, and then why."""

    record: MountRecord
    facts: dict[str, Any] | None
    trouble: str = ""

    def counter(self, name: str) -> int:
        """One of its counters; 0 where there is no answer."""
        return int(self.facts["counters"].get(name, 0)) if self.facts else 0


def observe_mounts() -> list[Observed]:
    """Ask all mounts of this user, oldest first. A mount that ends meanwhile is told as one without an answer."""
    records = read_records()
    if not records:
        return []
    with ThreadPoolExecutor(min(ASKERS, len(records)), thread_name_prefix="fusepkg-ask") as askers:
        return list(askers.map(_observe, records))


def _observe(record: MountRecord) -> Observed:
    try:
        return Observed(record, control.ask(Path(record.socket), control.Question("status")))
    except FusepkgError as exc:
        return Observed(record, None, exc.message)
