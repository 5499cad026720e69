"""Publishing a folder: data first, then the manifest, the tag last.

Owns: the order of a push, what is uploaded and what is reused, and the report. Must not know: how a terminal shows
it, or what kind of store it is.

Every step only adds: until the tag moves, the tag names the old version, and whatever was uploaded is found by the
next push of the same folder. So an interrupted push is finished by repeating it.
"""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import Algorithm

from fusepkg.errors import BucketNotFound, FolderUnfit, HashNotFound, ManifestInvalid, UnsupportedFormat, UsageError
from fusepkg.model.manifest import read_manifest, write_entry, write_header
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import EntryRecord
from fusepkg.model.reference import DEFAULT_TAG
from fusepkg.publish.contents import make_header, read_folder
from fusepkg.publish.parallel import StopFlag, run_threads
from fusepkg.publish.placing import Placing, normalise_prefix
from fusepkg.publish.progress import Counters, Phase, no_progress
from fusepkg.registry.manifests import fetch_manifest, has_manifest, names_local_files, put_manifest
from fusepkg.registry.tags import TagState, move_tag, read_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import Reference
    from fusepkg.publish.contents import Contents
    from fusepkg.publish.placing import Blob, Placed
    from fusepkg.publish.progress import ProgressCallback
    from fusepkg.registry.remembered import Remembered
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

UPLOAD_THREADS = 16
"""Concurrent uploads: enough to hide a round trip of 50 ms behind small objects, and to fill a fast link."""

LIST_ABOVE_UPLOADS = 1_000
"""More uploads than this and one listing of the prefix, a request per 1,000 keys, beats a HEAD for each."""

SETTLE_S = 1.0
"""How long racing publishers get to find out who was first, where the server leaves that to them: two requests."""

_LINES_WRITTEN_BYTES = 1 << 20
"""Manifest lines collected before they are written."""

