"""The process behind a mount: open everything, mount, answer, end.

Tasks of the one trio loop: the FUSE session (pyfuse3's own tasks), flights of the fetch path, the control server, the
signal watcher. Any of the end of the session, SIGTERM, SIGINT or SIGHUP ends all; a second signal ends the process at
once.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import trio
from fusepkg_cache.errors import CacheError

from fusepkg.app.context import Context
from fusepkg.daemon import control, records
from fusepkg.daemon.control_server import serve_control
from fusepkg.daemon.leftovers import remove_dead_hidden_mounts, remove_dead_mount
from fusepkg.daemon.mount_table import mounted_at
from fusepkg.daemon.mountpoint import checked_mountpoint, claimed_mountpoint
from fusepkg.daemon.prefetching import ALL, Prefetching
from fusepkg.daemon.preload import load_everything
from fusepkg.daemon.records import MountRecord
from fusepkg.daemon.request import Ready, Step
from fusepkg.daemon.runtime import runtime_directory
from fusepkg.daemon.stacks import log_tasks_on_signal
from fusepkg.engines.errnos import worst
from fusepkg.engines.handlers import UNDER_WAY
from fusepkg.engines.mounting import EngineChoice, MountOptions, choose_engine, mounted
from fusepkg.engines.session_end import wait_for_session_end
from fusepkg.errors import ControlError, FusepkgError, MountFailed
from fusepkg.model.times import one_time_s
from fusepkg.vfs.entry_stat import entry_stat
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fusepkg.daemon.request import Event, MountRequest
    from fusepkg.fetch.source import BlobSource
    from fusepkg.package.open import OpenedPackage

log = logging.getLogger(__name__)

CHECK_DETACHED_S = 1.0
"""How often a mount looks whether it is still mounted."""

END_S = 3.0
"""How long requests that hang may hold up the end of a mount's process. `umount` waits 10 s in all."""


def run_mount(request: MountRequest, log_path: str, announce: Callable[[Event], None]) -> None:
    """Make one mount and serve it until it ends. ``announce`` hears each step, and that the directory is usable.

    Raises FusepkgError where the mount cannot be made.
    """
    records.sweep()
    remove_dead_hidden_mounts()
    remove_dead_mount(request.mountpoint.absolute())
    choice = choose_engine(request.engine)
    context = Context(request.settings)
    with closing(context), ExitStack() as until_end, ExitStack() as claim:
        mountpoint = claim.enter_context(claimed_mountpoint(request.mountpoint))
        with _signals_unwind():
            opened = context.open_package(
                request.reference, lambda what, done, total: announce(Step(what, done, total)), until_end
            )
        whole = _whole_version(request, context)
        service = _Service(request, context, mountpoint, choice, opened, log_path, claim.close)
        try:
            trio.run(service.run, announce)
            del whole
            _remove_directories(request.made_for_it)
        except ExceptionGroup as group:
            raise worst(group) from group


def _whole_version(request: MountRequest, context: Context) -> OpenedPackage | None:
    """Open what the mount is a view of, so that its objects are found again after a push has healed them."""
    if request.view is None:
        return None
    with suppress(FusepkgError):  # the view itself is here
        return context.open_package(replace(request.reference, top_hash=request.view.top_hash))
    return None


