"""Mounting a disk image: the kernel reads names and bytes from one file, and no process stands in between."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fusepkg.engines import kernel
from fusepkg.engines.erofs_mount import ErofsDevice, exchange_erofs, mount_erofs
from fusepkg.engines.mounting import EngineChoice, RunningMount
from fusepkg.errors import EngineUnavailable, NotMounted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fusepkg.engines.mounting import MountOptions
    from fusepkg.index.opening import Index

CHECK_MOUNTED_S = 1.0
"""How often it is looked whether the image is still mounted: nothing tells, for no session ends."""

_SCRATCH = "/run"


def require_local_image() -> None:
    """Raise EngineUnavailable where this kernel or user cannot mount a disk image."""
    reason = kernel.why_no_erofs()
    if reason is not None:
        raise EngineUnavailable(f"a disk image cannot be mounted here: {reason}", hint="Leave out --local-image")


@asynccontextmanager
async def image_mounted(
    image: Path, make_image: Callable[[Index], Path], options: MountOptions, is_mounted: Callable[[], bool]
) -> AsyncIterator[RunningMount]:
    """Mount a disk image; inside the block it is usable.

    ``make_image`` gives the image of a version to switch to, and blocks; ``is_mounted`` tells whether it still is.
    Leaving the block unmounts where it still is mounted, lazily. Raises MountError.
    """
    running = RunningMount()
    running.choice = EngineChoice("image", "a disk image of this machine, which the kernel reads by itself")
    running.facts, running.descriptors = dict, dict
    mount = partial(mount_erofs, _device(image, options.source), options.mountpoint)
    await trio.to_thread.run_sync(mount)

    async def show(index: Index, source_name: str, root_xattrs: dict[str, str]) -> None:
        image = await trio.to_thread.run_sync(make_image, index)
        await trio.to_thread.run_sync(_exchange, _device(image, source_name), options.mountpoint)

    running.show = show
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, running, is_mounted)
        yield running
        nursery.cancel_scope.cancel()
    if not running.ended.is_set():
        with suppress(NotMounted):  # somebody was faster
            kernel.detach(options.mountpoint)


def _device(image: Path, name: str) -> ErofsDevice:
    return ErofsDevice(image, None, name, Path(_SCRATCH))


def _exchange(device: ErofsDevice, mountpoint: Path) -> None:
    top = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        exchange_erofs(device, mountpoint, top)
    finally:
        os.close(top)


async def _watch(running: RunningMount, is_mounted: Callable[[], bool]) -> None:
    while is_mounted():  # noqa: ASYNC110 - the kernel tells a trio task of no change of its table
        await trio.sleep(CHECK_MOUNTED_S)
    running.ended.set()
