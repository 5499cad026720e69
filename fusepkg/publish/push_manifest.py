"""Publishing a version that has been made: its manifest, then the tag."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import (
    LocalFilesRemain,
    ManifestNotPushed,
    ObjectMissing,
)
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import parse_tag
from fusepkg.publish.block_lists import build_with_block_hashes, carry_block_lists
from fusepkg.publish.draft.entry_sources import PackageEntries
from fusepkg.publish.manifest import build_manifest, write_manifest
from fusepkg.publish.packs import push_packs
from fusepkg.publish.targets import check_target, link_version, parse_format, read_state
from fusepkg.publish.upload.chunk_lists import carry_chunk_lists
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.publish.upload.presence import NamedObject, Presence
from fusepkg.publish.workflows import apply_workflow
from fusepkg.registry.layout import Layout, manifest_key
from fusepkg.registry.manifests import ManifestPut, put_manifest
from fusepkg.registry.quilt3 import LATEST
from fusepkg.work.progress import no_progress
from fusepkg.work.threads import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from types import EllipsisType

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.registry.tags import TagState
    from fusepkg.state.hints import Hints
    from fusepkg.work.progress import ProgressCallback

_NAMED_OBJECTS = 3
"""Objects that cannot be read which a message names before it counts them."""

NOTES = {
    ManifestPut.PLACES_REPLACED: "The manifest of this version named other objects; it names these now",
    ManifestPut.MENDED: "The manifest of this version was damaged, and was written again",
}
"""What is said of a manifest that was there."""

SHORT_DIGITS = 9
"""Digits of a top hash shown to people."""


@dataclass(frozen=True, slots=True)
class ManifestBuilt:
    """The manifest has just been built."""

    top_hash: str

    def __str__(self) -> str:
        return f"Building manifest...\nTophash: {self.top_hash}"


@dataclass(frozen=True, slots=True)
class PacksLeftOut:
    """Some or all packs were not written."""

    warning: str

    def __str__(self) -> str:
        return f"Warning: {self.warning}"


@dataclass(frozen=True, slots=True)
class ManifestPushed:
    """The manifest is in the bucket."""

    url: str
    put: ManifestPut = ManifestPut.CREATED

    def __str__(self) -> str:
        line = f"Pushing manifest to {self.url}"
        note = NOTES.get(self.put)
        return f"{line}\n{note}" if note else line


@dataclass(frozen=True, slots=True)
class TagLinked:
    """A tag names the version now; ``moved`` is False where it named it before."""

    name: str
    top_hash: str
    moved: bool

    def __str__(self) -> str:
        short = self.top_hash[:SHORT_DIGITS]
        return f"Linking {self.name} to manifest {short}" if self.moved else f"{self.name} names {short} already"


@dataclass(frozen=True, slots=True)
class ManifestReport:
    """What came of publishing a manifest; ``state`` is where the tag stands, None without a tag."""

    put: ManifestPut
    state: TagState | None


def push_manifest(
    draft: Draft,
    tag: str | None = None,
    *,
    allow_local_files: bool = False,
    registry_format: str = "fusepkg",
    check: bool = False,
    suspects: frozenset[str] = frozenset(),
    packs: bool | None = None,
    workflow: str | EllipsisType | None = ...,
    block_hashes: bool | None = False,
    hints: Hints | None = None,
    progress: ProgressCallback = no_progress,
    report: Callable[[ManifestBuilt | PacksLeftOut | ManifestPushed | TagLinked], None] = lambda _: None,
    keep: Callable[[Path, ManifestPut], None] = lambda _manifest, _put: None,
) -> str:
    """Put the manifest in the bucket, and make a tag name it: the one given, or the draft's own, or none.

    The tag moves only if it still names what it named when the draft was made from it, or first looked at it. With the
    registry format ``quilt3`` it is quilt3's ``latest``, which always moves. ``keep`` is given the manifest, in a file
    that is gone afterwards, once it is published, and what came of putting it. ``packs`` is that of ``push_packs``,
    ``workflow`` that of ``apply_workflow``. With ``block_hashes`` files of several chunks, of this machine, get block
    hashes, with None those of formats that are read in parts; it makes another version. Returns the top hash.

    Raises: PublishError, LocalFilesRemain unless ``allow_local_files``, ObjectMissing if the version names objects of
    its bucket that are gone, TagConflict, InvalidReference, UsageError, and what stores raise. Until the tag moves, it
    names what it named.
    """
    tag, where = find_target(draft, tag, registry_format)
    require_no_local_files(draft, allow=allow_local_files)
    before = look_at_tag(draft, tag, where)
    was_built = draft.top_hash
    apply_workflow(draft, workflow)
    store = draft.stores.for_bucket(draft.reference.bucket)
    if block_hashes is False:
        top_hash = build_manifest(draft, hints=hints, progress=progress)
    else:
        of_all = block_hashes is True
        top_hash = build_with_block_hashes(draft, store, of_all=of_all, hints=hints, progress=progress)
    if top_hash != was_built:
        report(ManifestBuilt(top_hash))
    _check_objects(draft, Presence(store, draft.stores.for_key, suspects, check))
    for warning in push_packs(draft, packs, check=check, progress=progress).warnings:
        report(PacksLeftOut(warning))
    published = publish_manifest(draft, tag, where, before, keep=keep)
    assert draft.manifest_url is not None
    report(ManifestPushed(draft.manifest_url, published.put))
    if tag is not None:
        moved = before is None or before.top_hash != top_hash
        report(TagLinked(f"{draft.reference.package}:{tag}", top_hash, moved))
    return top_hash


def publish_manifest(
    draft: Draft,
    tag: str | None,
    where: Layout,
    before: TagState | None,
    *,
    broken: Container[str] = frozenset(),
    keep: Callable[[Path, ManifestPut], None] = lambda _manifest, _put: None,
) -> ManifestReport:
    """Put the manifest of a draft that has been built, then make the tag name it, if there is one.

    ``before`` is where the tag stood; ``broken`` are physical keys that cannot be read.

    Raises: ObjectCollision, TagConflict, and what stores raise.
    """
    name, top_hash = draft.reference.name, draft.top_hash
    assert top_hash is not None, "it has been built"
    store = draft.stores.for_bucket(draft.reference.bucket)
    carry_chunk_lists(draft, store)
    carry_block_lists(draft, store)
    with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
        manifest = Path(scratch, "manifest")
        write_manifest(draft, manifest)
        put = put_manifest(store, name, top_hash, manifest, where=where, broken=broken)
        state = link(draft, tag, where, before)
        keep(manifest, put)
    draft.manifest_url = parse_physical_key(store.url(manifest_key(name, top_hash, where))).readable
    return ManifestReport(put, state)


def link(draft: Draft, tag: str | None, where: Layout, before: TagState | None) -> TagState | None:
    """Make the tag name the draft's version, whose manifest is there; returns where it stands then."""
    assert draft.top_hash is not None
    store = draft.stores.for_bucket(draft.reference.bucket)
    based_on = draft.based_on[tag] if tag else None
    state = link_version(
        store,
        draft.reference.name,
        tag,
        draft.top_hash,
        before=before,
        based_on=based_on,
        where=where,
        message=draft.message,
    )
    if tag is not None:
        draft.based_on[tag] = draft.top_hash
    return state


