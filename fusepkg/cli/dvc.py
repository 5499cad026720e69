"""A package made of what a DVC repository tracks: `import dvc+... REF`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.cli.opening import open_package
from fusepkg.cli.output import counted, human_bytes, note, progress_bar, say, short, show_phase
from fusepkg.dvc.convert import PROVENANCE, with_own_hashes
from fusepkg.errors import UsageError
from fusepkg.model.reference import parse_reference, split_place
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.push_manifest import push_manifest
from fusepkg.publish.upload.data import push_data
from fusepkg.registry.manifests import put_chunk_list

if TYPE_CHECKING:
    from fusepkg.app.context import Context
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.work.progress import ProgressCallback


def import_repository(app: Context, source: str, ref: str) -> None:
    """Make a package of a DVC repository at a revision. Data in buckets stays where it is; files here are sent.

    Raises as opening the repository, reading its data and pushing do.
    """
    of, reference = parse_reference(source), parse_reference(ref)
    if reference.top_hash is not None:
        raise UsageError(f"{ref} names a version, which never changes", hint="Leave out the hash")
    opened = open_package(app, source)
    bytes_of, store = app.blocking_reader(of.bucket), app.store(reference.bucket)
    with tempfile.TemporaryDirectory(prefix="fusepkg-dvc-") as directory, progress_bar() as show:
        index = with_own_hashes(
            opened.index,
            bytes_of.read,
            lambda digest, chunks: put_chunk_list(store, digest, chunks),
            Path(directory),
            show_phase(show),
        )
        top_hash, sent = _push(app, index, of, reference, show_phase(show))
    say(f"Tophash: {top_hash}")
    say(f"Linking {reference} to manifest {short(top_hash)}")
    buckets = sorted({entry.physical_key.bucket for entry in opened.index.entries} - {""})
    read = f"{counted(len(index.entries), 'file')}, {human_bytes(index.total_bytes)}, read once for their hashes"
    note(f"{read}; {human_bytes(sent)} sent")
    if buckets:
        places = ", ".join(f"s3://{bucket}" for bucket in buckets)
        note(f"The data stays in DVC's remote, {places}: what `dvc gc --cloud` removes there is missing here too")


def _push(
    app: Context, index: Index, of: Reference, reference: Reference, progress: ProgressCallback
) -> tuple[str, int]:
    repository, directory = split_place(of.bucket.place)
    draft = Draft(reference, app.stores, tag=reference.tag)
    draft.add_package(index)
    draft.user_meta = {PROVENANCE: {"repository": repository, "revision": of.tag, "directory": directory}}
    is_elsewhere = all(entry.physical_key.bucket for entry in index.entries)
    sent = push_data(draft, local_files_only=is_elsewhere, hints=app.hints, progress=progress)
    return push_manifest(draft, hints=app.hints, progress=progress), sent.uploaded_bytes
