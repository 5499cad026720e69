"""mount and umount."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fusepkg.cli.mounts_shown import named
from fusepkg.cli.opening import picked_view
from fusepkg.cli.options import (
    FollowOption,
    JsonOption,
    LayoutOption,
    RateOption,
    RefArgument,
    TimesOption,
    WhereOption,
    app_of,
    parse_rate,
    settings_of,
)
from fusepkg.cli.output import note, print_json, progress_bar, say, time_text
from fusepkg.cli.ready import notify_ready
from fusepkg.daemon.records import read_records
from fusepkg.daemon.request import Event, MountRequest, Ready, Step
from fusepkg.daemon.unmount import Ended, end_mount, end_replaced
from fusepkg.errors import FusepkgError, NotMounted, UsageError
from fusepkg.model.reference import Reference, parse_reference, parse_tag
from fusepkg.model.times import check_times

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.daemon.records import MountRecord

ForegroundOption = Annotated[
    bool, typer.Option("--foreground", "-f", help="Stay until the mount ends, and log to the terminal.")
]
EngineOption = Annotated[
    str, typer.Option(help="auto, erofs (root, Linux 6.12 or newer), or fuse (anyone).", metavar="ENGINE")
]
SuperviseOption = Annotated[
    bool, typer.Option("--supervise", help="Replace the mount's process if it dies; readers only wait (Linux 6.9).")
]
XattrsOption = Annotated[
    bool,
    typer.Option("--xattrs", help="Give facts of each file as user.fusepkg.* (engine fuse); listings take longer."),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="End the mount of fusepkg that is there already, dead or alive.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=16,
        help="Processes that answer from the cache beside the one that fetches (Linux 6.9); default: 0.",
    ),
]
PrefetchOption = Annotated[
    list[str] | None,
    typer.Option(metavar="all|PATH", help="Fetch all, or files at and below a path, at once; may be repeated."),
]

LocalImageOption = Annotated[
    bool,
    typer.Option(
        "--local-image", help="Fetch all first and write it to one file that the kernel reads by itself (root)."
    ),
]
ReplayOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Fetch ahead what an access profile says (see `fusepkg profile`)."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(mount)
    app.command()(umount)


def mount(
    context: typer.Context,
    ref: RefArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty directory.")],
    foreground: ForegroundOption = False,
    engine: EngineOption = "auto",
    allow_other: Annotated[bool, typer.Option("--allow-other", help="Let other users read the mount too.")] = False,
    times: TimesOption = "content",
    follow: FollowOption = None,
    supervise: SuperviseOption = False,
    xattrs: XattrsOption = False,
    workers: WorkersOption = None,
    replace_mount: ReplaceOption = False,
    prefetch: PrefetchOption = None,
    prefetch_rate: RateOption = None,
    replay: ReplayOption = None,
    local_image: LocalImageOption = False,
    where: WhereOption = "",
    layout: LayoutOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show a package as a read-only directory, at once; bytes are fetched when they are read."""
    if engine not in ("auto", "erofs", "fuse"):
        raise UsageError(f"there is no engine {engine!r}", hint="Engines are auto, erofs and fuse")
    check_times(times)
    rate = parse_rate(prefetch_rate, "--prefetch-rate")
    if rate and not prefetch:
        raise UsageError("--prefetch-rate bounds what --prefetch fetches", hint="Add --prefetch all, or a path")
    reference, view = parse_reference(ref) if follow is None else followed_reference(ref, follow), None
    if where or layout:
        _check_view(follow, replay)
        reference, view = picked_view(app_of(context), ref, where, layout)
    request = MountRequest(
        reference,
        directory,
        settings_of(context),
        engine,
        allow_other,
        times,
        follow,
        supervise,
        prefetch=tuple(prefetch or ()),
        prefetch_rate=rate,
        xattrs=xattrs,
        replay=parse_tag(replay) if replay else "",
        workers=workers,
        view=view,
        local_image=local_image,
    )
    _check_local_image(request)
    describe = _print_facts if as_json else _describe
    if supervise:
        from fusepkg.daemon.supervision import require_kernel

        require_kernel()
    if replace_mount:
        end_replaced(directory)
    _make(request, describe, foreground=foreground)


def _make(request: MountRequest, describe: Callable[[Ready], None], *, foreground: bool) -> None:
    if foreground and not request.supervised:
        _mount_here(request, describe)
        return
    ready = mount_behind(request)
    describe(ready)
    if foreground:
        _stay(ready.record)


def _check_local_image(request: MountRequest) -> None:
    """Raise UsageError for what a mount that no process serves cannot be."""
    if not request.local_image:
        return
    refused = {
        "--engine fuse": request.engine == "fuse",
        "--supervise": request.supervised,
        "--xattrs": request.xattrs,
        "--times": request.times != "content",
        "--prefetch": request.prefetch,
        "--replay": request.replay,
    }
    for option, is_given in refused.items():
        if is_given:
            raise UsageError(
                f"{option} is for a mount that a process serves, and --local-image is for one that needs none",
                hint="Leave one of them out",
            )
    if not request.allow_other:
        raise UsageError(
            "all users of this machine can read a mount with --local-image",
            hint="Say so with --allow-other, or leave out --local-image",
        )


