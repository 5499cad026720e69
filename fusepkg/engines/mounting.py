"""Running a mount: choose the engine, make the mount, serve it until it ends.

Owns: the life of one FUSE session, from pyfuse3.init to its end, for both engines. Must not know: how bytes are
found, how a daemon is started or asked.

One session per process: a second ``pyfuse3.init`` in a process hangs. Everything runs on one trio thread, but the
mount(2) of EROFS, which blocks on our own answers and so has a thread of its own.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from fusepkg.engines import kernel
from fusepkg.engines.device_operations import DATA_NAME, IMAGE_NAME, DeviceOperations
from fusepkg.engines.handlers import ReadOnlyOperations
from fusepkg.engines.helper_words import keep_words
from fusepkg.engines.tree_operations import TreeOperations
from fusepkg.engines.xattrs import XattrSource
from fusepkg.errors import EngineUnavailable, MountFailed, NotMounted
from fusepkg.fetch.source import BlobSource
from fusepkg.index.opening import Index
from fusepkg.vfs.device import DataDevice, ImageFile, RootOwner
from fusepkg.vfs.tree import PackageTree

log = logging.getLogger(__name__)

ENGINES = ("auto", "erofs", "fuse")

MAX_REQUESTS = 64
"""FUSE requests answered at a time; the kernel holds back readahead long before that."""

_FS_NAME = "fusepkg"

_HIDDEN_PARENTS = ("/run", "/tmp", "/dev/shm")
"""Where the hidden mount is for a moment: not $TMPDIR, whose name may hold a comma, which ends a mount option."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, and why it was chosen in words for the user."""

    engine: str
    reason: str


def choose_engine(asked: str) -> EngineChoice:
    """Check that the engine asked for can run, or pick the best that can. Raises EngineUnavailable."""
    no_erofs, no_fuse = kernel.why_no_erofs(), kernel.why_no_fuse()
    if asked == "erofs" and no_erofs is not None:
        then = "`--engine fuse` works here" if no_fuse is None else f"The fuse engine does not work either: {no_fuse}"
        raise EngineUnavailable(f"the erofs engine cannot run here: {no_erofs}", hint=then)
    if asked == "erofs" or (asked == "auto" and no_erofs is None):
        return EngineChoice(
            "erofs", "asked for" if asked == "erofs" else "root and a kernel that mounts EROFS from files"
        )
    if no_fuse is not None:
        raise EngineUnavailable(f"nothing can be mounted here: {no_fuse}")
    return EngineChoice("fuse", "asked for" if asked == "fuse" else f"erofs cannot run: {no_erofs}")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the user may set on a mount."""

    mountpoint: Path
    engine: str
    allow_other: bool


@asynccontextmanager
async def mounted(
    index: Index, source: BlobSource, options: MountOptions, facts: dict[str, str]
) -> AsyncIterator[trio.Event]:
    """Mount a package; inside the block it is usable. Gives an event set when the mount has ended by itself.

    Leaving the block unmounts (lazily, so that a reader is cut off rather than waited for) where it still is mounted.
    ``facts`` are shown as extended attributes of the root. Raises EngineUnavailable, MountFailed.
    """
    owner = RootOwner(stat.S_IFDIR | (0o555 if options.allow_other else 0o500), os.geteuid(), os.getegid())
    serve = _erofs if options.engine == "erofs" else _fuse
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        async with serve(index, source, options, facts, owner, nursery, ended):
            yield ended
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _fuse(
    index: Index,
    source: BlobSource,
    options: MountOptions,
    facts: dict[str, str],
    owner: RootOwner,
    nursery: trio.Nursery,
    ended: trio.Event,
) -> AsyncIterator[None]:
    tree = PackageTree(index)
    ready = trio.Event()
    operations = TreeOperations(tree, source, XattrSource(tree, source, facts), owner, ready.set)
    flags = {"default_permissions", "ro", f"fsname={_FS_NAME}", f"subtype={_FS_NAME}"}
    if options.allow_other:
        flags.add("allow_other")
    _init_session(operations, options.mountpoint, flags)
    nursery.start_soon(_serve, ended)
    await ready.wait()
    try:
        yield
    finally:
        if not ended.is_set():
            with suppress(NotMounted):  # somebody was faster
                kernel.unmount(options.mountpoint, lazy=True)
            with trio.move_on_after(1, shield=True):
                await ended.wait()


@asynccontextmanager
async def _erofs(
    index: Index,
    source: BlobSource,
    options: MountOptions,
    _facts: dict[str, str],
    owner: RootOwner,
    nursery: trio.Nursery,
    ended: trio.Event,
) -> AsyncIterator[None]:
    ready = trio.Event()
    operations = DeviceOperations(ImageFile(index.image, owner), DataDevice(index, source), ready.set)
    hidden = _hidden_directory()
    try:
        _init_session(operations, hidden, {"ro", f"fsname={_FS_NAME}", f"subtype={_FS_NAME}"})
        try:
            nursery.start_soon(_serve, ended)
            await ready.wait()
            await trio.to_thread.run_sync(kernel.allow_background, hidden, MAX_REQUESTS)
            await trio.to_thread.run_sync(
                kernel.mount_erofs, hidden / IMAGE_NAME, hidden / DATA_NAME, options.mountpoint
            )
        finally:
            # EROFS holds the two files open from here on; without it, this ends the session.
            kernel.detach(hidden)
    finally:
        os.rmdir(hidden)
    try:
        yield
    finally:
        if not ended.is_set():
            kernel.detach(options.mountpoint)
            with trio.move_on_after(1, shield=True):
                await ended.wait()


def _hidden_directory() -> Path:
    """Make a directory for the hidden mount where one can be made. Raises MountFailed."""
    reasons = []
    for parent in _HIDDEN_PARENTS:
        try:
            return Path(tempfile.mkdtemp(prefix=kernel.HIDDEN_PREFIX, dir=parent))
        except OSError as exc:
            reasons.append(f"{parent}: {exc.strerror}")
    raise MountFailed(
        f"no directory can be made for the mount below the package: {'; '.join(reasons)}",
        hint="Make one of them writable, or use `--engine fuse`",
    )


def _init_session(operations: ReadOnlyOperations, mountpoint: Path, flags: set[str]) -> None:
    words: list[str] = []
    try:
        with keep_words(words):
            pyfuse3.init(operations, str(mountpoint), flags)
    except RuntimeError as exc:
        said = "; ".join(words) or str(exc)
        hint = "`fusepkg doctor` tells what this machine lacks"
        if "allow_other" in flags and os.geteuid() != 0:
            hint = "--allow-other for ordinary users needs the line `user_allow_other` in /etc/fuse.conf"
        raise MountFailed(f"mounting at {mountpoint} failed: {said}", hint=hint) from exc


async def _serve(ended: trio.Event) -> None:
    try:
        await pyfuse3.main(max_tasks=MAX_REQUESTS)
        log.info("unmounted")
    finally:
        ended.set()
        with suppress(RuntimeError):
            pyfuse3.close(unmount=False)
