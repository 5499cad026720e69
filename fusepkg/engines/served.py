"""A session as this process serves it: the relay of an engine, pyfuse3 behind it, other processes beside it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from fusepkg.engines.answers import DeviceAnswers, TreeAnswers
from fusepkg.engines.relay import Relay
from fusepkg.engines.session_end import session_device, wait_for_session_end

if TYPE_CHECKING:
    from fusepkg.engines.crew import Crew
    from fusepkg.engines.device_operations import DeviceOperations
    from fusepkg.engines.shared import SharedMemory
    from fusepkg.engines.shown import ShownVersions
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.vfs.device import DataDevice, RootOwner

log = logging.getLogger(__name__)

MAX_REQUESTS = 512
"""FUSE requests answered at a time. Many may wait for a bucket that stalls, and those that the cache can answer must
not wait behind them. A request that waits is a task of some KB."""


def tree_relay(
    versions: ShownVersions, reader: EntryReader, owner: RootOwner, time_s: int | None, shared: SharedMemory
) -> Relay:
    """Return the relay of the ``fuse`` engine."""

    def read_at_once(version: Any, number: int, offset: int, length: int) -> bytes | None:  # noqa: ANN401 - Version
        return reader.read_at_once(version.tree.numbered_entry(number), offset, length)

    async def read(inode: int, offset: int, length: int) -> bytes:
        version, nid = versions.find_handle(inode)
        data = await reader.read(version.tree.entry(nid), offset, length)
        shared.watch(reader.watched)
        return data

    def note_read(which: int, number: int, offset: int, length: int) -> None:
        version = versions.find_open(which)
        if version is not None:
            reader.note_read(version.tree.numbered_entry(number), offset, length)
        shared.watch(reader.watched)

    current = lambda: versions.current.number  # noqa: E731
    return Relay(TreeAnswers(versions.find_open, current, read_at_once, owner, time_s), read, note_read)


def device_relay(operations: DeviceOperations, reader: EntryReader, shared: SharedMemory) -> Relay:
    """Return the relay of the ``erofs`` engine."""

    def read_at_once(_inode: int, device: DataDevice, offset: int, length: int) -> bytes | None:
        def part(number: int, start: int, count: int) -> bytes | None:
            return reader.read_at_once(device.entry(number), start, count)

        return device.read_at_once(offset, length, part)

    async def read(inode: int, offset: int, length: int) -> bytes:
        data = await operations.read_file(inode, offset, length)
        shared.watch(reader.watched)
        return data

    def note_read(which: int, number: int, offset: int, length: int) -> None:
        device = operations.device(which)
        if device is not None:
            reader.note_read(device.entry(number), offset, length)
        shared.watch(reader.watched)

    return Relay(DeviceAnswers(operations.file, read_at_once), read, note_read)


async def serve_session(relay: Relay | None, ended: trio.Event) -> None:
    """Serve the session of this process until it ends; then set ``ended``."""
    try:
        if relay is None:
            await pyfuse3.main(max_tasks=MAX_REQUESTS)
        else:
            await _serve_by(relay)
        log.info("the session has ended")
    finally:
        with suppress(RuntimeError):
            pyfuse3.close(unmount=False)
        if relay is not None:
            relay.close()
        ended.set()


async def _serve_by(relay: Relay) -> None:
    async with trio.open_nursery() as nursery:

        async def serve_by_pyfuse3() -> None:
            await pyfuse3.main(max_tasks=MAX_REQUESTS)
            nursery.cancel_scope.cancel()  # the session ended, perhaps before it began

        nursery.start_soon(serve_by_pyfuse3)
        await relay.has_begun.wait()
        relay.start(nursery)
        await wait_for_session_end()
        nursery.cancel_scope.cancel()


def on_init(relay: Relay | None, ready: trio.Event) -> None:
    """Do what is to be done on INIT: from then on a relay stands between the kernel and pyfuse3, if there is one."""
    if relay is not None:
        relay.take_over(session_device())
    ready.set()


def device_of(relay: Relay | None) -> int:
    """Return the descriptor of the session of this process."""
    return session_device() if relay is None else relay.device


def let_others_serve(
    crew: Crew,
    relay: Relay | None,
    engine: str,
    reader: EntryReader,
    owner: RootOwner,
    time_s: int | None,
    nursery: trio.Nursery,
) -> None:
    """Let the other processes of the mount answer from the cache, from now on; none, if there is no relay."""
    if relay is None:
        return
    if crew.size:
        reader.let_others_read()
    reader.on_watched = crew.shared.watch
    crew.shared.watch(reader.watched)
    cache = reader.cache
    told = {
        "engine": engine,
        "owner": [owner.mode, owner.uid, owner.gid],
        "time_s": time_s,
        "cache": None if cache is None else str(cache.directory),
    }
    crew.start(relay, told, nursery)