def find_target(draft: Draft, tag: str | None, registry_format: str) -> tuple[str | None, Layout]:
    """Return the tag that will move, if any, and the layout. Asks no store. Raises InvalidReference, UsageError."""
    tag = draft.tag if tag is None else parse_tag(tag)
    where = parse_format(registry_format)
    if where is not Layout.FUSEPKG:
        tag = tag or LATEST
    check_target(draft.reference.name, tag, where)
    return tag, where


def require_no_local_files(draft: Draft, *, allow: bool) -> None:
    """Raise LocalFilesRemain for a version that other machines could not read."""
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


def look_at_tag(draft: Draft, tag: str | None, where: Layout) -> TagState | None:
    """Return where a tag stands, and remember what it named when it was first looked at. Raises BucketNotFound."""
    if tag is None:
        return None
    store = draft.stores.for_bucket(draft.reference.bucket)
    before = None if is_new_directory(store) else read_state(store, draft.reference.name, tag, where)
    draft.based_on.setdefault(tag, before.top_hash if before else None)
    return before


def _check_objects(draft: Draft, presence: Presence) -> None:
    """Raise ObjectMissing if objects of older versions that this one names are not there any more.

    What this process has uploaded, or asked for when it hashed them, is not asked for again.
    """

    def objects() -> Iterator[NamedObject]:
        for item, number in draft.tree.all():
            if isinstance(item.entries, PackageEntries):
                known = item.entries.get(number)
                yield NamedObject(str(known.place), known.size, known.digest)

    broken = presence.find_broken(objects, StopFlag())
    if not broken:
        return
    named = (
        f"{key} ({url} {broken[url]})"
        for key in draft.keys_in_order()
        if (url := str(draft.entry(key).physical_key)) in broken
    )
    first = list(islice(named, _NAMED_OBJECTS))
    raise ObjectMissing(
        f"The new version of {draft.reference.package} names objects that cannot be read: {'; '.join(first)}"
        f"{f'; {len(broken)} objects in all' if len(broken) > len(first) else ''}",
        hint="Add these files again, or take them out; nothing was published",
    )
