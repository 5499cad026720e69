"""Looking at what is new: each picture and frame decoded, measured and embedded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fusepkg.pool.embedded import EmbeddedFrame
from fusepkg.pool.libraries import np
from fusepkg.pool.pictures import Broken, measure, read_frames, read_picture
from fusepkg.pool.sources import opened
from fusepkg.work.progress import Phase, PhaseCounters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fusepkg.app.context import Context
    from fusepkg.pool.embedded import Embedded
    from fusepkg.pool.embedders import Embedder
    from fusepkg.pool.farthest import Vectors
    from fusepkg.pool.pictures import Picture
    from fusepkg.pool.sources import SourceObject
    from fusepkg.work.progress import ProgressCallback

_THREADS = 8
"""Pictures fetched and decoded side by side."""


def embed_objects(
    context: Context,
    objects: Sequence[SourceObject],
    embedder: Embedder,
    rate: float | None,
    embedded: Embedded,
    progress: ProgressCallback,
) -> None:
    """Embed what ``embedded`` does not have yet, and keep it there. Broken objects are kept with the reason.

    Pictures go in the same batches each time, whatever is there already, so that a repeated run computes the same.
    Raises PoolUnfit, RemoteError, IntegrityError.
    """
    counters = PhaseCounters(progress, Phase.EMBED, total=len(objects))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="fusepkg-pool") as threads:
        for group in _groups(objects, embedder.batch):
            if any(one.key not in embedded.records for one in group):
                if group[0].is_video or group[0].wrong:
                    _embed_one(context, group[0], embedder, rate, embedded)
                else:
                    _embed_pictures(context, group, embedder, embedded, threads)
            counters.add(len(group), 0)


def _groups(objects: Iterable[SourceObject], size: int) -> Iterator[list[SourceObject]]:
    """Give videos one by one, and pictures that follow each other together."""
    waiting: list[SourceObject] = []
    for one in objects:
        if one.is_video or one.wrong:
            if waiting:
                yield waiting
            yield [one]
            waiting = []
            continue
        waiting.append(one)
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _embed_one(
    context: Context, found: SourceObject, embedder: Embedder, rate: float | None, embedded: Embedded
) -> None:
    """Embed a video; of what has been decoded, a batch is in memory at a time."""
    if found.wrong:
        embedded.add(found.key, (), None, found.wrong)
        return
    items: list[EmbeddedFrame] = []
    parts: list[Vectors] = []
    waiting: list[Any] = []
    try:
        with opened(context, found) as file:
            for picture in read_frames(file, rate=rate):
                items.append(_item(picture))
                waiting.append(embedder.prepare(picture.image))
                if len(waiting) == embedder.batch:
                    parts.append(embedder.vectors(waiting, found.name))
                    waiting = []
    except Broken as exc:
        embedded.add(found.key, (), None, str(exc))
        return
    if waiting:
        parts.append(embedder.vectors(waiting, found.name))
    embedded.add(found.key, items, np.concatenate(parts))


def _embed_pictures(
    context: Context,
    group: Sequence[SourceObject],
    embedder: Embedder,
    embedded: Embedded,
    threads: ThreadPoolExecutor,
) -> None:
    def prepared(found: SourceObject) -> tuple[EmbeddedFrame, Any] | str:
        try:
            with opened(context, found) as file:
                picture = read_picture(file)
        except Broken as exc:
            return str(exc)
        return _item(picture), embedder.prepare(picture.image)

    results = list(threads.map(prepared, group))
    good = [one[1] for one in results if not isinstance(one, str)]
    rows = iter(embedder.vectors(good, f"{group[0].name} to {group[-1].name}") if good else ())
    for found, result in zip(group, results, strict=True):
        vectors = None if isinstance(result, str) else next(rows)[None, :]
        if found.key in embedded.records:
            continue
        if isinstance(result, str):
            embedded.add(found.key, (), None, result)
        else:
            embedded.add(found.key, [result[0]], vectors)


def _item(picture: Picture) -> EmbeddedFrame:
    return EmbeddedFrame(picture.frame, picture.time_s, measure(picture.image))
