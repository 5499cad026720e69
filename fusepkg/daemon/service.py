"""A mount while it is served: its tasks, its answers, its record.

Tasks of the one trio loop: the FUSE session (pyfuse3's own tasks), flights of the fetch path, the control server, the
signal watcher. Any of the end of the session, SIGTERM, SIGINT or SIGHUP ends all; a second signal ends the process at
once.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from fusepkg_cache.errors import CacheError

from fusepkg.daemon import control, records
from fusepkg.daemon.control_server import listen, serve_control
from fusepkg.daemon.ending import (
    END_S,
    end_within,
    watch_detached,
    watch_owner,
    watch_session,
    watch_signals,
)
from fusepkg.daemon.follow import Follower
from fusepkg.daemon.growth import machine_bytes, watch_growth
from fusepkg.daemon.handover import Coming, Handover, plain
from fusepkg.daemon.mount_table import still_mounted
from fusepkg.daemon.mountpoint import checked_mountpoint
from fusepkg.daemon.prefetching import ALL, Prefetching
from fusepkg.daemon.preload import hold_everything
from fusepkg.daemon.profiling import Profiling
from fusepkg.daemon.records import MountRecord
from fusepkg.daemon.request import Ready, Step
from fusepkg.daemon.runtime import runtime_directory
from fusepkg.daemon.stacks import log_tasks_on_signal
from fusepkg.daemon.supervision import Supervision, require_kernel
from fusepkg.daemon.switching import Switcher
from fusepkg.engines.image_mount import image_mounted
from fusepkg.engines.mounting import EngineChoice, LeftSession, MountOptions, mounted, resumed
from fusepkg.engines.session_end import wait_for_session_end
from fusepkg.errors import ControlError, SwitchUnderWay, UsageError
from fusepkg.index.opening import open_index
from fusepkg.model.times import one_time_s
from fusepkg.vfs.entry_stat import entry_stat

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, ExitStack

    from fusepkg.app.context import Context
    from fusepkg.daemon.request import Event, MountRequest
    from fusepkg.daemon.shown_package import ShownPackage
    from fusepkg.engines.crew import Crew
    from fusepkg.engines.mounting import RunningMount
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.index.opening import Index

log = logging.getLogger(__name__)

_ANSWERED_S = 0.1
"""How long an answer may take to get to the client before the process ends."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A mount to go on with. ``descriptors`` by name: ``device``, ``listener``, with erofs ``root``."""

    record: MountRecord
    engine: dict[str, Any]
    descriptors: dict[str, int]
    link: socket.socket
    spare: dict[str, int]


