"""A package on this machine: in a directory, in the cache, as a mount."""

from __future__ import annotations

import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.errors import CacheError

from fusepkg.api.results import Changes, Verification
from fusepkg.daemon.request import MountRequest
from fusepkg.daemon.unmount import end_mount
from fusepkg.errors import CacheFailure, FusepkgError, NotMounted, UsageError
from fusepkg.fetch.chunks import cached_digests
from fusepkg.model.times import check_times, one_time_s
from fusepkg.query.view import view_of
from fusepkg.work.progress import Phase, PhaseCounters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.opened.version import OpenVersion
    from fusepkg.work.progress import ProgressCallback

log = logging.getLogger(__name__)

FETCHES = 32
"""Entries fetched into the cache at a time: enough to hide a round trip behind others."""

_READ_BYTES = 8 << 20
"""Of a large entry, at a time: one chunk."""

_KEPT_NAMED = 3
"""Files named in the warning about those that stay."""


def download(
    version: OpenVersion,
    name: str,
    directory: str | os.PathLike[str],
    progress: ProgressCallback,
    *,
    outside_links: bool,
    times: str,
) -> None:
    """Bring what is missing or out of date into a directory; warns of files that the user has changed."""
    from fusepkg.install.run import (
        install,
    )  # here, as below: programs that only look need neither it nor its event loop

    check_times(times)
    context, target = version.context, _named(directory)
    origin = context.direct_reader(version.reference.bucket)
    report = install(
        version.index,
        name,
        target,
        origin,
        context.settings.data_dir,
        outside_links=outside_links,
        time_s=one_time_s(times),
        progress=progress,
    )
    if report.kept:
        named = ", ".join(report.kept[:_KEPT_NAMED]) + (", ..." if len(report.kept) > _KEPT_NAMED else "")
        log.warning(
            "%s: %d changed here and left as they are: %s. force_directory_to_match_manifest() replaces them",
            os.fspath(directory), len(report.kept), named,
        )  # fmt: skip


def verify(
    version: OpenVersion, name: str, directory: str | os.PathLike[str], progress: ProgressCallback
) -> Verification:
    """Compare a directory with the package, every byte of it."""
    from fusepkg.install.repair import describe, find_differences, shown_key

    shown = os.fspath(directory)
    differences = find_differences(version.index, _named(directory), progress=progress)
    lines = tuple(f"{_below(shown, shown_key(found))} {describe(found, name)}" for found in differences)
    advice = f'This can be fixed by calling pkg.force_directory_to_match_manifest("{shown}")'
    return Verification(lines, advice)


def force(
    version: OpenVersion,
    name: str,
    directory: str | os.PathLike[str],
    progress: ProgressCallback,
    *,
    any_directory: bool,
    dry_run: bool,
) -> Changes:
    """Make a directory what the package says, and nothing else."""
    from fusepkg.install.repair import force_to_match

    changes = force_to_match(
        version.index,
        name,
        _named(directory),
        version.context.direct_reader(version.reference.bucket),
        version.context.settings.data_dir,
        any_directory=any_directory,
        dry_run=dry_run,
        progress=progress,
    )
    return Changes(tuple(_below(os.fspath(directory), str(change)) for change in changes))


def _named(directory: str | os.PathLike[str]) -> Path:
    """The directory a user names: an empty text, such as an unset variable, is not the working directory."""
    if not os.fspath(directory):
        raise UsageError("'' names no directory", hint='Write "." for the working directory')
    return Path(directory)


def _below(directory: str, name: str) -> str:
    """A path as the user writes it, ``./`` and all."""
    return f"{directory.rstrip('/')}/{name}"


# --- the cache -----------------------------------------------------------------------------------------------


def cache_entries(version: OpenVersion, numbers: range, progress: ProgressCallback) -> None:
    """Have these entries in the cache, fetching what is not. Raises RemoteError, IntegrityError, CacheFailure."""
    version.context.cache()  # raises where there is none: reading would go round it
    entries, reader = version.index.entries, version.context.blocking_reader(version.reference.bucket)
    counters = PhaseCounters(progress, Phase.DOWNLOAD, total=len(numbers))

    def fetch(number: int) -> int:
        entry = entries.entry(number)
        cached, chunks = reader.cached_chunks(entry)
        if cached < chunks:
            for offset in range(0, entry.size, _READ_BYTES):
                reader.read(entry, offset, _READ_BYTES)
        return entry.size

    with ThreadPoolExecutor(FETCHES, thread_name_prefix="fusepkg-cache") as pool:
        for start in range(0, len(numbers), FETCHES * 8):  # a million futures at once would be a gigabyte
            for size in pool.map(fetch, numbers[start : start + FETCHES * 8]):
                counters.add(1, size)


def clear_cache(version: OpenVersion, numbers: range) -> None:
    """Drop these entries from the cache, for all programs of the machine. Raises CacheFailure."""
    cache = version.context.cache()
    try:
        cache.clear(cached_digests(cache, map(version.index.entries.entry, numbers)))
    except CacheError as exc:
        raise CacheFailure(exc.message, hint=exc.hint) from exc


# --- mounts --------------------------------------------------------------------------------------------------


def start(version: OpenVersion, directory: Path, engine: str) -> None:
    """Mount the package there until somebody unmounts it; made if it is not there. Raises MountError."""
    directory.mkdir(parents=True, exist_ok=True)
    from fusepkg.daemon.start import spawn_mount

    reference = replace(version.reference, top_hash=version.index.top_hash)
    spawn_mount(MountRequest(reference, directory, version.context.settings, engine, view=view_of(version)))


@contextmanager
def mounted(version: OpenVersion, directory: Path | None, engine: str) -> Iterator[Path]:
    """Mount the package while the block runs, in a new directory unless one is given. Raises MountError.

    The mount ends with this process, however that ends. A forked child that leaves the block ends nothing.
    """
    from fusepkg.daemon.start import spawn_mount

    made: tuple[Path, ...] = ()
    if directory is None:
        parent = Path(tempfile.mkdtemp(prefix="fusepkg-"))
        directory = parent / version.reference.name.rpartition("/")[2]
        made = (directory, parent)
    elif not directory.exists():
        made = (directory,)
    owner = os.getpid()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        reference = replace(version.reference, top_hash=version.index.top_hash)
        settings = version.context.settings
        spawn_mount(
            MountRequest(reference, directory, settings, engine, owner=owner, made_for_it=made, view=view_of(version))
        )
    except BaseException:
        _remove(made)
        raise
    try:
        yield directory
    finally:
        if os.getpid() == owner:
            with suppress(NotMounted):  # by somebody else, meanwhile
                _end(directory)
            _remove(made)


def _remove(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        with suppress(OSError):  # the mount's process was quicker, or something was put there
            directory.rmdir()


def _end(directory: Path) -> None:
    try:
        end_mount(directory, lazy=False)
    except FusepkgError:
        end_mount(directory, lazy=True)  # in use: out of sight now, gone with its last user