_PIECE_BYTES = 1 << 20


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
    remembered: Remembered | None = None,
    progress: ProgressCallback = no_progress,
) -> Pushed:
    """Publish a folder as a version of a package and make the reference's tag name it.

    Data go under ``prefix``, by default the package's name, and overwrite nothing. Content the bucket has already,
    from an older version or an interrupted push, is not uploaded again.

    Raises: FolderUnfit, FileChanged, ObjectCollision, TagConflict, UsageError, and what stores raise. Whatever was
    uploaded before stays, and the tag then names what it named.
    """
    header = make_header(message, user_meta)
    if reference.top_hash is not None:
        raise UsageError(f"{reference} names a hash, which a push cannot choose", hint="Name a tag, or nothing")
    push = _Push(store, reference, normalise_prefix(reference.name if prefix is None else prefix), progress)
    push.check_registry_is_elsewhere(directory)
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

    def __init__(self, store: ObjectStore, reference: Reference, prefix: str, progress: ProgressCallback) -> None:
        self.stop = StopFlag()
        self._store = store
        self._reference = reference
        self._prefix = prefix
        self._progress = progress
        self._is_new = False
        """True for a directory that the first object will make; it cannot be asked for anything until then."""
        self._warnings: list[str] = []
        self._places: dict[Digest, PhysicalKey] = {}

    def check_registry_is_elsewhere(self, directory: Path) -> None:
        """A registry inside the folder would be published into itself, twice as large each time."""
        if not names_local_files(self._store):
            return
        root = Path(parse_physical_key(self._store.url("any")).key).parent.resolve()
        if root.is_relative_to(directory.resolve()):
            raise FolderUnfit(f"The registry {root} lies in {directory}", hint="Publish a folder outside the registry")

    def read_tag(self, tag: str) -> TagState | None:
        """Where a tag stands."""
        try:
            return read_tag(self._store, self._reference.name, tag)
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
        self._put_manifest(contents)
        counters = Counters(self._progress, Phase.TAG, total=1)
        after = before
        if before is None or before.top_hash != contents.top_hash:
            name, tag = self._reference.name, self._reference.tag
            message = contents.header["message"]
            after = move_tag(self._store, name, tag, contents.top_hash, before, message=message).state
        counters.add(1, 0)
        assert after is not None
        return self._report(contents, blobs, placed, before, after)

    def _known_objects(self, published: str | None, before: TagState | None) -> dict[tuple[bytes, int], bytes]:
        """URL by hash and size of what older versions name in this bucket.

        They are the same version if it was published before, the one the tag names, else the default tag's.
        """
        name = self._reference.name
        if published is None and before is None and self._reference.tag != DEFAULT_TAG and not self._is_new:
            before = self.read_tag(DEFAULT_TAG)
        known: dict[tuple[bytes, int], bytes] = {}
        for top_hash in {published, before.top_hash if before else None} - {None}:
            assert top_hash is not None
            try:
                self._read_known(top_hash, known)
            except (HashNotFound, ManifestInvalid, UnsupportedFormat) as exc:
                log.info("%s@%s cannot be read: %s", name, top_hash, exc)
                self._warnings.append(
                    f"{name}@{top_hash} cannot be read ({exc.message}); its objects are looked up anew"
                )
        return known

    def _read_known(self, top_hash: str, known: dict[tuple[bytes, int], bytes]) -> None:
        here = self._store.url("~")[:-1].encode()
        with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
            manifest = Path(scratch, "manifest")
            fetch_manifest(self._store, self._reference.name, top_hash, manifest)
            with manifest.open("rb") as file:
                pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
                for record in read_manifest(pieces, allow_file_keys=names_local_files(self._store)).records:
                    if (
                        isinstance(record, EntryRecord)
                        and record.algorithm is Algorithm.SHA2_256_CHUNKED
                        and record.url.startswith(here)
                    ):
                        known[record.value, record.size] = record.url

    def _use_known(self, blobs: list[Blob], known: dict[tuple[bytes, int], bytes]) -> list[Blob]:
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
        counters = Counters(
            self._progress, Phase.UPLOAD, total=len(blobs), total_bytes=sum(blob.file.size for blob in blobs)
        )
        listed: dict[str, int] | None = {} if self._is_new else None
        if listed is None and len(blobs) > LIST_ABOVE_UPLOADS:
            listed = {info.key: info.size for info in self._store.list(f"{self._prefix}/")}
        placing = Placing(self._store, self._prefix, listed, self.stop)
        done: dict[Digest, Placed] = {}

        def collect(placed: Placed) -> None:
            done[placed.blob.hashed.digest] = placed
            counters.add(1, placed.blob.file.size)

        def collect_again(placed: Placed | None) -> None:
            if placed is not None:
                done[placed.blob.hashed.digest] = placed
                doubtful.append(placed)

        run_threads(placing.place, blobs, collect, threads=UPLOAD_THREADS, name="fusepkg-upload", stop=self.stop)
        doubtful = list(done.values())
        while found := [placed for placed in doubtful if placed.may_vanish]:
            time.sleep(SETTLE_S)
            doubtful = []
            run_threads(
                placing.confirm, found, collect_again, threads=UPLOAD_THREADS, name="fusepkg-upload", stop=self.stop
            )
        self._places |= {digest: placed.physical_key for digest, placed in done.items()}
        return list(done.values())

    def _put_manifest(self, contents: Contents) -> None:
        counters = Counters(self._progress, Phase.MANIFEST, total=1)
        with tempfile.TemporaryDirectory(prefix="fusepkg-push-") as scratch:
            manifest = Path(scratch, "manifest")
            with manifest.open("wb", buffering=_LINES_WRITTEN_BYTES) as file:
                file.write(write_header(contents.header))
                for entry in contents.entries(self._places.__getitem__):
                    file.write(write_entry(entry))
            manifest_bytes = manifest.stat().st_size
            put_manifest(self._store, self._reference.name, contents.top_hash, manifest)
        counters.add(1, manifest_bytes)

    def _report(
        self, contents: Contents, blobs: list[Blob], placed: list[Placed], before: TagState | None, after: TagState
    ) -> Pushed:
        uploaded = [one.blob.file.size for one in placed if one.uploaded]
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
