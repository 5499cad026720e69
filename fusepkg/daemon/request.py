"""What a mount is asked to be: plain values, made by the command line, read by the daemon.

Owns: the request and the events a starting daemon reports. Must not know: how either is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from fusepkg.daemon.records import MountRecord

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.fetch.caching import CacheSettings
    from fusepkg.model.reference import Reference
    from fusepkg.store.s3 import S3Settings


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One mount to make. ``engine`` is ``auto``, ``erofs`` or ``fuse``."""

    reference: Reference
    mountpoint: Path
    engine: str
    allow_other: bool
    cache_dir: Path
    cache: CacheSettings
    data_dir: Path
    s3: S3Settings
    debug: bool


class Step(msgspec.Struct, frozen=True, tag="step"):
    """A starting mount is busy with ``what``; ``total`` is 0 where the end is not known."""

    what: str
    done: int = 0
    total: int = 0


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The directory is usable. ``warning`` says what is not as it should be, empty where all is."""

    record: MountRecord
    warning: str = ""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The mount could not be made."""

    code: str
    message: str
    hint: str


Event = Step | Ready | Failed
