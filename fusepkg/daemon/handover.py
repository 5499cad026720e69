"""What a mount's worker leaves to the next one: plain values.

The next one may have been started from a newer fusepkg, whose settings and requests have other fields. So they are
written with the names of their fields: what the next one does not know is left out, what it does not find has its
default.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
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
    """What a worker leaves to the next one. ``engine`` is the RunningMount's ``facts``, ``request`` by ``plain``."""

    request: dict[str, Any]
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
        request: MountRequest = restored(self.request)
        return request


def plain(value: Any) -> Any:  # noqa: ANN401 - any value that a request holds
    """Return a request, or what is in one, as JSON has it: objects of ours with their class and their fields' names."""
    if is_dataclass(value):
        names = [field.name for field in fields(value)]
    elif isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    elif isinstance(value, Path):
        return {"path": str(value)}
    elif isinstance(value, tuple):
        return {"items": [plain(one) for one in value]}
    else:
        return value
    kind = type(value)
    return {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "fields": {name: plain(getattr(value, name)) for name in names},
    }


def restored(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return what ``plain`` was given. ``value`` comes from a process of ours."""
    if not isinstance(value, dict):
        return value
    if "path" in value:
        return Path(value["path"])
    if "items" in value:
        return tuple(restored(one) for one in value["items"])
    module, _, name = value["class"].partition(":")
    kind = getattr(import_module(module), name)
    known = [field.name for field in fields(kind)] if is_dataclass(kind) else kind.__struct_fields__
    return kind(**{name: restored(one) for name, one in value["fields"].items() if name in known})
