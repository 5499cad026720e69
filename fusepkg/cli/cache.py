"""cache info, clear, gc, verify, export."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusepkg.cache_admin.collect import collect, tagged_versions
from fusepkg.cache_admin.usage import share_of
from fusepkg.cli import pins
from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import (
    EXIT_DIFFERENT,
    counted,
    human_bytes,
    note,
    print_json,
    print_table,
    progress_bar,
    say,
    short,
)
from fusepkg.daemon import records
from fusepkg.errors import UsageError
from fusepkg.fetch.chunks import cached_digests
from fusepkg.index.files import index_directory
from fusepkg.index.opening import open_index
from fusepkg.state.known_indexes import known_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg_cache import Cache, CacheInfo

    from fusepkg.app.settings import Settings
    from fusepkg.cache_admin.usage import Share
    from fusepkg.state.known_indexes import KnownPackage

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="The cache all mounts of this machine share.")
    group.command()(info)
    group.command()(clear)
    group.command()(gc)
    group.command()(verify)
    pins.register(group)
    group.command()(export)
    app.add_typer(group, name="cache")


# --- info --------------------------------------------------------------------------------------------------------


def info(context: typer.Context, as_json: JsonOption = False) -> None:
    """Tell where the cache is, what it holds and may hold, how it did, and how much of each package is there."""
    app = app_of(context)
    settings, cache = app.settings, app.cache()
    facts = cache.info()
    shares = _shares(settings, cache)
    disk = shutil.disk_usage(settings.cache_dir)
    if as_json:
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(facts).items()}
        packages = [{"reference": name, "hash": top_hash, **asdict(share)} for name, top_hash, share in shares]
        lower = str(settings.cache.lower) if settings.cache.lower else None
        print_json(plain | {"lower_directory": lower, "disk_free_bytes": disk.free, "packages": packages})
        return
    say(f"Directory: {settings.cache_dir}")
    _say_facts(facts, disk.free)
    if settings.cache.lower:
        say(f"Lower cache: {settings.cache.lower}")
    if shares:
        say("")
        print_table(
            ("PACKAGE", "HASH", "FILES HERE", "BYTES HERE"),
            [
                (
                    name,
                    short(top_hash),
                    f"{share.files_here:,} of {share.files:,}",
                    f"{human_bytes(share.bytes_here)} of {human_bytes(share.bytes)}",
                )
                for name, top_hash, share in shares
            ],
        )


def _say_facts(facts: CacheInfo, free_bytes: int) -> None:
    still = "" if facts.complete else ", and those still being counted"
    say(f"Holds: {counted(facts.blobs, 'blob')}, {human_bytes(facts.bytes)}{still}")
    if facts.blobs:
        small = f"{facts.small_blobs:,} small, {human_bytes(facts.small_bytes)}"
        say(f"  {small}; {facts.large_blobs:,} large, {human_bytes(facts.large_bytes)}")
    bound = "none" if facts.max_bytes is None else human_bytes(facts.max_bytes)
    floor = human_bytes(facts.min_free_bytes or 0)
    say(f"Bound: {bound}, as long as {floor} of its disk stay free ({human_bytes(free_bytes)} are)")
    hits = f"{facts.small_hits:,} small, {facts.large_hits:,} large, {facts.lower_hits:,} lower"
    say(f"Hits: {hits}; misses: {facts.misses:,}")
    if facts.evictions:
        say(f"Given up for room: {counted(facts.evictions, 'blob')}, {human_bytes(facts.evicted_bytes)}")
    if facts.verification_failures:
        say(f"Found damaged, and dropped: {counted(facts.verification_failures, 'blob')}")
    if facts.pins:
        say(f"Pins: {facts.pins:,}")


def _shares(settings: Settings, cache: Cache) -> list[tuple[str, str, Share]]:
    """Return package, hash and cached share of every version that has an index here."""
    found = []
    with progress_bar() as show:
        for package in known_packages(settings.indexes_dir):
            for top_hash in package.top_hashes:
                index = open_index(package.root, top_hash)
                if index is not None:
                    share = share_of(cache, index, partial(show, f"Looking for {package}"))
                    found.append((str(package), top_hash, share))
    return found


# --- dropping ----------------------------------------------------------------------------------------------------


def clear(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="Only the data of this package.")] = "",
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Only data that was not used for this long: 90m, 12h, 7d, 2w.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Drop cached data, also under live mounts: what they read next is fetched again."""
    app = app_of(context)
    unused_since = time.time() - _seconds(older_than) if older_than else None
    index = open_package(app, ref).index if ref else None
    cache = app.cache()
    if index is not None:
        dropped = cache.clear(cached_digests(cache, index.entries.contents()), unused_since=unused_since)
    else:
        dropped = cache.clear(unused_since=unused_since)
        if unused_since is None:
            _drop_indexes(app.settings)
    if as_json:
        print_json({"blobs": dropped.blobs, "bytes": dropped.bytes})
        return
    note(f"Dropped {counted(dropped.blobs, 'blob')}, {human_bytes(dropped.bytes)}")


