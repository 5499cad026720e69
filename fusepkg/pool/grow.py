"""One run over what is new: embed, choose, extract, publish."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import PoolUnfit
from fusepkg.pool.choose import Chosen, choose, group_of
from fusepkg.pool.datapool_csv import NAME, read_datapool, write_datapool
from fusepkg.pool.embed import embed_objects
from fusepkg.pool.embedded import forget, open_embedded
from fusepkg.pool.embedders import open_embedder
from fusepkg.pool.fields import read_table, within
from fusepkg.pool.libraries import np
from fusepkg.pool.pictures import read_frames
from fusepkg.pool.report import PICTURE, TABLE, write_picture, write_table
from fusepkg.pool.sources import OWN, opened
from fusepkg.pool.version import FORMAT, Header, LookedAt, NewEntry, push_run
from fusepkg.work.progress import Phase, PhaseCounters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fusepkg.api.package import Package
    from fusepkg.app.context import Context
    from fusepkg.pool.config import PoolConfig
    from fusepkg.pool.embedded import Embedded, EmbeddedFrame
    from fusepkg.pool.embedders import Embedder, Function
    from fusepkg.pool.farthest import Vectors
    from fusepkg.pool.sources import SourceObject
    from fusepkg.pool.version import PoolVersion
    from fusepkg.work.progress import ProgressCallback


@dataclass(frozen=True, slots=True)
class Grown:
    """What a run over something new came to."""

    package: Package
    header: Header
    looked_at: list[LookedAt]
    chosen: list[str]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A picture or frame that may be chosen; ``fields`` are measured, or said of it."""

    found: SourceObject
    item: EmbeddedFrame
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run works with. ``names_before`` are those of the objects of earlier runs."""

    context: Context
    config: PoolConfig
    before: PoolVersion
    names_before: set[str]
    embedder: Embedder
    progress: ProgressCallback

    @property
    def number(self) -> int:
        return self.before.header.runs + 1

    @property
    def base(self) -> Package | None:
        """The version that is added to."""
        return None if self.config.process_all else self.before.package


def grow(
    context: Context,
    config: PoolConfig,
    before: PoolVersion,
    objects: Sequence[SourceObject],
    names_before: set[str],
    progress: ProgressCallback,
    function: Function | None,
) -> Grown:
    """Look at objects, choose among what they hold, and publish. ``names_before`` are those of objects of earlier runs.

    Raises PoolUnfit, UsageError, TagConflict, MissingExtra, RemoteError, IntegrityError.
    """
    run = _Run(context, config, before, names_before, open_embedder(config, function), progress)
    _require_same_embedder(run)
    table = read_table(Path(config.metadata)) if config.metadata else {}
    said = f"{before.reference.package}:{before.reference.tag}\n{run.embedder.identity}\n{config.frames_per_second}"
    key = hashlib.sha256(said.encode()).hexdigest()[:32]
    with open_embedded(context.settings.cache_dir / "pools", key) as (embedded, directory):
        embed_objects(context, objects, run.embedder, config.frames_per_second, embedded, progress)
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=directory) as scratch:
            grown = _choose_and_publish(run, objects, embedded, table, Path(scratch))
        forget(directory)
    return grown


def _require_same_embedder(run: _Run) -> None:
    before = run.before
    if run.base is not None and before.header.chosen and before.header.embedder != run.embedder.identity:
        raise PoolUnfit(
            f"{before.reference} was chosen by the embedder {before.header.embedder}: its embeddings cannot be compared"
            f" with those of {run.embedder.identity}",
            hint="Name another target, or start again from everything with process_all = true",
        )


def _choose_and_publish(
    run: _Run,
    objects: Sequence[SourceObject],
    embedded: Embedded,
    table: Mapping[str, Mapping[str, Any]],
    scratch: Path,
) -> Grown:
    records = [embedded.records[one.key] for one in objects]
    candidates, rows = [], []
    for found, record in zip(objects, records, strict=True):
        for number, item in enumerate(record.items):
            candidates.append(_Candidate(found, item, {**item.measures, **found.meta, **_said(table, found, item)}))
            rows.append(record.first + number)
    vectors = embedded.vectors()
    if rows != list(range(len(vectors))):
        vectors = vectors[rows]  # in the order of objects, and without those that are gone since
    old_names, old = _chosen_before(run, vectors)
    chosen = _choose(run, candidates, vectors, old)
    picked = [candidates[one.row] for one in chosen]
    names = _names(run, picked)
    entries = list(_entries(run, picked, chosen, names, scratch))
    counts = Counter(one.found.key for one in picked)
    looked_at = [
        LookedAt(record.name, record.identity, len(record.items), counts[record.name, record.identity], record.wrong)
        for record in records
    ]
    header = Header(FORMAT, run.number, run.embedder.identity, len(old_names) + len(names))
    message = f"datapool run {run.number}: {len(names):,} of {len(candidates):,} new pictures and frames chosen"
    files = {name: scratch / name for name in (NAME, PICTURE, TABLE)}
    new = vectors[[one.row for one in chosen]]
    write_datapool(files[NAME], [*old_names, *names], np.concatenate([old, new]))
    write_picture(files[PICTURE], old, new, f"{run.before.reference.package}, run {run.number}")
    facts = [("embedder", run.embedder.identity), ("chosen", f"{len(names):,} of {len(candidates):,} that are new")]
    facts += [("in all", f"{header.chosen:,}"), ("distance of the last one chosen", _distance(chosen))]
    write_table(files[TABLE], message, facts, looked_at)
    anew = run.base is None
    package = push_run(
        run.before, entries, looked_at, files, header, scratch, message=message, anew=anew, progress=run.progress
    )
    return Grown(package, header, looked_at, names)


def _chosen_before(run: _Run, new: Vectors) -> tuple[list[str], Vectors]:
    """Return names and vectors of what earlier runs chose. Raises PoolUnfit if ``new`` are of another length."""
    if run.base is None:
        return [], new[:0]
    names, old = read_datapool(run.base.get(f"{OWN}{NAME}"), f"{OWN}{NAME} of {run.base.name}")
    if len(old) and len(new) and old.shape[1] != new.shape[1]:
        raise PoolUnfit(
            f"{run.embedder.identity} gives {new.shape[1]} numbers, and gave {old.shape[1]} in earlier runs",
            hint="Start again from everything with process_all = true",
        )
    return names, old if len(old) else new[:0]


def _said(table: Mapping[str, Mapping[str, Any]], found: SourceObject, item: EmbeddedFrame) -> dict[str, Any]:
    """Return what the table of metadata says of an object, and of a frame of it."""
    own = table.get(_frame_name(found.name, item.frame), {}) if item.frame is not None else {}
    return {**table.get(found.name, {}), **own}


def _choose(run: _Run, candidates: Sequence[_Candidate], vectors: Vectors, old: Vectors) -> list[Chosen]:
    if not candidates:
        return []
    selection = run.config.selection
    fields = [one.fields for one in candidates]
    at_most = selection.at_most(len(candidates))
    counters = PhaseCounters(run.progress, Phase.CHOOSE, total=at_most or 0)
    balance = selection.balance
    shares = balance.target if balance else {}
    classes = [str(one.get(balance.key, "")) for one in fields] if balance else None
    counts_before: Counter[str] = Counter()
    if balance and run.base is not None:
        there = (entry for entry in run.base if not entry.logical_key.startswith(OWN))
        counts_before.update(group_of(str(entry.meta.get(balance.key, "")), shares) for entry in there)
    return choose(
        vectors,
        old,
        min_distance=selection.min_distance or 0.0,
        at_most=at_most,
        rows=within(fields, selection.thresholds),
        classes=classes,
        shares=shares,
        counts_before=counts_before,
        each=lambda _count: counters.add(1, 0),
    )


# --- names, and files to publish -----------------------------------------------------------------------------


def _names(run: _Run, chosen: Sequence[_Candidate]) -> list[str]:
    """Return the logical key of each: a picture's own name, ``video-000012-avi.png`` of a frame.

    What comes from an object whose name another one had before, or now, is told from it by its identity.
    """
    taken = {entry.logical_key for entry in run.base or ()}
    owners: dict[str, str] = {}
    found = []
    for one in chosen:
        name, identity = one.found.name, one.found.identity
        is_another = name in run.names_before or owners.setdefault(name, identity) != identity
        for mark in ("", f"~{hashlib.sha256(identity.encode()).hexdigest()[:8]}"):
            key = _marked(name, mark) if one.item.frame is None else _frame_name(_marked(name, mark), one.item.frame)
            if key not in taken and (mark or not is_another):
                break
        taken.add(key)
        found.append(key)
    return found


def _frame_name(video: str, frame: int | None) -> str:
    stem, _, extension = video.rpartition(".")
    return f"{stem}-{frame:06}-{extension}.png"


def _marked(name: str, mark: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return f"{stem}{mark}{dot}{extension}"


def _entries(
    run: _Run, candidates: Sequence[_Candidate], chosen: Sequence[Chosen], names: Sequence[str], scratch: Path
) -> Iterator[NewEntry]:
    """Give what is to be published; frames are extracted, video by video."""
    videos: dict[tuple[str, str], dict[int, str]] = {}
    for one, name in zip(candidates, names, strict=True):
        if one.item.frame is not None:
            videos.setdefault(one.found.key, {})[one.item.frame] = name
    frames: dict[str, Path] = {}
    counters = PhaseCounters(run.progress, Phase.EXTRACT, total=sum(map(len, videos.values())))
    for found in {one.found.key: one.found for one in candidates if one.found.is_video}.values():
        wanted = videos[found.key]
        with opened(run.context, found) as file:
            for picture in read_frames(file, wanted=frozenset(wanted)):
                assert picture.frame is not None, "it is one of a video"
                path = scratch / f"{len(frames):08}.png"
                picture.image.save(path)
                frames[wanted[picture.frame]] = path
                counters.add(1, 0)
    for one, name, choice in zip(candidates, names, chosen, strict=True):
        if one.found.is_video and name not in frames:
            raise PoolUnfit(f"{one.found.name} changed while it was looked at", hint="Run it again")
        origin: dict[str, Any] = {"object": one.found.name, "identity": one.found.identity, "run": run.number}
        if one.item.frame is not None:
            origin |= {"frame": one.item.frame, "time_s": one.item.time_s}
        if np.isfinite(choice.distance):
            origin["distance"] = round(choice.distance, 6)
        meta = {**one.fields, "datapool": origin}
        if one.found.is_video:
            yield NewEntry(name, str(frames[name]), meta)
        else:
            yield NewEntry(name, one.found.address, meta, one.found.size, one.found.etag)


def _distance(chosen: Sequence[Chosen]) -> str:
    return f"{chosen[-1].distance:.4f}" if chosen and np.isfinite(chosen[-1].distance) else "none"
