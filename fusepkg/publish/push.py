"""Publishing a folder in one go: gather, hash, upload, manifest, tag.

Every step only adds: until the tag moves, the tag names the old version, and whatever was uploaded is found by the
next push of the same folder. So an interrupted push is finished by repeating it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError
from fusepkg.model.reference import parse_reference
from fusepkg.publish.block_lists import build_with_block_hashes
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.draft.entry_sources import LocalFiles
from fusepkg.publish.draft.metadata import make_header
from fusepkg.publish.draft.sources import check_registry_is_outside
from fusepkg.publish.folder import Symlinks
from fusepkg.publish.manifest import build_manifest
from fusepkg.publish.packs import PackReport, push_packs
from fusepkg.publish.places import Names
from fusepkg.publish.published import is_whole
from fusepkg.publish.push_manifest import NOTES, find_target, link, look_at_tag, publish_manifest
from fusepkg.publish.upload.data import DataReport, push_data
from fusepkg.publish.upload.keys import normalise_prefix
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.publish.upload.presence import Presence
from fusepkg.publish.workflows import apply_workflow
from fusepkg.registry.catalogue import find_quilt3_tag
from fusepkg.registry.layout import Layout
from fusepkg.registry.manifests import ManifestPut, has_manifest
from fusepkg.store.opening import StoreSet
from fusepkg.store.s3 import S3Settings
from fusepkg.work.progress import Phase, PhaseCounters, no_progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import EllipsisType

    from fusepkg.model.reference import Reference
    from fusepkg.registry.tags import TagState
    from fusepkg.state.hints import Hints
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback

_NO_PACKAGE = parse_reference("local/folder")
"""Stands for the package while only a top hash is computed."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. Objects are distinct contents; ``entries`` and ``total_bytes`` count the whole package.

    ``repaired_objects`` of the uploaded ones are named by older versions, and were missing or damaged. ``moved_from``
    is None where the tag is new; it equals ``moved_to`` where the tag named this version already.
    """

    reference: Reference
    top_hash: str
    entries: int
    total_bytes: int
    uploaded_objects: int
    uploaded_bytes: int
    reused_objects: int
    reused_bytes: int
    repaired_objects: int
    packs: PackReport
    moved_from: TagState | None
    moved_to: TagState
    manifest: ManifestPut
    intact: frozenset[str]
    """Physical keys among the suspects that have been found right."""
    warnings: tuple[str, ...]

    @property
    def tag_moved(self) -> bool:
        """Whether the tag names another version than before."""
        return self.moved_from != self.moved_to


def push_folder(
    directory: Path,
    reference: Reference,
    stores: StoreSet,
    *,
    prefix: str | None = None,
    message: str | None = None,
    user_meta: Mapping[str, Any] | None = None,
    symlinks: Symlinks = Symlinks.REFUSE,
    registry_format: str = "fusepkg",
    check: bool = False,
    suspects: frozenset[str] = frozenset(),
    packs: bool | None = None,
    workflow: str | EllipsisType | None = ...,
    block_hashes: bool | None = False,
    only: str = "",
    hints: Hints | None = None,
    progress: ProgressCallback = no_progress,
) -> Pushed:
    """Publish a folder as a version of a package and make the reference's tag name it.

    Data go under ``prefix``, by default the package's name, and overwrite nothing. Content the bucket has already,
    from an older version or an interrupted push, is not uploaded again; what of it is missing is, and with ``check``,
    or among the ``suspects`` (physical keys), what is damaged. With the registry format ``quilt3`` the manifest is put,
    and named, where quilt3 looks for it. ``packs``, ``block_hashes`` and ``workflow`` are as in ``push_manifest``.
    With ``only``, ``directory`` is a file, and the version's only one, under that name.

    Raises: PublishError, TagConflict, UsageError, and what stores raise: what was uploaded then stays, the tag too.
    """
    draft = _new_draft(reference, stores, message, user_meta)
    tag, where = _target(draft, registry_format)
    normalise_prefix(reference.name if prefix is None else prefix)  # a bad one is refused before any work
    store = stores.for_bucket(reference.bucket)
    check_registry_is_outside(store, directory)
    before = look_at_tag(draft, tag, where)
    _gather(draft, directory, symlinks, progress, only)
    apply_workflow(draft, workflow)
    top_hash = _build(draft, store, hints, progress, block_hashes=_asked_for(block_hashes, where))
    presence = Presence(store, stores.for_key, suspects, check)
    is_published = not is_new_directory(store) and has_manifest(store, reference.name, top_hash)
    if is_published and is_whole(presence, reference.name, top_hash, where):
        data, put = _all_reused(draft), ManifestPut.KEPT
        packed = push_packs(draft, packs, check=check, progress=progress)
        after = link(draft, tag, where, before)
    else:
        versions = [top_hash] if is_published else []
        data = push_data(
            draft, prefix, check=check, suspects=suspects, versions=versions, look_again=False, progress=progress
        )
        packed = push_packs(draft, packs, check=check, progress=progress)
        writing = PhaseCounters(progress, Phase.MANIFEST, total=1)
        published = publish_manifest(draft, tag, where, before, broken=data.broken)
        put, after = published.put, published.state
        writing.add(1, 0)
    PhaseCounters(progress, Phase.TAG, total=1).add(1, 0)
    assert after is not None, "the tag names it now"
    warnings = [*data.warnings, *packed.warnings, *([NOTES[put]] if put in NOTES else [])]
    if before is None and where is Layout.FUSEPKG and (hidden := _hidden_tag(store, reference)):
        warnings.append(hidden)
    return _report(draft, data, packed, before, after, put, presence.intact, warnings)


def folder_hash(
    directory: Path,
    *,
    message: str | None = None,
    user_meta: Mapping[str, Any] | None = None,
    symlinks: Symlinks = Symlinks.REFUSE,
    block_hashes: bool | None = False,
    only: str = "",
    hints: Hints | None = None,
    progress: ProgressCallback = no_progress,
) -> str:
    """Return the top hash a push of the folder would give, with the same options. Raises FolderUnfit, FileChanged."""
    draft = _new_draft(_NO_PACKAGE, StoreSet(S3Settings(), Path()), message, user_meta)
    _gather(draft, directory, symlinks, progress, only)
    return _build(draft, None, hints, progress, block_hashes=block_hashes)


def _asked_for(block_hashes: bool | None, where: Layout) -> bool | None:
    """Return which files get block hashes: none by default for quilt3, which gives the same folder the same hash."""
    return False if block_hashes is None and where is Layout.QUILT3 else block_hashes


def _build(
    draft: Draft,
    store: ObjectStore | None,
    hints: Hints | None,
    progress: ProgressCallback,
    *,
    block_hashes: bool | None,
) -> str:
    """Build the manifest of a folder that was scanned just now."""
    if block_hashes is False:
        return build_manifest(draft, look_again=False, hints=hints, progress=progress)
    of_all = block_hashes is True
    return build_with_block_hashes(draft, store, of_all=of_all, look_again=False, hints=hints, progress=progress)


def _new_draft(
    reference: Reference, stores: StoreSet, message: str | None, user_meta: Mapping[str, Any] | None
) -> Draft:
    if reference.top_hash is not None:
        raise UsageError(f"{reference} names a hash, which a push cannot choose", hint="Name a tag, or nothing")
    make_header(message, user_meta)  # what no header can hold is refused before any work
    draft = Draft(reference, stores, tag=reference.tag)
    draft.message = message
    draft.user_meta = None if user_meta is None else dict(user_meta)
    return draft


def _target(draft: Draft, registry_format: str) -> tuple[str, Layout]:
    tag, where = find_target(draft, None, registry_format)
    assert tag is not None, "a push always moves a tag"
    return tag, where


def _gather(draft: Draft, directory: Path, symlinks: Symlinks, progress: ProgressCallback, only: str) -> None:
    scanning = PhaseCounters(progress, Phase.SCAN)
    if only:
        draft.set(only, str(directory))
    else:
        draft.add_folder(directory, symlinks=symlinks)
    scanning.add(len(draft), draft.total_bytes())


def _all_reused(draft: Draft) -> DataReport:
    """What a push reports of a version that is there already: all of its distinct contents are reused."""
    contents, count_bytes = Names(len(draft)), 0
    for item, number in draft.tree.all():
        entries = item.entries
        assert isinstance(entries, LocalFiles), "a folder was added, and nothing else"
        before = len(contents)
        if contents.add(entries.hashes.value(number)) == before:
            count_bytes += entries.get_size(number)
    return DataReport(reused_objects=len(contents), reused_bytes=count_bytes)


def _hidden_tag(store: ObjectStore, reference: Reference) -> str | None:
    """The first move of a tag of ours hides quilt3's tag of that name."""
    name, tag = reference.name, reference.tag
    hidden = find_quilt3_tag(store, name, tag)
    return hidden and (
        f"{name}:{tag} was quilt3's tag and named {hidden[0]}; fusepkg follows its own from now on. To publish "
        "for quilt3 use --registry-format quilt3"
    )


def _report(
    draft: Draft,
    data: DataReport,
    packed: PackReport,
    before: TagState | None,
    after: TagState,
    manifest: ManifestPut,
    intact: set[str],
    warnings: list[str],
) -> Pushed:
    assert draft.top_hash is not None
    return Pushed(
        reference=draft.reference,
        top_hash=draft.top_hash,
        entries=len(draft),
        total_bytes=draft.total_bytes(),
        uploaded_objects=data.uploaded_objects,
        uploaded_bytes=data.uploaded_bytes,
        reused_objects=data.reused_objects,
        reused_bytes=data.reused_bytes,
        repaired_objects=data.repaired,
        packs=packed,
        moved_from=before,
        moved_to=after,
        manifest=manifest,
        intact=data.intact | intact,
        warnings=tuple(warnings),
    )
