"""What a mount's worker leaves to the next one: plain values."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import msgspec

from fusepkg.daemon.records import MountRecord

if TYPE_CHECKING:
    from fusepkg.daemon.request import MountRequest


class Coming(msgspec.Struct, frozen=True):
    """A version that a worker was about to show."""

    reference: str
    top_hash: str


class Handover(msgspec.Struct, frozen=True):
    """What a worker leaves to the next one. ``engine`` is the RunningMount's ``facts``, ``request`` is pickled."""

    request: bytes
    record: MountRecord
    engine: dict[str, Any]
    coming: Coming | None = None

    def now(self, device: str) -> Handover:
        """Return the same, as it is by what the kernel shows: the worker may have died just before or after a switch.

        ``device`` is that of what is mounted.
        """
        if self.coming is None:
            return self
        if device == self.record.device:
            pairs = {"pairs": self.engine["pairs"][:-1]} if "pairs" in self.engine else {}
            return msgspec.structs.replace(self, coming=None, engine=self.engine | pairs)
        coming = self.coming
        record = msgspec.structs.replace(
            self.record, reference=coming.reference, top_hash=coming.top_hash, device=device
        )
        return msgspec.structs.replace(self, coming=None, record=record)

    def mount_request(self) -> MountRequest:
        """Return what the mount was asked to be."""
        request: MountRequest = pickle.loads(self.request)  # by a process of ours
        return request
