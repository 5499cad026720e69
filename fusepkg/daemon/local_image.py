"""The disk images that mounts with --local-image are made of: one for each version, beside the cache."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from fusepkg.daemon.request import Step
from fusepkg.disk_image.metadata import image_size
from fusepkg.disk_image.write import find_damage, write_disk_image
from fusepkg.errors import SystemFailure, UsageError
from fusepkg.work.private import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusepkg.daemon.request import Event
    from fusepkg.fetch.blocking_reader import BlockingReader
    from fusepkg.index.opening import Index
    from fusepkg.work.progress import Progress

log = logging.getLogger(__name__)


def local_image(index: Index, reader: BlockingReader, directory: Path, announce: Callable[[Event], None]) -> Path:
    """Return the disk image of a version, every byte of it verified now: written, or read if it is there. Blocks.

    What is not in the cache is fetched. Raises SystemFailure where there is no room, and what reading raises.
    """
    make_private_directories(directory)
    file = directory / f"{index.top_hash}.erofs"

    def tell(what: str) -> Callable[[Progress], None]:
        return lambda progress: announce(Step(what, progress.done, progress.total))

    if file.exists():
        try:
            damaged = find_damage(index, file, progress=tell("Checking the disk image"))
        except UsageError as exc:  # another file, or one whose names are damaged
            damaged = [exc.message]
        if not damaged:
            return file
        log.warning("%s is written again, it is damaged: %s", file, damaged[0])
        file.unlink(missing_ok=True)
    _require_room(directory, image_size(index))
    write_disk_image(index, reader, file, progress=tell("Writing the disk image"))
    return file


def _require_room(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < size:
        raise SystemFailure(
            f"the disk image takes {size:,} bytes, and {directory} has room for {free:,}",
            hint="Free some space, name another --cache-dir, or leave out --local-image",
        )
