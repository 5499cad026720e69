"""The process behind a mount: open everything, serve to the end, clean up; or go on with a mount that was left."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fusepkg.app.context import Context
from fusepkg.daemon import mount_table, records
from fusepkg.daemon.ending import (
    signals_unwind,
)
from fusepkg.daemon.leftovers import remove_dead_hidden_mounts, remove_dead_mount
from fusepkg.daemon.mountpoint import claimed_mountpoint
from fusepkg.daemon.request import Step
from fusepkg.daemon.service import MountService, Resumed
from fusepkg.daemon.switching import ShownPackage, shown
from fusepkg.engines.crew import Crew, forked_fronts
from fusepkg.engines.errnos import worst
from fusepkg.engines.image_mount import require_local_image
from fusepkg.engines.mounting import EngineChoice, choose_engine
from fusepkg.engines.privileges import drop_privileges
from fusepkg.errors import FusepkgError
from fusepkg.model.reference import parse_reference

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fusepkg.daemon.handover import Handover
    from fusepkg.daemon.request import Event, MountRequest
    from fusepkg.package.open import OpenedPackage


def run_mount(request: MountRequest, log_path: str, announce: Callable[[Event], None]) -> None:
    """Make one mount and serve it until it ends. ``announce`` hears each step, and that the directory is usable.

    Raises FusepkgError where the mount cannot be made.
    """
    drop_privileges()
    crew = Crew(forked_fronts(request.workers))  # first of all, while there is one thread
    records.sweep()
    remove_dead_hidden_mounts()
    is_repaired = remove_dead_mount(request.mountpoint.absolute())
    if request.local_image:
        require_local_image()
    choice = choose_engine(request.engine)
    context = Context(request.settings)
    with closing(context), ExitStack() as until_end, ExitStack() as claim:
        mountpoint = claim.enter_context(claimed_mountpoint(request.mountpoint))
        with signals_unwind():
            service = MountService(
                request,
                context,
                mountpoint,
                choice,
                _open_first(request, context, announce, until_end),
                log_path,
                claim.close,
                until_end,
                crew,
            )
            if request.local_image:
                service.make_first_image(announce)
        service.is_repaired = is_repaired
        whole = _whole_version(request, context)
        try:
            trio.run(service.run, announce)
            del whole
            _remove_directories(request.made_for_it)
        except ExceptionGroup as group:
            raise worst(group) from group


def resume_mount(left: Handover, descriptors: dict[str, int], link: socket.socket, spare: dict[str, int]) -> None:
    """Go on with a mount that another process has left, until it ends. ``link`` leads to the supervisor; ``spare`` is
    as of ``Supervision``.

    Raises FusepkgError where that is not possible.
    """
    drop_privileges()
    top = mount_table.top_mount(Path(left.record.mountpoint))
    left = left.now(top.device if top else left.record.device)
    request, record = left.mount_request(), left.record
    crew = Crew(forked_fronts(request.workers))
    context = Context(request.settings)
    with closing(context), ExitStack() as until_end:
        reference = request.reference if record.view else parse_reference(record.reference)
        exact = replace(reference, top_hash=record.top_hash)
        service = MountService(
            request,
            context,
            Path(record.mountpoint),
            EngineChoice(record.engine, record.engine_reason),
            shown(reference, context.open_package(exact, temporary=until_end), record.reference),
            record.log,
            lambda: None,
            until_end,
            crew,
        )
        whole = _whole_version(request, context)
        service.resume(Resumed(record, left.engine, descriptors, link, spare))
        try:
            trio.run(service.run, lambda _event: None)
            del whole
        except ExceptionGroup as group:
            raise worst(group) from group


def _whole_version(request: MountRequest, context: Context) -> OpenedPackage | None:
    """Open what the mount is a view of, so that its objects are found again after a push has healed them."""
    if request.view is None:
        return None
    with suppress(FusepkgError):  # the view itself is here
        return context.open_package(replace(request.reference, top_hash=request.view.top_hash))
    return None


def _open_first(
    request: MountRequest, context: Context, announce: Callable[[Event], None], until_end: ExitStack
) -> ShownPackage:
    def tell(what: str, done: int, total: int) -> None:
        announce(Step(what, done, total))

    opened = context.open_package(request.reference, tell, until_end)
    return shown(request.reference, opened, request.shown)


def _remove_directories(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        with suppress(OSError):  # its program was quicker, or put something there
            directory.rmdir()
