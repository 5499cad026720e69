"""Doing the task that encodes videos of a dataset again."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fusepkg.datasets.dataset import Dataset
from fusepkg.datasets.media import program, read_video
from fusepkg.datasets.rows import find_row
from fusepkg.datasets.transcode import transcode
from fusepkg.errors import FusepkgError
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context

if TYPE_CHECKING:
    from fusepkg.tasks.work import Running

_DONE_BY = "re_encoded_by"
"""In a row's metadata: the number of the task that made its video. A worker that takes over leaves it out."""

_PIECE_BYTES = 8 << 20


def run(running: Running) -> list[dict[str, Any]]:
    """Do the task: one version for each video. Those that a worker before this one has done are left as they are.

    Raises DataUnfit for a row that is gone or cannot be encoded, ObjectMissing for a file that is gone.
    """
    program("ffmpeg")
    dataset, reference = Dataset(running.task.about), parse_reference(running.task.about)
    running.require_own_bucket(current_context().store(reference.bucket), dataset.reference)
    wanted = [uid for uid in running.parameters.get("videos", []) if isinstance(uid, str)]
    for done, uid in enumerate(wanted):
        running.progress(f"{done} of {len(wanted)} videos")
        try:
            _re_encode(dataset, uid, running)
        except FusepkgError as exc:
            exc.message = f"video {uid} ({done} of {len(wanted)} were done before it): {exc.message}"
            raise
    rows = {row.uid: row for row in dataset.data_rows}
    return [{"data_hash": uid, "bucket_path": rows[uid].file_link} for uid in wanted if uid in rows]


def _re_encode(dataset: Dataset, uid: str, running: Running) -> None:
    package, number = dataset.package, running.task.number
    row = find_row(package, uid, dataset.reference)
    if row.meta.get(_DONE_BY) == number:
        return
    with tempfile.TemporaryDirectory(prefix="fusepkg-re-encode-") as scratch:
        name = PurePosixPath(row.logical_key)
        source, target = Path(scratch) / f"source{name.suffix}", Path(scratch) / f"{name.stem}.mp4"
        with package[row.logical_key].open() as read, source.open("wb") as written:
            while piece := read.read(_PIECE_BYTES):
                running.check()
                written.write(piece)
        media = transcode(source, target, row.title, read_video(source, row.title), running.check)
        running.check()
        message = f"{row.title} encoded again (task {number})"
        dataset.put_video(uid, target, media, {_DONE_BY: number}, message=message)
