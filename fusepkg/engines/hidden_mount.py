"""The hidden FUSE mount of the ``erofs`` engine: it offers versions, and shows one of them at the user's directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from fusepkg.engines import erofs_mount
from fusepkg.engines.device_operations import DATA_NAME, IMAGE_NAME, DeviceOperations, file_name
from fusepkg.engines.erofs_mount import ErofsDevice
from fusepkg.vfs.device import DataDevice, ImageFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.engines.shared import SharedMemory
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.index.opening import Index
    from fusepkg.vfs.device import RootOwner


class HiddenMount:
    """Its root is held by a descriptor, ``root``, because the mount is nowhere in the tree once EROFS is mounted.

    ``scratch`` is a directory for short-lived links. ``on_change`` hears when ``facts`` have changed, ``on_closed``
    when the root is let go because EROFS uses nothing any more: then the session ends.
    """

    def __init__(
        self,
        on_ready: Callable[[], None],
        nursery: trio.Nursery,
        reader: EntryReader,
        owner: RootOwner,
        time_s: int | None,
        scratch: Path,
        shared: SharedMemory,
    ) -> None:
        self.root = -1
        self.on_change: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None
        # The session ends in a task of its own, so that EROFS gets its answer before.
        self.operations = DeviceOperations(
            on_ready, lambda: self.on_change(), lambda: nursery.start_soon(self._close_later), shared
        )
        self._reader = reader
        self._owner = owner
        self._time_s = time_s
        self._scratch = scratch

    def open_root(self, place: Path) -> None:
        """Hold the root of the mount. Blocks: it asks ourselves."""
        self.root = _opened_root(place)

    def close_root(self) -> None:
        """Let it go."""
        if self.root >= 0:
            os.close(self.root)
            self.root = -1
            self.on_closed()

    async def _close_later(self) -> None:
        self.close_root()

    def offer(self, index: Index) -> int:
        """Offer the two files of a version; return its number."""
        return self.operations.add(*self._files(index), index)

    def restore(self, facts: dict[str, Any], open_version: Callable[[str], Index]) -> None:
        """Offer again what another process offered, by its ``facts``. Raises what ``open_version`` does."""
        for number, top_hash, in_use in facts["pairs"]:
            index = open_version(top_hash)
            self.operations.restore(number, *self._files(index), index, set(in_use))
        self.operations.next_number = facts["next"]

    def _files(self, index: Index) -> tuple[ImageFile, DataDevice]:
        return ImageFile(index, self._owner, self._time_s), DataDevice(index, self._reader)

    def device(self, place: Path, number: int, name: str) -> ErofsDevice:
        """What EROFS is mounted from; ``place`` is a path to the root."""
        image, data = (place / file_name(kind, number) for kind in (IMAGE_NAME, DATA_NAME))
        return ErofsDevice(image, data, name, self._scratch)

    async def show(self, mountpoint: Path, index: Index, name: str) -> None:
        """Show another version at the user's directory. Raises MountError; then nothing has changed."""
        number = self.offer(index)
        self.on_change()
        try:
            device = self.device(Path(f"/proc/self/fd/{self.root}"), number, name)
            await trio.to_thread.run_sync(_exchange, device, mountpoint)
        except BaseException:
            self.operations.remove(number)
            raise


def _opened_root(directory: Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _exchange(device: ErofsDevice, mountpoint: Path) -> None:
    top = _opened_root(mountpoint)
    try:
        erofs_mount.exchange_erofs(device, mountpoint, top)
    finally:
        os.close(top)
