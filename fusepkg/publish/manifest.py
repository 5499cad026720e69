"""The manifest of a version being made: its text, and its top hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import UsageError
from fusepkg.model.block_hashes import with_block_root
from fusepkg.model.entry import Entry, EntryKind
from fusepkg.model.links import LinkGraph
from fusepkg.model.manifest import write_directory, write_entry, write_header
from fusepkg.model.tophash import TopHash
from fusepkg.publish.hash.entries import hash_entries
from fusepkg.work.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.state.hints import Hints
    from fusepkg.work.progress import ProgressCallback

_LINES_WRITTEN_BYTES = 1 << 20
"""Manifest lines collected before they are written."""


def build_manifest(
    draft: Draft,
    *,
    look_again: bool = True,
    hints: Hints | None = None,
    progress: ProgressCallback = no_progress,
) -> str:
    """Hash what is not hashed, and return the top hash, which the draft keeps until it changes.

    ``look_again`` is that of ``hash_entries``.

    Raises: UsageError for a version without entries, ManifestInvalid for links that lead out of it, FileChanged,
    FolderUnfit, and what stores raise.
    """
    if not len(draft):
        raise UsageError(f"The new version of {draft.reference.package} has no entries", hint="Add files first")
    if hash_entries(draft, draft.tree.all(), look_again=look_again, hints=hints, progress=progress):
        draft.changed()
    if draft.top_hash is None:
        top_hash, links = TopHash(draft.header()), LinkGraph()
        for entry in entries_of(draft):
            top_hash.update(entry)
            if entry.kind is EntryKind.SYMLINK:
                links.add(entry.logical_key.encode(), entry.link_text.encode(), is_blunted=entry.leads_out)
        links.check()
        draft.top_hash = top_hash.hexdigest()
    return draft.top_hash


def entries_of(draft: Draft) -> Iterator[Entry]:
    """Return the entries in tree order; all of them have been hashed."""
    changed_meta = draft.changed_meta
    for key, (item, number) in draft.tree.in_order():
        known = item.entries.get(number)
        assert known.digest is not None
        meta, root = changed_meta.get(key, known.meta), draft.block_roots.get(known.digest)
        yield Entry(key, known.place, known.size, known.digest, with_block_root(meta, root) if root else meta)


def write_manifest(draft: Draft, into: Path) -> None:
    """Write the manifest of a draft that has been built. Raises ManifestInvalid for a record that is too large."""
    with into.open("wb", buffering=_LINES_WRITTEN_BYTES) as file:
        file.write(write_header(draft.header()))
        for directory in sorted(draft.directory_meta, key=lambda key: key.split("/")):
            meta = draft.directory_meta[directory]
            if meta and draft.tree.is_directory(directory.removesuffix("/")):
                file.write(write_directory(directory, meta))
        for entry in entries_of(draft):
            file.write(write_entry(entry))