def _seconds(age: str) -> float:
    found = _AGE.fullmatch(age.strip())
    if found is None:
        raise UsageError(f"{age!r} is not an age", hint="Write a number and a unit: 90m, 12h, 7d, 2w")
    return float(found[1]) * _UNIT_S[found[2]]


def _drop_indexes(settings: Settings) -> None:
    """Remove all indexes except those of live mounts and those being built, and all disk images."""
    live = _live_indexes()
    for package in known_packages(settings.indexes_dir):
        for top_hash in package.top_hashes:
            if package.directory(top_hash).resolve() not in live:
                shutil.rmtree(package.directory(top_hash), ignore_errors=True)
    for image in settings.images_dir.glob("*.erofs"):
        image.unlink(missing_ok=True)  # a mount of it reads on, and frees the room when it ends


def _live_indexes() -> set[Path]:
    return {
        index_directory(Path(record.index_root), record.top_hash).resolve()
        for record in records.read_records()
        if records.is_alive(record)
    }


def gc(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be dropped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Drop what no tag in its bucket, no mount and no pin names. A bucket that does not answer keeps its packages."""
    app = app_of(context)
    settings, cache = app.settings, app.cache()
    with progress_bar() as show:

        def packages() -> Iterator[KnownPackage]:
            known = known_packages(settings.indexes_dir)
            for number, package in enumerate(known):
                show(f"Asking what is named of {package}", number, len(known))
                yield package

        pinned, live = {pin.name for pin in cache.pins()}, _live_indexes()
        collected = collect(
            cache,
            packages,
            lambda package: tagged_versions(package, settings.indexes_dir, app.store),
            lambda package, top_hash: (
                f"{package}@{top_hash}" in pinned or package.directory(top_hash).resolve() in live
            ),
            dry_run=dry_run,
        )
    dropped = collected.blobs
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "blobs": dropped.blobs,
                "bytes": dropped.bytes,
                "versions": [f"{package}@{top_hash}" for package, top_hash in collected.versions],
                "not_asked": [{"package": str(package), "reason": why} for package, why in collected.unasked],
            }
        )
        return
    for package, why in collected.unasked:
        note(f"Kept all of {package}: {why}")
    for package, top_hash in collected.versions:
        say(f"{package}@{short(top_hash)}: no tag, mount or pin names it")
    doing = "Would drop" if dry_run else "Dropped"
    note(
        f"{doing} {counted(len(collected.versions), 'version')}, {counted(dropped.blobs, 'blob')}, "
        f"{human_bytes(dropped.bytes)}"
    )


# --- checking ----------------------------------------------------------------------------------------------------


def verify(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="Drop what is damaged, and record what is found.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hash everything in the cache. Exit 1 if anything is damaged, also where it was repaired."""
    cache = app_of(context).cache()
    with progress_bar() as show:
        report = cache.verify(repair=repair, progress=partial(show, "Checking", is_bytes=True))
    if as_json:
        facts: dict[str, Any] = asdict(report)
        for name in ("damaged", "missing", "unrecorded"):
            facts[name] = [str(digest) for digest in getattr(report, name)]
        print_json(facts)
    else:
        for digest in report.damaged:
            say(f"{digest} is damaged{', and was dropped' if repair else ''}")
        for digests, what in ((report.missing, "of which only the record is left"), (report.unrecorded, "unrecorded")):
            if digests:
                note(f"{counted(len(digests), 'blob')} {what}: harmless{', and put right' if repair else ''}")
        result = f"{len(report.damaged):,} damaged" if report.damaged else "verified"
        note(f"{counted(report.blobs, 'blob')}, {human_bytes(report.bytes)}: {result}")
        if report.damaged and not repair:
            note("A read of a damaged blob drops it and fetches it again; --repair drops all now")
    if not report.ok:
        raise typer.Exit(EXIT_DIFFERENT)


# --- sharing -----------------------------------------------------------------------------------------------------


def export(
    context: typer.Context,
    ref: RefArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if need be.")],
    as_json: JsonOption = False,
) -> None:
    """Write a package's data as files named by their hashes, which other machines read with --cache-lower DIR."""
    from fusepkg_cache import PlainFiles

    from fusepkg.cache_admin.export import export_version

    app = app_of(context)
    files = PlainFiles(directory)
    opened = open_package(app, ref)
    reader = app.blocking_reader(opened.resolved.reference.bucket)
    with progress_bar() as show:
        written = export_version(opened.index, reader, files, partial(show, "Exporting", is_bytes=True))
    if as_json:
        print_json({"directory": str(files.directory), "hash": opened.index.top_hash, **asdict(written)})
        return
    there = "" if written.files else "; all is there already"
    note(f"Wrote {counted(written.files, 'file')}, {human_bytes(written.bytes)}{there}")