def _remove_directories(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        with suppress(OSError):  # its program was quicker, or put something there
            directory.rmdir()


class _Service:
    """One mount being served."""

    def __init__(
        self,
        request: MountRequest,
        context: Context,
        mountpoint: Path,
        choice: EngineChoice,
        opened: OpenedPackage,
        log_path: str,
        give_up_claim: Callable[[], None],
    ) -> None:
        self._request = request
        self._mountpoint = mountpoint
        self._choice = choice
        self._opened = opened
        self._context = context
        self._log_path = log_path
        self._give_up_claim = give_up_claim
        self._tree: PackageTree | None = None
        self._source: BlobSource | None = None
        self._prefetching: Prefetching | None = None

    async def run(self, announce: Callable[[Event], None]) -> None:
        """Mount, announce, serve, unmount."""
        try:
            await self._serve(announce)
        finally:
            if self._source is not None:
                self._source.close()

    async def _serve(self, announce: Callable[[Event], None]) -> None:
        index = self._opened.index
        options = MountOptions(
            self._mountpoint,
            self._request.shown,
            self._request.allow_other,
            one_time_s(self._request.times),
        )
        mount_id = records.new_mount_id()
        socket = runtime_directory() / f"{mount_id}.sock"
        async with trio.open_nursery() as nursery:
            await nursery.start(log_tasks_on_signal)
            self._source = self._context.blob_source(self._request.reference.bucket, nursery)
            version = self._context.version_packs(self._request.reference.bucket, index)
            self._source.add_version(version)
            self._prefetching = Prefetching(version, self._source.prefetch, nursery)
            self._tree = PackageTree(index)
            if self._request.prefetch:
                self._prefetching.start(_paths_of(self._request.prefetch), self._request.prefetch_rate)
            stop = trio.Event()
            await nursery.start(_watch_signals, stop)
            root_xattrs = {"reference": self._request.shown, "top_hash": index.top_hash}
            load_everything()
            announce(Step("Mounting"))
            checked_mountpoint(self._mountpoint)  # once more: fetching the manifest may have taken minutes
            try:
                async with mounted(index, self._source, self._choice, options, root_xattrs) as mount:
                    self._choice = mount.choice
                    for session_end in (mount.ended.wait, wait_for_session_end):  # whichever notices first
                        nursery.start_soon(_watch_session, session_end, self._is_mounted, stop)
                    nursery.start_soon(_watch_detached, self._is_mounted, self._served_bytes, stop)
                    if self._request.owner:
                        nursery.start_soon(_watch_owner, self._request.owner, stop)
                    await nursery.start(serve_control, socket, self._answer)
                    record = await self._record(mount_id, str(socket))
                    records.write_record(record)
                    self._give_up_claim()
                    log.info(
                        "mounted %s (%s) at %s with %s",
                        record.reference,
                        index.top_hash,
                        self._mountpoint,
                        record.engine,
                    )
                    mount.is_announced = True
                    announce(Ready(record, self._warning()))
                    await stop.wait()
                    end_within(END_S, lambda: records.remove_record(mount_id))
            finally:
                records.remove_record(mount_id)
            nursery.cancel_scope.cancel()

    def _is_mounted(self) -> bool:
        return mounted_at(self._mountpoint)

    def _served_bytes(self) -> int:
        return 0 if self._source is None else self._source.counters.served_bytes

    def _warning(self) -> str:
        """What the user should know of a mount that could be made, but not as asked."""
        if self._context.cache_refusal:
            return f"nothing is cached, every read goes to the bucket: {self._context.cache_refusal}"
        if not self._opened.index_root.is_relative_to(self._context.settings.indexes_dir):
            return f"the index is in {self._opened.index_root.parent} until the mount ends; its log says why"
        return ""

    async def _record(self, mount_id: str, socket: str) -> MountRecord:
        # stat(2) asks ourselves, so it must not block the loop that answers.
        device = (await trio.to_thread.run_sync(os.stat, self._mountpoint)).st_dev
        return MountRecord(
            mount_id=mount_id,
            pid=os.getpid(),
            mountpoint=str(self._mountpoint),
            device=f"{os.major(device)}:{os.minor(device)}",
            reference=self._request.shown,
            top_hash=self._opened.index.top_hash,
            engine=self._choice.engine,
            engine_reason=self._choice.reason,
            started_s=time.time(),
            socket=socket,
            log=self._log_path,
            index_root=str(self._opened.index_root),
            offline_since_s=self._opened.offline_since_s,
            view=self._request.view,
        )

    def _answer(self, question: control.Question) -> dict[str, Any]:
        assert self._tree is not None, "the control server starts after the tree"
        assert self._source is not None, "the control server starts after the source"
        assert self._prefetching is not None, "and after this"
        if question.what.startswith("prefetch"):
            return self._prefetching.answer(question)
        if question.what == "status":
            index = self._opened.index
            return {
                "entries": len(index.entries),
                "total_bytes": index.total_bytes,
                "counters": self._source.counters.as_dict(),
                "cache": self._cache_facts(),
                "cache_refusal": self._context.cache_refusal,
                "prefetches": self._prefetching.facts(),
            }
        if question.what == "stat":
            return dict(entry_stat(self._tree, self._source, self._tree.resolve(question.path)).as_dict())
        raise ControlError(f"this mount knows no question {question.what!r}")

    def _cache_facts(self) -> dict[str, Any] | None:
        assert self._source is not None, "the control server starts after the source"
        cache = self._source.cache
        if cache is None:
            return None
        try:
            return _plain(asdict(cache.info()))
        except CacheError as exc:  # the mount serves on without its cache, and says so
            log.warning("the cache cannot be asked: %s", exc)
            return None


def _paths_of(prefetch: tuple[str, ...]) -> list[str]:
    """Return what a mount's command line names, "" for all."""
    return [""] if ALL in prefetch else list(prefetch)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in facts.items()}


