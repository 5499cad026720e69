"""What a mount is asked to be, and the events a starting daemon reports: plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from fusepkg.daemon.records import MountRecord, View

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.app.settings import Settings
    from fusepkg.model.reference import Reference


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One mount to make. ``engine`` is ``auto``, ``erofs`` or ``fuse``; ``times`` one of ``TIMES``.

    ``prefetch`` has the paths whose files are fetched at once (``all``: everything), ``prefetch_rate`` how many bytes
    of them in a second; ``follow`` is a tag to follow. ``owner`` is the process with which the mount ends, however that
    ends; 0: it ends with none. Directories of ``made_for_it``, the innermost first, are then removed.

    A ``supervised`` mount outlives its process. With ``xattrs`` the ``fuse`` engine answers for extended attributes.
    """

    reference: Reference
    mountpoint: Path
    settings: Settings
    engine: str = "auto"
    allow_other: bool = False
    times: str = "content"
    follow: str | None = None
    supervised: bool = False
    prefetch: tuple[str, ...] = ()
    prefetch_rate: int | None = None
    owner: int = 0
    made_for_it: tuple[Path, ...] = ()
    xattrs: bool = False
    local_image: bool = False
    """The kernel reads a disk image of the version, which is made first; all of the package is fetched for it."""
    replay: str = ""
    """The access profile that is fetched by; empty: none."""
    workers: int | None = None
    """Processes that answer from the cache beside the one that fetches; None: none."""
    view: View | None = None
    """Of a view, whose hash ``reference`` has."""
    log: Path | None = None
    """The file that the mount's process logs to; None: the terminal."""

    @property
    def shown(self) -> str:
        """The reference as people know it."""
        return self.view.reference if self.view else str(self.reference)

    def in_background(self) -> MountRequest:
        """Return the same request for a process of its own, with a log file. Raises ControlError."""
        from fusepkg.daemon.logs import log_path_for  # here: commands that mount nothing write no log

        mountpoint = self.mountpoint.absolute()
        return replace(self, mountpoint=mountpoint, log=log_path_for(self.settings.cache_dir, mountpoint))


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
