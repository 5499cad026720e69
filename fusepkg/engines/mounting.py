"""Running a mount: choose the engine, make the mount, serve it until it ends.

A process has one FUSE session at a time. Everything runs on one trio thread, but the mount(2) of EROFS, which blocks on
our own answers and so has a thread of its own.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyfuse3
import trio

from fusepkg.engines import erofs_mount, kernel, notifications
from fusepkg.engines.crew import Crew
from fusepkg.engines.forgetting import Forgetting, ForgettingProcess, OwnForgetting
from fusepkg.engines.handlers import ReadOnlyOperations
from fusepkg.engines.helper_words import keep_words
from fusepkg.engines.hidden_mount import HiddenMount
from fusepkg.engines.served import (
    MAX_REQUESTS,
    device_of,
    device_relay,
    let_others_serve,
    on_init,
    serve_session,
    tree_relay,
)
from fusepkg.engines.session import resume_session
from fusepkg.engines.shown import ShownVersions
from fusepkg.engines.tree_operations import TreeOperations
from fusepkg.errors import EngineUnavailable, MountError, MountFailed, NotMounted
from fusepkg.fetch.reader import EntryReader
from fusepkg.index.opening import Index
from fusepkg.vfs.device import RootOwner

log = logging.getLogger(__name__)

ENGINES = ("auto", "erofs", "fuse")

_FS_TYPE = "fusepkg"

_HIDDEN_PARENTS = ("/run", "/tmp", "/dev/shm")
"""Where the hidden mount is for a moment: not $TMPDIR, whose name may hold a comma, which ends a mount option."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, and why it was chosen in words for the user.

    ``may_fall_back`` is True for ``erofs`` that the user has not asked for, where ``fuse`` can run too.
    """

    engine: str
    reason: str
    may_fall_back: bool = False


def choose_engine(asked: str) -> EngineChoice:
    """Check that the engine asked for can run, or pick the best that can. Raises EngineUnavailable."""
    no_erofs, no_fuse = kernel.why_no_erofs(), kernel.why_no_fuse()
    if asked == "erofs" and no_erofs is not None:
        then = "`--engine fuse` works here" if no_fuse is None else f"The fuse engine does not work either: {no_fuse}"
        raise EngineUnavailable(f"the erofs engine cannot run here: {no_erofs}", hint=then)
    if asked == "erofs":
        return EngineChoice("erofs", "asked for")
    if asked == "auto" and no_erofs is None:
        return EngineChoice("erofs", "root and a kernel that mounts EROFS from files", may_fall_back=True)
    if no_fuse is not None:
        raise EngineUnavailable(f"nothing can be mounted here: {no_fuse}")
    return EngineChoice("fuse", "asked for" if asked == "fuse" else f"erofs cannot run: {no_erofs}")


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What a mount is to be. ``source`` is the package's name, which df(1) shows.

    ``time_s`` is the time of all files and directories; None: each has the one of its content. ``xattrs``: extended
    attributes are answered for, where the engine can.
    """

    mountpoint: Path
    source: str
    allow_other: bool = False
    time_s: int | None = None
    xattrs: bool = False


class RunningMount:
    """A mount that is usable, and the engine that made it. ``ended`` is set when the mount has ended by itself."""

    def __init__(self) -> None:
        self.choice = EngineChoice("", "")
        self.ended = trio.Event()
        self.is_announced = False
        """To be set once programs may use the mount: from then on a failure leaves it there, and readers get errors.
        An empty directory in its place would look like an empty dataset."""
        self.show: ShowVersion
        """Show another version of the package at the same place. What is opened from then on is of that version; what
        is open stays as it is. Raises MountFailed; then everything is as it was."""
        self.get_ready: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Start what ``show`` needs, so that it takes milliseconds. Raises MountFailed."""
        self.is_kept: Callable[[], bool] = lambda: False
        """Tells whether another process takes this one's place when it dies."""
        self.facts: Callable[[], dict[str, object]]
        """What another process needs to go on serving, with ``descriptors``, by name."""
        self.descriptors: Callable[[], dict[str, int]]
        self.on_change: Callable[[], None] = lambda: None
        """Hears that ``facts`` have changed, before the kernel hears of what changed them."""
        self.on_root_closed: Callable[[], None] = lambda: None
        """Hears that the descriptor ``root`` was closed: any copy of it keeps the session from ending."""


class ShowVersion(Protocol):
    """What ``RunningMount.show`` is."""

    async def __call__(self, index: Index, source_name: str, root_xattrs: dict[str, str]) -> None:
        """Show that version; df(1) then shows ``source_name``, if the engine can change it."""
        ...


@dataclass(frozen=True, slots=True)
class LeftSession:
    """What a process has left of a mount: ``facts`` and ``descriptors`` of its RunningMount. ``root`` may be -1."""

    facts: dict[str, Any]
    device: int
    root: int