async def _watch_session(
    session_end: Callable[[], Awaitable[None]], is_mounted: Callable[[], bool], stop: trio.Event
) -> None:
    """End when the session has ended. Raises MountFailed if the mount is still there: it was aborted, not unmounted.

    The error leaves the mount in the table, so that readers get errors and no empty directory.
    """
    await session_end()
    if not stop.is_set() and is_mounted():
        raise MountFailed("the kernel ended the session of a mount that nobody unmounted")
    stop.set()


async def _watch_detached(is_mounted: Callable[[], bool], served_bytes: Callable[[], int], stop: trio.Event) -> None:
    """End once nothing has been answered for some seconds, although asked, after the mount has left the table.

    The kernel ends a session only when its last request is answered, and that may hang on its bucket for minutes.
    Programs that still have files open after a lazy unmount are served until then.
    """
    while is_mounted():  # noqa: ASYNC110 - the kernel tells a trio task of no change of its table
        await trio.sleep(CHECK_DETACHED_S)
    served, quiet_s = served_bytes(), 0.0
    while quiet_s < END_S:
        await trio.sleep(1)
        is_quiet = UNDER_WAY.count > 0 and served_bytes() == served
        served, quiet_s = served_bytes(), quiet_s + 1 if is_quiet else 0.0
    log.warning("ending with requests that hang: it was unmounted, and nothing was answered for %d s", END_S)
    stop.set()


async def _watch_owner(owner: int, stop: trio.Event) -> None:
    """End the mount when the program has ended it was made for, by whatever signal. Forks of it do not count."""
    process = _open_process(owner)
    if process is not None:
        try:
            await trio.lowlevel.wait_readable(process)
        finally:
            os.close(process)
    log.info("ending with the program that asked for the mount, process %d", owner)
    stop.set()


def _open_process(owner: int) -> int | None:
    """Return a descriptor of our parent; None where that has ended, and its number may be another's."""
    try:
        process = os.pidfd_open(owner)
    except ProcessLookupError:
        return None
    if os.getppid() == owner:
        return process
    os.close(process)
    return None


def end_within(seconds: float, clean_up: Callable[[], None]) -> None:
    """End this process after so many seconds, whatever still hangs: a request, a thread, a file system."""

    def end() -> None:
        time.sleep(seconds)
        log.warning("something still hangs %d s after the end of the mount, and is left behind", seconds)
        clean_up()
        os._exit(0)

    threading.Thread(target=end, name="fusepkg-end", daemon=True).start()


async def _watch_signals(stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*_ending_signals()) as signals:
        task_status.started()
        is_ending = False
        async for number in signals:
            log.info("ending on %s", signal.Signals(number).name)
            if is_ending:
                os._exit(128 + number)  # the user is in more of a hurry than whatever still holds us
            is_ending = True
            stop.set()


def _ending_signals() -> list[signal.Signals]:
    """Those that end a mount; a hangup does not where it is ignored, as under nohup(1)."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an error does, so that it removes its temporary files."""

    def unwind(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in _ending_signals() if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
