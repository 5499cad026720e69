"""Publishing a version that has been made: its manifest, then the tag."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, chunk_count

from fusepkg.errors import (
    AccessDenied,
    DigestMismatch,
    LocalFilesRemain,
    ManifestNotPushed,
    ObjectMissing,
)
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import parse_tag
from fusepkg.publish.draft.entry_sources import RemoteObjects
from fusepkg.publish.manifest import build_manifest, write_manifest
from fusepkg.publish.targets import check_target, parse_format, publish_version, read_state
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.registry.layout import Layout, manifest_key
from fusepkg.registry.manifests import get_chunk_list, put_chunk_list
from fusepkg.registry.quilt3 import LATEST
from fusepkg.work.progress import no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.draft.draft import Draft
    from fusepkg.registry.tags import TagState
    from fusepkg.state.hints import Remembered
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback

_THREADS = 16
"""Chunk lists carried over at a time: latency only."""

SHORT_DIGITS = 9
"""Digits of a top hash shown to people."""


@dataclass(frozen=True, slots=True)
class ManifestBuilt:
    """The manifest has just been built."""

    top_hash: str

    def __str__(self) -> str:
        return f"Building manifest...\nTophash: {self.top_hash}"


@dataclass(frozen=True, slots=True)
class ManifestPushed:
    """The manifest is in the bucket."""

    url: str

    def __str__(self) -> str:
        return f"Pushing manifest to {self.url}"


@dataclass(frozen=True, slots=True)
class TagLinked:
    """A tag names the version now; ``moved`` is False where it named it before."""

    name: str
    top_hash: str
    moved: bool

    def __str__(self) -> str:
        short = self.top_hash[:SHORT_DIGITS]
        return f"Linking {self.name} to manifest {short}" if self.moved else f"{self.name} names {short} already"


def push_manifest(
    draft: Draft,
    tag: str | None = None,
    *,
    allow_local_files: bool = False,
    registry_format: str = "fusepkg",
    remembered: Remembered | None = None,
    progress: ProgressCallback = no_progress,
    report: Callable[[ManifestBuilt | ManifestPushed | TagLinked], None] = lambda _: None,
    keep: Callable[[Path], None] = lambda _: None,
) -> str:
    """Put the manifest in the bucket, and make a tag name it: the one given, or the draft's own, or none.

    The tag moves only if it still names what it named when the draft was made from it, or first looked at it. With the
    registry format ``quilt3`` it is quilt3's ``latest``, which always moves. ``keep`` is given the manifest, in a file
    that is gone afterwards, once it is published. Gives the top hash.

    Raises: LocalFilesRemain unless ``allow_local_files``, TagConflict, InvalidReference, UsageError, and what stores
    raise. Until the tag moves, it names what it named.
    """
    tag, where = find_target(draft, tag, registry_format)
    require_no_local_files(draft, allow=allow_local_files)
    name, store = draft.reference.name, draft.stores.for_bucket(draft.reference.bucket)
    before = _look_at_tag(draft, store, tag, where) if tag is not None else None
    was_built = draft.top_hash
    top_hash = build_manifest(draft, remembered=remembered, progress=progress)
    if top_hash != was_built:
        report(ManifestBuilt(top_hash))
    _carry_chunk_lists(draft, store)
    with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
        manifest = Path(scratch, "manifest")
        write_manifest(draft, manifest)
        publish_version(
            store,
            name,
            tag,
            top_hash,
            manifest,
            before=before,
            based_on=draft.based_on[tag] if tag else None,
            where=where,
            message=draft.message,
        )
        keep(manifest)
    draft.manifest_url = parse_physical_key(store.url(manifest_key(name, top_hash, where))).readable
    report(ManifestPushed(draft.manifest_url))
    if tag is not None:
        draft.based_on[tag] = top_hash
        moved = before is None or before.top_hash != top_hash
        report(TagLinked(f"{draft.reference.package}:{tag}", top_hash, moved))
    return top_hash


def find_target(draft: Draft, tag: str | None, registry_format: str) -> tuple[str | None, Layout]:
    """The tag that will move, if any, and the layout. Asks nobody. Raises InvalidReference, UsageError."""
    tag = draft.tag if tag is None else parse_tag(tag)
    where = parse_format(registry_format)
    if where is not Layout.FUSEPKG:
        tag = tag or LATEST
    check_target(draft.reference.name, tag, where)
    return tag, where


def require_no_local_files(draft: Draft, *, allow: bool) -> None:
    """Raise LocalFilesRemain for a version that nobody else could read."""
    if not allow and draft.has_local_files():
        raise LocalFilesRemain(
            "Manifest contains pointers to local files",
            hint="Use push_data() to first push those files to s3 or use allow_local_files=True if this is intentional",
        )


def require_pushed(draft: Draft, *, allow: bool) -> None:
    """Raise ManifestNotPushed for a version whose manifest is on this machine alone."""
    if not allow and draft.manifest_url is None:
        raise ManifestNotPushed(
            "The manifest has not been pushed to a remote repository",
            hint="Use push_manifest() to first push the manifest to s3 or use allow_local_manifest=True if this is"
            " intentional",
        )


def _look_at_tag(draft: Draft, store: ObjectStore, tag: str, where: Layout) -> TagState | None:
    before = None if is_new_directory(store) else read_state(store, draft.reference.name, tag, where)
    draft.based_on.setdefault(tag, before.top_hash if before else None)
    return before


# --- chunk lists ---------------------------------------------------------------------------------------------


def _carry_chunk_lists(draft: Draft, store: ObjectStore) -> None:
    """Keep the chunk hashes of large objects that stay in other buckets, so that parts of them can be verified."""
    stop = StopFlag()

    def carry(of: tuple[Digest, Sequence[bytes], PhysicalKey]) -> None:
        digest, chunks, place = of
        if not chunks:
            theirs, _ = draft.stores.for_key(place)
            try:
                chunks = get_chunk_list(theirs, digest)
            except (ObjectMissing, DigestMismatch, AccessDenied):
                return  # nobody computed it: such an object is read whole
        put_chunk_list(store, digest, chunks)

    run_threads(
        carry, _chunk_lists_elsewhere(draft, store), lambda _: None, threads=_THREADS, name="fusepkg-chunks", stop=stop
    )


def _chunk_lists_elsewhere(draft: Draft, store: ObjectStore) -> Iterator[tuple[Digest, Sequence[bytes], PhysicalKey]]:
    here = store.url("~")[:-1]
    for item, number in draft.tree.slots.values():
        origin = item.origin
        if item.is_local or (item.source.startswith(here) and not isinstance(origin, RemoteObjects)):
            continue
        facts = origin.facts(number)
        if chunk_count(facts.size) > 1 and facts.digest and facts.digest.algorithm is Algorithm.SHA2_256_CHUNKED:
            chunks = origin.hashed[number].chunks if isinstance(origin, RemoteObjects) else ()
            yield facts.digest, chunks, facts.place
