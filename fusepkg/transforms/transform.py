"""The driver: which parts are missing, who does them, and the manifest of all that came of them.

No byte of an entry passes it: workers read and write, and hand back what a manifest says of results.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import PublishError, UsageError
from fusepkg.model.entry import EntryKind
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.ignore_patterns import parse_pattern
from fusepkg.publish.push_manifest import look_at_tag, push_manifest
from fusepkg.publish.upload.keys import normalise_prefix
from fusepkg.publish.upload.presence import NamedObject, Presence
from fusepkg.registry.layout import Layout
from fusepkg.transforms.executors import check_picklable, find_workers
from fusepkg.transforms.parts import identity_of, make_batches, make_parts
from fusepkg.transforms.records import read_records, records_prefix
from fusepkg.transforms.running import run_batches
from fusepkg.transforms.work import FailedEntries, Work
from fusepkg.work.threads import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference
    from fusepkg.transforms.parts import Part, SourcePackage
    from fusepkg.transforms.work import BatchDone

KEY = "transform"
"""Where in the metadata of the new package it stands how it came about."""

_FAILURES_NAMED = 100
"""Failures that metadata name; all are counted."""

_FILES = (EntryKind.FILE, EntryKind.EXECUTABLE)


@dataclass(frozen=True, slots=True)
class Transformed:
    """``reference`` names the new version by its hash. Parts are what one call of the function got: ``done`` now,
    ``reused`` from an earlier run."""

    reference: Reference
    tag: str | None
    top_hash: str
    entries: int
    done: int
    reused: int
    failures: tuple[FailedEntries, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: ``names`` picks entries (a pattern as in .gitignore), ``by`` of them go into each call."""

    out: str
    executor: object = "processes"
    jobs: int | None = None
    names: str = ""
    by: int = 1
    version: str | None = None
    message: str | None = None
    meta: Mapping[str, Any] | None = None
    prefix: str | None = None


def transform(
    source: SourcePackage,
    function: Callable[[Any], object],
    plan: Plan,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Transformed:
    """Make one package out of another. What an earlier run has done is not done again.

    Raises UsageError, PublishError where nothing came of any entry, KeyCollision where two results have one name,
    TagConflict, MissingExtra, and what stores raise.
    """
    out = parse_reference(plan.out)
    if out.top_hash is not None:
        raise UsageError(f"{plan.out} names a hash, which follows from what will be in it", hint="Name a tag")
    if plan.by < 1:
        raise UsageError(f"{plan.by} entries in each call", hint="Write a number above 0")
    draft = Draft(out, source.context.stores, tag=out.tag)
    look_at_tag(draft, out.tag, Layout.FUSEPKG)
    prefix = normalise_prefix(out.name if plan.prefix is None else plan.prefix)
    identity = identity_of(function, plan.version)
    store = draft.stores.for_bucket(out.bucket)
    below = records_prefix(out.name, prefix, identity.version)
    parts = list(make_parts(source, _chosen(source, plan.names), plan.by))
    known = read_records(store, below)
    results = {part.key: known[part.key] for part in parts if part.key in known}
    _drop_broken(results, Presence(store, draft.stores.for_key))
    reused = len(results)
    failed: dict[str, FailedEntries] = {}

    def collect(batch: BatchDone) -> None:
        results.update(batch.done)
        failed.update(batch.failed)
        progress(len(results) + len(failed), len(parts))

    def lost(part: Part, why: str) -> None:
        entries = source.index.entries
        failed[part.key] = FailedEntries(tuple(entries.logical_key(number) for number in part.numbers), why)

    missing = [part for part in parts if part.key not in results]
    if missing:
        with closing(find_workers(plan.executor, plan.jobs)) as workers:
            check_picklable(function, workers.executor)
            work = Work(source, function, str(out), prefix, below, plan.by)
            run_batches(work, make_batches(missing, workers.count), workers, collect, lost)
    failures = [failed[part.key] for part in parts if part.key in failed]
    made = [entry for part in parts for entry in results.get(part.key, ())]
    if not made:
        raise PublishError(
            f"nothing came of any of {len(parts):,} parts{f': {failures[0]}' if failures else ''}",
            hint="Run the function over one entry by hand",
        )
    draft.add_stored(made)
    draft.message = plan.message
    draft.user_meta = {**(plan.meta or {}), KEY: _about(source, plan, identity.name, identity.version, failures)}
    top_hash = push_manifest(draft, packs=False)
    done = len(results) - reused
    return Transformed(out, out.tag, top_hash, len(made), done, reused, tuple(failures))


def _chosen(source: SourcePackage, names: str) -> list[int]:
    pattern = parse_pattern(names) if names else None
    if names and pattern is None:
        raise UsageError(f"{names!r} matches no file", hint="Write, for example, train/**/*.jpg")
    numbers = []
    for number, entry in enumerate(source.index.entries):
        if entry.kind in _FILES and (pattern is None or pattern.matches(entry.logical_key.split("/"), False)):
            numbers.append(number)
    if not numbers:
        raise UsageError(f"{source.reference} has no such file: {names or 'it is empty'}", hint="Look at it with ls")
    return numbers


def _drop_broken(results: dict[str, tuple[Entry, ...]], presence: Presence) -> None:
    """Forget results whose objects are not there any more."""

    def objects() -> Iterator[NamedObject]:
        for entries in results.values():
            for entry in entries:
                yield NamedObject(str(entry.physical_key), entry.size, entry.digest)

    broken = presence.find_broken(objects, StopFlag()) if results else {}
    for key, entries in list(results.items()) if broken else ():
        if any(str(entry.physical_key) in broken for entry in entries):
            del results[key]


def _about(
    source: SourcePackage, plan: Plan, name: str, version: str, failures: Sequence[FailedEntries]
) -> dict[str, Any]:
    """Return what is said of it; nothing that differs between a run and one that was killed and repeated."""
    about: dict[str, Any] = {
        "inputs": [f"{source.reference.package}@{source.index.top_hash}"],
        "function": name,
        "version": version,
        "names": plan.names,
        "by": plan.by,
    }
    if failures:
        about["failed"] = len(failures)
        about["failures"] = [str(failure) for failure in failures[:_FAILURES_NAMED]]
    return about
