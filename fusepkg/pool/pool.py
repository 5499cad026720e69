"""A datapool: run it again and again, and its package grows by what is new and unlike what it holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import PoolUnfit
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context
from fusepkg.pool.config import OnnxInput, PoolConfig, Selection, check, read_config
from fusepkg.pool.sources import list_objects
from fusepkg.pool.version import PoolVersion, open_pool, tag_run
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from fusepkg.api.package import Package
    from fusepkg.pool.embedders import Function
    from fusepkg.pool.version import LookedAt
    from fusepkg.work.progress import ProgressCallback


@dataclass(frozen=True, slots=True)
class PoolRun:
    """What a run came to. ``package`` is the version there is now, and ``tag`` the run's own; ``total`` are chosen.

    ``objects`` were new, and ``chosen`` are the names added; both are empty if there was nothing new.
    """

    package: Package
    tag: str
    run: int
    total: int
    objects: tuple[LookedAt, ...] = ()
    chosen: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """How many pictures and frames were new."""
        return sum(one.pictures for one in self.objects)

    @property
    def skipped(self) -> dict[str, str]:
        """Why objects were skipped, by name."""
        return {one.name: one.skipped for one in self.objects if one.skipped}


class Pool:
    """A datapool: ``Pool("s3://bucket/videos/", "bucket/street", selection=Selection(min_distance=0.1)).run()``.

    ``source`` is a bucket's prefix, a folder, a package, or several; ``target`` the package that grows. ``embedder`` is
    "histogram", the name of an ONNX file, ``module:function``, or a function: it takes pictures as arrays (height,
    width, 3) of bytes, and gives one row of numbers for each. All frames of a video count unless ``frames_per_second``
    says fewer. ``metadata`` is a CSV with fields of pictures or videos, by name.

    Raises UsageError, InvalidReference.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[str],
        target: str,
        *,
        selection: Selection,
        embedder: str | Function = "histogram",
        onnx: OnnxInput | None = None,
        frames_per_second: float | None = None,
        metadata: str | os.PathLike[str] | None = None,
        process_all: bool = False,
    ) -> None:
        self._function = None if isinstance(embedder, str) else embedder
        config = PoolConfig(
            source=os.fspath(source) if isinstance(source, str | os.PathLike) else list(source),
            target=target,
            embedder=embedder if isinstance(embedder, str) else "",
            onnx=onnx or OnnxInput(),
            frames_per_second=frames_per_second,
            metadata=None if metadata is None else os.fspath(metadata),
            process_all=process_all,
            selection=selection,
        )
        self._config = check(config, "Pool")
        self._context = current_context()
        self._target = parse_reference(config.target)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, process_all: bool = False) -> Self:
        """Return the pool that a pool.toml describes. Raises UsageError."""
        return cls.from_config(read_config(Path(path)), process_all=process_all)

    @classmethod
    def from_config(cls, config: PoolConfig, *, process_all: bool = False) -> Self:
        """Return the pool of a pool.toml that has been read. Raises UsageError."""
        return cls(
            config.sources,
            config.target,
            selection=config.selection,
            embedder=config.embedder,
            onnx=config.onnx,
            frames_per_second=config.frames_per_second,
            metadata=config.metadata,
            process_all=process_all or config.process_all,
        )

    def run(self, *, progress: ProgressCallback = no_progress) -> PoolRun:
        """Look at what is new in the source, choose, and publish it as the next version; without news do nothing.

        A run that is cut off goes on where it stopped when it is repeated on this machine; nothing was published.

        Raises PoolUnfit, UsageError, MissingExtra, RemoteError, IntegrityError, and TagConflict where another run was
        first.
        """
        config, context = self._config, self._context
        before = open_pool(context, self._target)
        objects = list_objects(context, config.sources, progress=progress)
        if not objects:
            raise PoolUnfit(
                f"there are no pictures or videos in {', '.join(config.sources)}",
                hint="Check the name; what counts is how names end: .jpg, .png, .mp4, .avi and the like",
            )
        known = set() if config.process_all else before.looked_at()
        new = [one for one in objects if one.key not in known]
        if not new:
            return _nothing_new(before, tag_run(context, before))
        from fusepkg.pool.grow import grow  # here: without news none of its libraries is needed

        names_before = {name for name, _ in known}
        grown = grow(context, config, before, new, names_before, progress, self._function)
        tag = tag_run(context, PoolVersion(self._target, grown.package, grown.header))
        return PoolRun(
            grown.package, tag, grown.header.runs, grown.header.chosen, tuple(grown.looked_at), tuple(grown.chosen)
        )


def _nothing_new(before: PoolVersion, tag: str) -> PoolRun:
    assert before.package is not None, "objects were looked at"
    return PoolRun(before.package, tag, before.header.runs, before.header.chosen)