def _check_view(follow: str | None, replay: str | None) -> None:
    if follow:
        raise UsageError("A view cannot follow a tag", hint="Leave out --follow, or --where and --as")
    if replay:
        raise UsageError("A view has no access profiles", hint="Leave out --replay, or --where and --as")


def followed_reference(ref: str, tag: str) -> Reference:
    """Return the reference of a tag that is to be followed. Raises UsageError if the package is named with another."""
    reference = parse_reference(ref)
    wanted = replace(reference, tag=parse_tag(tag), top_hash=None)
    if reference != wanted and not ref.endswith(reference.name):
        raise UsageError(
            f"{ref} names another version than the tag to follow, {tag}",
            hint=f"Write {reference.package} or {wanted}",
        )
    return wanted


def mount_behind(request: MountRequest) -> Ready:
    """Mount in the background. Raises MountError."""
    from fusepkg.daemon.start import start_mount

    has_threads = request.view is not None  # those of the engine of queries
    # The bar has a thread of its own, so it may only be started once the daemon has been forked off.
    with start_mount(request, has_threads=has_threads) as starting, progress_bar() as show:
        return starting.follow(lambda step: show(step.what, step.done, step.total))


def _mount_here(request: MountRequest, describe: Callable[[Ready], None]) -> None:
    from fusepkg.daemon.logs import log_to_terminal
    from fusepkg.daemon.serve import run_mount

    log_to_terminal(debug=request.settings.debug)

    def announce(event: Event) -> None:
        if isinstance(event, Ready):
            describe(event)
            sys.stdout.flush()
            notify_ready(f"{event.record.reference} at {event.record.mountpoint}")
        elif isinstance(event, Step) and not event.done:
            note(event.what)

    run_mount(request, announce)


def _stay(record: MountRecord) -> None:
    """Stay until the mount ends, whose processes in the background replace each other."""
    from fusepkg.daemon.foreground import stay

    note(f"Log: {record.log}")
    sys.stdout.flush()
    notify_ready(f"{record.reference} at {record.mountpoint}")
    stay(record)


def _describe(ready: Ready) -> None:
    record = ready.record
    say(f"Mounted {named(record)} at {record.mountpoint}")
    note(f"Engine: {record.engine} ({record.engine_reason})")
    if record.offline_since_s is not None:
        note(
            f"Warning: the bucket cannot be reached. {record.reference} was last seen to name this version at "
            f"{time_text(record.offline_since_s)}; it may have moved since"
        )
    if ready.warning:
        note(f"Warning: {ready.warning}")


def _print_facts(ready: Ready) -> None:
    print_json(msgspec.to_builtins(ready.record) | {"warning": ready.warning})


def umount(
    context: typer.Context,
    directory: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A mounted directory.")] = None,
    every: Annotated[bool, typer.Option("--all", help="End all mounts of this user.")] = False,
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Take it out of sight now; it ends when its last user is gone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End a mount, or all. Plain umount(8) does the same to one."""
    if (directory is None) != every:
        raise UsageError("umount needs one directory, or --all", hint="`fusepkg mounts` lists them")
    if directory is not None:
        ended = [(directory, end_mount(directory, lazy=lazy))]
    else:
        ended = _end_all(lazy=lazy)
    if as_json:
        facts = [
            {"mountpoint": one.record.mountpoint if one.record else str(place), "still_served": one.still_served}
            for place, one in ended
        ]
        print_json(facts if every else facts[0])
        return
    for place, one in ended:
        note(f"Unmounted {one.record.mountpoint if one.record else place}")
        if one.still_served and one.record:
            note(
                f"Its daemon (process {one.record.pid}) goes on: the mount is in use elsewhere, or a fetch is still "
                "waiting for the bucket"
            )


def _end_all(*, lazy: bool) -> list[tuple[Path, Ended]]:
    """End this user's mounts, the innermost first; then raise what hindered the first that could not be ended.

    Those without a record stay: they may be another session's.
    """
    places = [Path(record.mountpoint) for record in read_records()]
    ended: list[tuple[Path, Ended]] = []
    hindered: FusepkgError | None = None
    for place in sorted(set(places), key=lambda place: len(place.parts), reverse=True):
        try:
            ended.append((place, end_mount(place, lazy=lazy)))
        except NotMounted:  # it ended by itself meanwhile
            continue
        except FusepkgError as exc:
            hindered = hindered or exc
    if hindered is not None:
        for place, _ in ended:
            note(f"Unmounted {place}")
        raise hindered
    return ended
