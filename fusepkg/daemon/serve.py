"""The process behind a mount: open everything, serve to the end, clean up; or go on with a mount that was left."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fusepkg.app.context import Context
from fusepkg.daemon import mount_table, records
from fusepkg.daemon.ending import signals_unwind
from fusepkg.daemon.leftovers import remove_dead_hidden_mounts, remove_dead_mount
from fusepkg.daemon.mountpoint import claimed_mountpoint
from fusepkg.daemon.request import Step
from fusepkg.daemon.service import MountService, Resumed
from fusepkg.daemon.shown_package import open_shown
from fusepkg.engines.crew import Crew, forked_fronts
from fusepkg.engines.errnos import worst
from fusepkg.engines.image_mount import require_local_image
from fusepkg.engines.mounting import EngineChoice, choose_engine
from fusepkg.engines.privileges import drop_privileges
from fusepkg.model.reference import parse_reference

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fusepkg.daemon.handover import Handover
    from fusepkg.daemon.request import Event, MountRequest


def run_mount(request: MountRequest, announce: Callable[[Event], None]) -> None:
    """Make one mount and serve it until it ends. ``announce`` hears each step, and that the directory is usable.

    Raises FusepkgError where the mount cannot be made.
    """
    drop_privileges()
    with closing(Crew(forked_fronts(request.workers))) as crew:  # first of all, while there is one thread
        _run_mount(request, announce, crew)


def _run_mount(request: MountRequest, announce: Callable[[Event], None], crew: Crew) -> None:
    records.sweep()
    remove_dead_hidden_mounts()
    is_repaired = remove_dead_mount(request.mountpoint.absolute())
    if request.local_image:
        require_local_image()
    choice = choose_engine(request.engine)
    context = Context(request.settings)

    def tell(what: str, done: int, total: int) -> None:
        announce(Step(what, done, total))

    with closing(context), ExitStack() as until_end, ExitStack() as claim:
        mountpoint = claim.enter_context(claimed_mountpoint(request.mountpoint))
        with signals_unwind():
            service = MountService(
                request,
                context,
                mountpoint,
                choice,
                # The service alone holds it: a switch lets go of it.
                open_shown(context, request.reference, request.shown, until_end, view=request.view, progress=tell),
                claim.close,
                until_end,
                crew,
            )
            if request.local_image:
                service.make_first_image(announce)
        service.is_repaired = is_repaired
        try:
            trio.run(service.run, announce)
            for directory in request.made_for_it:
                with suppress(OSError):  # its program was quicker, or put something there
                    directory.rmdir()
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
    with closing(crew), closing(context), ExitStack() as until_end:
        reference = request.reference if record.view else parse_reference(record.reference)
        service = MountService(
            request,
            context,
            Path(record.mountpoint),
            EngineChoice(record.engine, record.engine_reason),
            open_shown(context, reference, record.reference, until_end, top_hash=record.top_hash, view=request.view),
            lambda: None,
            until_end,
            crew,
        )
        service.resume(Resumed(record, left.engine, descriptors, link, spare))
        try:
            trio.run(service.run, lambda _event: None)
        except ExceptionGroup as group:
            raise worst(group) from group
