"""Publishing a folder: data first, then the manifest, the tag last.

Every step only adds: until the tag moves, the tag names the old version, and whatever was uploaded is found by the
next push of the same folder. So an interrupted push is finished by repeating it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import BucketNotFound, UsageError
from fusepkg.model.manifest import write_entry, write_header
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import DEFAULT_TAG
from fusepkg.publish.contents import make_header, read_folder
from fusepkg.publish.elsewhere import check_registry_is_elsewhere
from fusepkg.publish.targets import check_target, parse_format, publish_version, read_state
from fusepkg.publish.upload.known_objects import known_objects
from fusepkg.publish.upload.many import place_blobs
from fusepkg.publish.upload.upload import normalise_prefix
from fusepkg.registry.catalogue import find_quilt3_tag
from fusepkg.registry.layout import Layout
from fusepkg.registry.manifests import has_manifest, names_local_files
from fusepkg.work.progress import Counters, Phase, no_progress
from fusepkg.work.threads import StopFlag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import Reference
    from fusepkg.publish.contents import Contents
    from fusepkg.publish.upload.blobs import Blob
    from fusepkg.publish.upload.known_objects import Known
    from fusepkg.publish.upload.upload import Placed
    from fusepkg.registry.tags import TagState
    from fusepkg.state.hints import Remembered
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback

_LINES_WRITTEN_BYTES = 1 << 20
"""Manifest lines collected before they are written."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did. Objects are distinct contents; ``entries`` and ``total_bytes`` count the whole package.

    ``moved_from`` is None where the tag is new; it equals ``moved_to`` where the tag named this version already.
    """

    reference: Reference
    top_hash: str
    entries: int
    total_bytes: int
    uploaded_objects: int
    uploaded_bytes: int
    reused_objects: int
    reused_bytes: int
    moved_from: TagState | None
    moved_to: TagState
    warnings: tuple[str, ...]

    @property
    def tag_moved(self) -> bool:
        """Whether the tag names another version than before."""
        return self.moved_from != self.moved_to


def push_folder(
    directory: Path,
    reference: Reference,
    store: ObjectStore,
    *,
    prefix: str | None = None,
    message: str | None = None,
    user_meta: Mapping[str, Any] | None = None,
    follow_symlinks: bool = False,
    registry_format: str = "fusepkg",
    remembered: Remembered | None = None,
    progress: ProgressCallback = no_progress,
) -> Pushed:
    """Publish a folder as a version of a package and make the reference's tag name it.

    Data go under ``prefix``, by default the package's name, and overwrite nothing. Content the bucket has already,
    from an older version or an interrupted push, is not uploaded again. With the registry format ``quilt3`` the
    manifest is put, and named, where quilt3 looks for it, and nowhere else.

    Raises: FolderUnfit, FileChanged, ObjectCollision, TagConflict, UsageError, and what stores raise. Whatever was
    uploaded before stays, and the tag then names what it named.
    """
    header = make_header(message, user_meta)
    if reference.top_hash is not None:
        raise UsageError(f"{reference} names a hash, which a push cannot choose", hint="Name a tag, or nothing")
    where = parse_format(registry_format)
    check_target(reference.name, reference.tag, where)
    push = _Push(store, reference, normalise_prefix(reference.name if prefix is None else prefix), where, progress)
    check_registry_is_elsewhere(store, directory)
    before = push.read_tag(reference.tag)
    contents = read_folder(
        directory, header, follow_symlinks=follow_symlinks, remembered=remembered, stop=push.stop, progress=progress
    )
    return push.run(contents, before)


def folder_hash(
    directory: Path,
    *,
    message: str | None = None,
    user_meta: Mapping[str, Any] | None = None,
    follow_symlinks: bool = False,
    remembered: Remembered | None = None,
    progress: ProgressCallback = no_progress,
) -> str:
    """The top hash a push of the folder would give. Raises FolderUnfit, FileChanged."""
    header = make_header(message, user_meta)
    contents = read_folder(directory, header, follow_symlinks=follow_symlinks, remembered=remembered, progress=progress)
    return contents.top_hash


class _Push:
    """One push of hashed contents."""

    def __init__(
        self, store: ObjectStore, reference: Reference, prefix: str, where: Layout, progress: ProgressCallback
    ) -> None:
        self.stop = StopFlag()
        self._store = store
        self._reference = reference
        self._prefix = prefix
        self._where = where
        self._progress = progress
        self._is_new = False
        """True for a directory that the first object will make; it cannot be asked for anything until then."""
        self._warnings: list[str] = []
        self._places: dict[Digest, PhysicalKey] = {}

    def read_tag(self, tag: str) -> TagState | None:
        """Where a tag stands."""
        try:
            return read_state(self._store, self._reference.name, tag, self._where)
        except BucketNotFound:
            if not names_local_files(self._store):
                raise
            self._is_new = True
            return None

    def run(self, contents: Contents, before: TagState | None) -> Pushed:
        """Everything after hashing."""
        published = not self._is_new and has_manifest(self._store, self._reference.name, contents.top_hash)
        blobs = contents.blobs()
        if published and before is not None and before.top_hash == contents.top_hash:
            return self._report(contents, blobs, [], before, before)
        known = self._known_objects(contents.top_hash if published else None, before)
        missing = self._use_known(blobs, known)
        placed = self._upload(missing)
        after = self._publish(contents, before)
        return self._report(contents, blobs, placed, before, after)

    def _known_objects(self, published: str | None, before: TagState | None) -> Known:
        """What older versions name in this bucket.

        They are the same version if it was published before, the one the tag names, else the default tag's.
        """
        if published is None and before is None and self._reference.tag != DEFAULT_TAG and not self._is_new:
            before = self.read_tag(DEFAULT_TAG)
        versions = [top_hash for top_hash in (published, before.top_hash if before else None) if top_hash]
        known, warnings = known_objects(self._store, self._reference.name, dict.fromkeys(versions))
        self._warnings += warnings
        return known

    def _use_known(self, blobs: list[Blob], known: Known) -> list[Blob]:
        """Take the places of known objects; gives back the blobs without one."""
        missing = []
        for blob in blobs:
            url = known.get((blob.hashed.digest.value, blob.file.size))
            if url is None:
                missing.append(blob)
            else:
                self._places[blob.hashed.digest] = parse_physical_key(url.decode())
        return missing

    def _upload(self, blobs: list[Blob]) -> list[Placed]:
        placed = place_blobs(
            blobs, self._store, self._prefix, is_new=self._is_new, stop=self.stop, progress=self._progress
        )
        self._places |= {one.blob.hashed.digest: one.physical_key for one in placed}
        return placed

    def _publish(self, contents: Contents, before: TagState | None) -> TagState:
        counters = Counters(self._progress, Phase.MANIFEST, total=1)
        with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
            manifest = Path(scratch, "manifest")
            with manifest.open("wb", buffering=_LINES_WRITTEN_BYTES) as file:
                file.write(write_header(contents.header))
                for entry in contents.entries(self._places.__getitem__):
                    file.write(write_entry(entry))
            manifest_bytes = manifest.stat().st_size
            after = publish_version(
                self._store,
                self._reference.name,
                self._reference.tag,
                contents.top_hash,
                manifest,
                before=before,
                based_on=before.top_hash if before else None,
                where=self._where,
                message=contents.header["message"],
            )
        if before is None and self._where is Layout.FUSEPKG:
            self._warn_of_hidden_tag()
        counters.add(1, manifest_bytes)
        Counters(self._progress, Phase.TAG, total=1).add(1, 0)
        assert after is not None, "a push always has a tag"
        return after

    def _warn_of_hidden_tag(self) -> None:
        """The first move of a tag of ours hides quilt3's tag of that name."""
        name, tag = self._reference.name, self._reference.tag
        hidden = find_quilt3_tag(self._store, name, tag)
        if hidden is not None:
            self._warnings.append(
                f"{name}:{tag} was quilt3's tag and named {hidden[0]}; fusepkg follows its own from now on. To publish "
                "for quilt3 use --registry-format quilt3"
            )

    def _report(
        self, contents: Contents, blobs: list[Blob], placed: list[Placed], before: TagState | None, after: TagState
    ) -> Pushed:
        uploaded = [one.blob.size for one in placed if one.uploaded]
        return Pushed(
            reference=self._reference,
            top_hash=contents.top_hash,
            entries=len(contents.scan.files),
            total_bytes=contents.scan.total_bytes,
            uploaded_objects=len(uploaded),
            uploaded_bytes=sum(uploaded),
            reused_objects=len(blobs) - len(uploaded),
            reused_bytes=sum(blob.file.size for blob in blobs) - sum(uploaded),
            moved_from=before,
            moved_to=after,
            warnings=tuple(self._warnings),
        )