class MountService:
    """One mount being served."""

    def __init__(
        self,
        request: MountRequest,
        context: Context,
        mountpoint: Path,
        choice: EngineChoice,
        first: ShownPackage,
        give_up_claim: Callable[[], None],
        until_end: ExitStack,
        crew: Crew,
    ) -> None:
        self._request = request
        self._crew = crew
        self._mountpoint = mountpoint
        self._choice = choice
        self._shown = first
        self._index_root = first.opened.index_root
        self._context = context
        self._give_up_claim = give_up_claim
        self._until_end = until_end
        self._record: MountRecord
        self._mount: RunningMount
        self._supervision: Supervision
        self._listener: socket.socket
        self._nursery: trio.Nursery
        self._resumed: Resumed | None = None
        self._coming: Coming | None = None
        self._switcher: Switcher
        self._follower: Follower
        self._prefetching: Prefetching
        self._profiling: Profiling
        self._first_image: Path | None = None
        self._announce: Callable[[Event], None] = lambda _: None
        self._reader: EntryReader | None = None
        self.is_repaired = False
        """Whether a dead mount was taken away to make this one."""

    def resume(self, resumed: Resumed) -> None:
        """Take a mount over instead of making one; before ``run``."""
        self._resumed = resumed

    async def run(self, announce: Callable[[Event], None]) -> None:
        """Mount, announce, serve, unmount."""
        try:
            await self._serve(announce)
        finally:
            if self._reader is not None:
                self._reader.close()

    async def _serve(self, announce: Callable[[Event], None]) -> None:
        request = self._request
        mount_id = self._resumed.record.mount_id if self._resumed else records.new_mount_id()
        async with trio.open_nursery() as nursery:
            await nursery.start(log_tasks_on_signal)
            self._reader = self._context.entry_reader(request.reference.bucket, nursery)
            version = self._context.version_packs(request.reference.bucket, self._shown.opened.index)
            self._prefetching = Prefetching(version, self._reader.prefetch, nursery)
            store = self._context.store(request.reference.bucket)
            self._profiling = Profiling(self._reader, self._prefetching, store, request.reference.name)
            del version
            if request.prefetch:
                self._prefetching.start(_paths_of(request.prefetch), request.prefetch_rate)
            if request.replay:
                nursery.start_soon(self._profiling.replay, request.replay)
            stop = trio.Event()
            await nursery.start(watch_signals, stop)
            if self._resumed is None:  # else it is a copy of a process that has loaded all
                hold_everything()
            announce(Step("Mounting"))
            self._announce = lambda _: None  # what a switch does is no step of the start
            try:
                async with self._mounted(self._reader) as mount:
                    self._choice = mount.choice
                    self._watch(mount, stop, nursery)
                    await self._introduce(mount, mount_id, nursery)
                    mount.is_announced = True
                    announce(Ready(self._record, self._warning()))
                    await stop.wait()
                    self._supervision.end()
                    end_within(END_S, lambda: records.remove_record(mount_id))
            except BaseException:
                if not self._is_supervised:  # else the next worker needs the record
                    records.remove_record(mount_id)
                raise
            records.remove_record(mount_id)
            nursery.cancel_scope.cancel()

    def _mounted(self, reader: EntryReader) -> AbstractAsyncContextManager[RunningMount]:
        """Make the mount, or go on with it."""
        request, xattrs = self._request, self._shown.root_xattrs()
        times = one_time_s(request.times)
        options = MountOptions(self._mountpoint, request.shown, request.allow_other, times, request.xattrs)
        if self._resumed is not None:
            kept = self._resumed.descriptors
            left = LeftSession(self._resumed.engine, kept["device"], kept.get("root", -1))
            return resumed(left, reader, self._choice, options, xattrs, self._open_again, self._crew)
        if request.local_image:
            assert self._first_image is not None, "it is made before anything is served"
            return image_mounted(self._first_image, self._make_image, options, self._is_mounted)
        checked_mountpoint(self._mountpoint)  # once more: fetching the manifest may have taken minutes
        return mounted(self._shown.opened.index, reader, self._choice, options, xattrs, self._reopen, self._crew)

    def make_first_image(self, announce: Callable[[Event], None]) -> None:
        """Make the disk image that a mount with ``local_image`` begins with; blocks. Raises FusepkgError."""
        self._announce = announce
        self._first_image = self._make_image(self._shown.opened.index)

    def _make_image(self, index: Index) -> Path:
        from fusepkg.daemon.local_image import local_image  # here: few mounts need it

        reader = self._context.blocking_reader(self._request.reference.bucket)
        return local_image(index, reader, self._context.settings.images_dir, self._announce)

    def _watch(self, mount: RunningMount, stop: trio.Event, nursery: trio.Nursery) -> None:
        for session_end in (mount.ended.wait, wait_for_session_end):  # whichever notices first
            nursery.start_soon(watch_session, session_end, self._is_mounted, stop)
        nursery.start_soon(watch_detached, self._is_mounted, self._served_bytes, stop)
        if self._request.owner:
            nursery.start_soon(watch_owner, self._request.owner, stop)

    async def _introduce(self, mount: RunningMount, mount_id: str, nursery: trio.Nursery) -> None:
        """Write the mount's record, and answer questions about it from here on."""
        before = self._resumed
        self._nursery = nursery
        self._mount = mount
        self._switcher = Switcher(
            self._context, self._mountpoint, mount, self._shown, self._until_end, self._note_coming, self._note_switch
        )
        path = runtime_directory() / f"{mount_id}.sock"
        if before is None:
            self._listener = listen(path)
            self._record = await self._new_record(mount_id, str(path))
        else:
            self._listener = socket.socket(fileno=before.descriptors["listener"])
            self._record = msgspec.structs.replace(before.record, pid=os.getpid())
        self._follower = Follower(self._switcher, self._context.settings.follow_interval_s, self._record.follow)
        await nursery.start(serve_control, self._listener, self._answer)
        self._supervise(nursery)  # before anybody can know this process by its record
        records.write_record(self._record)
        self._give_up_claim()
        record = self._record
        done = "mounted" if before is None else "went on with"
        log.info("%s %s (%s) at %s with %s", done, record.reference, record.top_hash, record.mountpoint, record.engine)
        nursery.start_soon(self._follower.run)

    # --- the process after this one ----------------------------------------------------------------------------

    @property
    def _is_supervised(self) -> bool:
        return hasattr(self, "_record") and self._record.supervisor is not None

    def _supervise(self, nursery: trio.Nursery) -> None:
        """Be supervised, if that is wanted, or is so already."""
        place = records.record_path(self._record.mount_id)
        link, spare = (self._resumed.link, self._resumed.spare) if self._resumed else (None, None)
        self._supervision = Supervision(place, self._tell_next, self._descriptors, self._note_supervisor, link, spare)
        self._mount.is_kept = lambda: self._supervision.pid is not None
        self._mount.on_change = self._supervision.changed
        self._mount.on_root_closed = lambda: self._supervision.close("root")
        if self._request.supervised or link is not None:
            self._supervision.start()
            nursery.start_soon(self._supervision.run)
            max_bytes = self._context.settings.max_memory.of_disk(machine_bytes())
            nursery.start_soon(watch_growth, max_bytes, self._replace_grown)
        if link is not None:
            nursery.start_soon(self._supervision.tell_served, self._served_bytes)

    def _descriptors(self) -> dict[str, int]:
        return {**self._mount.descriptors(), "listener": self._listener.fileno()}

    def _tell_next(self) -> dict[str, Any]:
        left = Handover(plain(self._request), self._record, self._mount.facts(), self._coming)
        told: dict[str, Any] = msgspec.to_builtins(left)
        return told

    def _note_supervisor(self, pid: int | None) -> None:
        self._rewrite_record(supervisor=pid)

    def _note_coming(self, coming: ShownPackage | None) -> None:
        self._coming = None if coming is None else Coming(coming.name, coming.top_hash)
        self._supervision.changed()

    async def _restart(self) -> dict[str, Any]:
        """Hand over to a new process, as soon as this has been answered."""
        require_kernel()
        if self._switcher.is_asked:
            raise SwitchUnderWay(f"{self._mountpoint} is being switched", hint="Try again when that is done")
        if self._supervision.pid is None:
            self._supervision.start()
            self._nursery.start_soon(self._supervision.run)
        self._nursery.start_soon(self._hand_over)
        return {"mountpoint": str(self._mountpoint), "pid": os.getpid()}

    async def _hand_over(self) -> None:
        await trio.sleep(_ANSWERED_S)
        log.info("handing over to a new process")
        self._supervision.hand_over()

    def _replace_grown(self, reason: str) -> None:
        if self._supervision.pid is not None and not self._switcher.is_asked:
            log.warning("a new process takes over, because this one has grown: %s", reason)
            self._supervision.hand_over()

    def _is_mounted(self) -> bool:
        return still_mounted(self._mountpoint)

    def _served_bytes(self) -> int:
        here = 0 if self._reader is None else self._reader.counters.served_bytes
        return here + self._crew.shared.reads()[1]

    def _reopen(self, top_hash: str) -> Index | None:
        """The index of a version that was shown before; all lie side by side."""
        return open_index(self._index_root, top_hash)

    def _open_again(self, top_hash: str) -> Index:
        """The same, built again if need be. Raises FusepkgError."""
        if top_hash == self._shown.top_hash:
            return self._shown.opened.index
        found = self._reopen(top_hash)
        if found is None:
            exact = replace(self._shown.reference, top_hash=top_hash)
            found = self._context.open_package(exact, temporary=self._until_end).index
        return found

    def _warning(self) -> str:
        """What the user should know of a mount that could be made, but not as asked."""
        if self._context.cache_refusal:
            return f"nothing is cached, every read goes to the bucket: {self._context.cache_refusal}"
        if not self._index_root.is_relative_to(self._context.settings.indexes_dir):
            return f"the index is in {self._index_root.parent} until the mount ends; its log says why"
        if self.is_repaired:
            return "what a killed process had left here was unmounted first; programs that use it get errors"
        return ""

    async def _new_record(self, mount_id: str, socket: str) -> MountRecord:
        opened = self._shown.opened
        # stat(2) asks ourselves, so it must not block the loop that answers.
        device = (await trio.to_thread.run_sync(os.stat, self._mountpoint)).st_dev
        return MountRecord(
            mount_id=mount_id,
            pid=os.getpid(),
            mountpoint=str(self._mountpoint),
            device=f"{os.major(device)}:{os.minor(device)}",
            reference=self._shown.name,
            top_hash=opened.index.top_hash,
            engine=self._choice.engine,
            engine_reason=self._choice.reason,
            started_s=time.time(),
            socket=socket,
            log=str(self._request.log or "the terminal"),
            index_root=str(opened.index_root),
            offline_since_s=opened.resolved.offline_since_s,
            follow=self._request.follow,
            view=self._request.view,
        )

    def _note_switch(self, now: ShownPackage, device: str) -> None:
        self._shown, self._coming = now, None
        version = self._context.version_packs(now.reference.bucket, now.opened.index)
        if self._reader is not None:
            self._reader.forget_versions()
        self._prefetching.exchange(version)
        self._rewrite_record(
            reference=now.name,
            top_hash=now.top_hash,
            device=device,
            index_root=str(now.opened.index_root),
            offline_since_s=None,
        )

    def _rewrite_record(self, **changes: Any) -> None:  # noqa: ANN401 - the record's own fields
        self._record = msgspec.structs.replace(self._record, **changes)
        self._supervision.changed()
        try:
            records.write_record(self._record)
        except OSError as exc:
            log.warning("the record cannot be written, `fusepkg mounts` shows an old one: %s", exc)

    async def _answer(self, question: control.Question) -> dict[str, Any]:
        assert self._reader is not None, "the control server starts after the reader"
        if question.what == "restart":
            return await self._restart()
        if question.what.startswith("prefetch"):
            return self._prefetching.answer(question)
        if question.what.startswith("profile"):
            return await self._profiling.answer(question, self._shown.top_hash)
        if question.what == "status":
            return self._status(self._reader)
        if question.what == "stat":
            tree = self._shown.tree
            return dict(entry_stat(tree, self._reader, tree.resolve(question.path)).as_dict())
        if question.what in ("plan", "switch", "follow") and self._request.view is not None:
            raise UsageError(
                f"{self._mountpoint} shows a view of {self._request.shown}, which cannot be switched",
                hint="Mount the view of the other version: `fusepkg mount REF DIR --where ...`",
            )
        if question.what == "plan":
            return await self._switcher.plan(question.path)
        if question.what == "switch":
            facts = await self._switcher.switch(question.path)
            self._follow(None)
            return facts
        if question.what == "follow":
            return await self._start_following(question.path)
        raise ControlError(f"this mount knows no question {question.what!r}")

    async def _start_following(self, tag: str) -> dict[str, Any]:
        """Switch to what the tag names, and follow it from then on; with no tag, follow none."""
        facts = await self._switcher.switch(tag) if tag else {"mountpoint": str(self._mountpoint), "changed": False}
        self._follow(tag or None)
        return facts | {"follow": tag or None}

    def _follow(self, tag: str | None) -> None:
        if tag != self._follower.tag:
            self._follower.follow(tag)
            self._rewrite_record(follow=tag)

    def _counters(self, reader: EntryReader) -> dict[str, int]:
        """Return the counters of all processes."""
        counters, (hits, served) = reader.counters.as_dict(), self._crew.shared.reads()
        return counters | {
            "cache_hits": counters["cache_hits"] + hits,
            "served_bytes": counters["served_bytes"] + served,
        }

    def _status(self, reader: EntryReader) -> dict[str, Any]:
        index = self._shown.opened.index
        return {
            "entries": len(index.entries),
            "total_bytes": index.total_bytes,
            "counters": self._counters(reader),
            "workers": self._crew.pids,
            "waits": reader.waits.as_dict(),
            "cache": _cache_facts(reader),
            "cache_refusal": self._context.cache_refusal,
            "prefetches": self._prefetching.facts(),
            "profile": self._profiling.facts(),
            "follow": self._follower.facts(),
        }


def _cache_facts(reader: EntryReader) -> dict[str, Any] | None:
    cache = reader.cache
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