@asynccontextmanager
async def mounted(
    index: Index,
    reader: EntryReader,
    choice: EngineChoice,
    options: MountOptions,
    root_xattrs: dict[str, str],
    reopen: Callable[[str], Index | None] = lambda _: None,
    crew: Crew | None = None,
) -> AsyncIterator[RunningMount]:
    """Mount a package; inside the block it is usable.

    Leaving the block unmounts (lazily, so that a reader is cut off rather than waited for) where it still is mounted;
    leaving it by an error does not, once ``is_announced`` is set. ``root_xattrs`` are the root's extended attributes,
    without their prefix. ``reopen`` opens the index of a version that was shown before, by its top hash. Where erofs
    may fall back, whatever hinders it leads to fuse. ``crew`` are the processes that serve it too.

    Raises EngineUnavailable, MountFailed.
    """
    kernel.keep_memory_private()
    crew = crew or Crew([])
    async with trio.open_nursery() as nursery:
        running = RunningMount()
        running.choice = choice
        try:
            if choice.engine == "erofs":
                await _start_erofs(index, reader, options, running, nursery, crew)
            else:
                await _start_fuse(index, reader, options, root_xattrs, running, nursery, reopen, crew)
        except (MountError, OSError) as exc:
            if not choice.may_fall_back:
                raise
            with trio.move_on_after(10):
                await running.ended.wait()  # a process has one session at a time
            reason = exc.message if isinstance(exc, MountError) else str(exc)
            log.warning("erofs failed, mounting with fuse: %s", reason)
            running = RunningMount()
            running.choice = EngineChoice("fuse", f"erofs failed: {reason}")
            await _start_fuse(index, reader, options, root_xattrs, running, nursery, reopen, crew)
        del index  # a version lasts as long as it is shown or in use, and no longer
        try:
            yield running
        except BaseException:
            if running.is_announced:
                log.error("%s stays mounted: its readers get errors until it is unmounted", options.mountpoint)
            else:
                await _end(running, options.mountpoint)
            raise
        await _end(running, options.mountpoint)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def resumed(
    left: LeftSession,
    reader: EntryReader,
    choice: EngineChoice,
    options: MountOptions,
    root_xattrs: dict[str, str],
    open_version: Callable[[str], Index],
    crew: Crew | None = None,
) -> AsyncIterator[RunningMount]:
    """Go on serving a mount whose process has died; inside the block it is usable. What was asked and not answered is
    answered now (Linux 6.9).

    ``open_version`` opens the index of a version by its top hash. Leaving the block is as of ``mounted``. Raises what
    ``open_version`` raises.
    """
    kernel.keep_memory_private()
    crew = crew or Crew([])
    async with trio.open_nursery() as nursery:
        running = RunningMount()
        running.choice = choice
        running.is_announced = True
        ready = trio.Event()
        operations: ReadOnlyOperations
        if choice.engine == "erofs":
            scratch = next(Path(parent) for parent in _HIDDEN_PARENTS if os.access(parent, os.W_OK))
            owner = _erofs_owner(options)
            hidden = HiddenMount(ready.set, nursery, reader, owner, options.time_s, scratch, crew.shared)
            hidden.restore(left.facts, open_version)
            hidden.root = left.root
            operations = hidden.operations
            relay = device_relay(hidden.operations, reader, crew.shared) if crew.is_wanted else None
            _run_hidden(running, hidden, options, left.device)
        else:
            owner = _tree_owner(options)
            versions = ShownVersions(reader, open_version, crew.shared)
            versions.restore(left.facts, open_version, root_xattrs)
            operations = _tree_operations(versions, reader, options, ready.set)
            relay = tree_relay(versions, reader, owner, options.time_s, crew.shared) if crew.is_wanted else None
            _run_tree(running, versions, left.device, nursery)
        await resume_session(operations, ready, left.device, relay)
        nursery.start_soon(serve_session, relay, running.ended)
        if choice.engine == "fuse":
            notifications.forget_all_names(left.device)  # the process may have died in the middle of a switch
        let_others_serve(crew, relay, choice.engine, reader, owner, options.time_s, nursery)
        notifications.ask_again(left.device)
        try:
            yield running
        except BaseException:
            log.exception("%s stays mounted", options.mountpoint)
            raise
        await _end(running, options.mountpoint)
        nursery.cancel_scope.cancel()


async def _end(running: RunningMount, mountpoint: Path) -> None:
    if running.ended.is_set():
        return
    with suppress(NotMounted):  # somebody was faster
        if running.choice.engine == "erofs":
            kernel.detach(mountpoint)
        else:
            kernel.unmount(mountpoint, lazy=True)
    with trio.move_on_after(1, shield=True):
        await running.ended.wait()


def _root_owner(options: MountOptions, mode: int) -> RootOwner:
    return RootOwner(stat.S_IFDIR | (0o755 if options.allow_other else mode), os.geteuid(), os.getegid())


async def _start_fuse(
    index: Index,
    reader: EntryReader,
    options: MountOptions,
    root_xattrs: dict[str, str],
    running: RunningMount,
    nursery: trio.Nursery,
    reopen: Callable[[str], Index | None],
    crew: Crew,
) -> None:
    ready = trio.Event()
    versions = ShownVersions(reader, reopen, crew.shared)
    versions.show(versions.add(index, root_xattrs))
    owner = _tree_owner(options)
    relay = tree_relay(versions, reader, owner, options.time_s, crew.shared) if crew.is_wanted else None
    flags = {"default_permissions", *_flags(options)}
    if options.allow_other:
        flags.add("allow_other")
    operations = _tree_operations(versions, reader, options, lambda: on_init(relay, ready))
    _init_session(operations, options.mountpoint, flags)
    nursery.start_soon(serve_session, relay, running.ended)
    await ready.wait()
    await trio.to_thread.run_sync(kernel.allow_background, options.mountpoint, MAX_REQUESTS)
    _run_tree(running, versions, device_of(relay), nursery)
    let_others_serve(crew, relay, "fuse", reader, owner, options.time_s, nursery)


def _tree_owner(options: MountOptions) -> RootOwner:
    return _root_owner(options, 0o755)  # without allow_other the kernel keeps other users out, whatever the mode


def _tree_operations(
    versions: ShownVersions, reader: EntryReader, options: MountOptions, on_ready: Callable[[], None]
) -> TreeOperations:
    return TreeOperations(versions, reader, _tree_owner(options), options.time_s, on_ready, xattrs=options.xattrs)


def _run_tree(running: RunningMount, versions: ShownVersions, device: int, nursery: trio.Nursery) -> None:
    made: list[Forgetting] = []

    async def get_ready() -> None:
        if made:
            return
        kind = OwnForgetting if running.is_kept() else ForgettingProcess
        try:
            made.append(await trio.to_thread.run_sync(kind, device))
        except OSError as exc:
            raise MountFailed(f"the process that a switch needs cannot be started: {exc}") from exc

    async def show(index: Index, source_name: str, root_xattrs: dict[str, str]) -> None:
        before = versions.current
        version = versions.add(index, root_xattrs)
        running.on_change()
        await get_ready()
        forgetting = made.pop()
        try:
            await versions.switch(device, version, forgetting)
        except OSError as exc:
            raise MountFailed(f"the kernel did not let {source_name} be shown: {exc}") from exc
        finally:
            is_shown = versions.current is not before
            nursery.start_soon(versions.let_go, before if is_shown else None, forgetting)

    running.get_ready = get_ready
    nursery.start_soon(versions.close_unused)
    running.show = show
    running.facts = versions.facts
    running.descriptors = lambda: {"device": device}


async def _start_erofs(
    index: Index,
    reader: EntryReader,
    options: MountOptions,
    running: RunningMount,
    nursery: trio.Nursery,
    crew: Crew,
) -> None:
    ready = trio.Event()
    place = _hidden_directory()
    owner = _erofs_owner(options)
    hidden = HiddenMount(
        lambda: on_init(relay, ready), nursery, reader, owner, options.time_s, place.parent, crew.shared
    )
    relay = device_relay(hidden.operations, reader, crew.shared) if crew.is_wanted else None
    has_session = False
    try:
        try:
            number = hidden.offer(index)
            _init_session(hidden.operations, place, _flags(options))
            has_session = True
            try:
                nursery.start_soon(serve_session, relay, running.ended)
                await ready.wait()
                await trio.to_thread.run_sync(kernel.allow_background, place, MAX_REQUESTS)
                await trio.to_thread.run_sync(hidden.open_root, place)
                device = hidden.device(place, number, options.source)
                await trio.to_thread.run_sync(erofs_mount.mount_erofs, device, options.mountpoint)
            except BaseException:
                hidden.close_root()
                raise
            finally:
                # EROFS holds its two files open from here on, and we the root; without them, this ends the session.
                kernel.detach(place)
        finally:
            os.rmdir(place)
    finally:
        if not has_session:
            running.ended.set()
    _run_hidden(running, hidden, options, device_of(relay))
    let_others_serve(crew, relay, "erofs", reader, owner, options.time_s, nursery)


def _erofs_owner(options: MountOptions) -> RootOwner:
    return _root_owner(options, 0o700)  # of EROFS, only the root's mode keeps other users out


def _run_hidden(running: RunningMount, hidden: HiddenMount, options: MountOptions, device: int) -> None:
    async def show(index: Index, source_name: str, root_xattrs: dict[str, str]) -> None:
        await hidden.show(options.mountpoint, index, source_name)

    hidden.on_change = lambda: running.on_change()
    hidden.on_closed = lambda: running.on_root_closed()
    running.show = show
    running.facts = hidden.operations.facts
    running.descriptors = lambda: {"device": device} | ({"root": hidden.root} if hidden.root >= 0 else {})


def _flags(options: MountOptions) -> set[str]:
    name = options.source.replace("\\", "\\\\").replace(",", "\\,")
    return {"ro", f"fsname={name}", f"subtype={_FS_TYPE}"}


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
