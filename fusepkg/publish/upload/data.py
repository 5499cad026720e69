"""Bringing the data of a version being made below one prefix of its bucket."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest, chunk_count

from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.publish.block_lists import carry_block_lists
from fusepkg.publish.draft.entry_sources import LocalFiles, RemoteObjects, StoredEntries, UploadedFiles, name_of
from fusepkg.publish.draft.items import Item
from fusepkg.publish.hash.entries import hash_entries
from fusepkg.publish.hashes import Hashed
from fusepkg.publish.places import SENT, WAITING, Places
from fusepkg.publish.upload.blobs import LocalBlob, StoredBlob
from fusepkg.publish.upload.keys import normalise_prefix
from fusepkg.publish.upload.known_objects import KnownObjects, read_known_objects
from fusepkg.publish.upload.lines import Lines
from fusepkg.publish.upload.many import is_new_directory, upload_blobs
from fusepkg.publish.upload.presence import NamedObject, Presence
from fusepkg.registry.layout import chunk_list_key
from fusepkg.registry.manifests import put_chunk_list
from fusepkg.registry.tags import read_tag
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.publish.draft.tree import OrderedSlots, Slot
    from fusepkg.publish.upload.lines import DataPushed
    from fusepkg.publish.upload.upload import Uploaded
    from fusepkg.state.hints import Hints
    from fusepkg.work.progress import ProgressCallback

READ_MANIFEST_ABOVE = 100
"""More files than this and reading an older manifest, a GET and a LIST, beats a HEAD for each."""

_CHUNK_LIST_THREADS = 16
"""Chunk lists written again at a time: latency only."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was done for the data of a version. Objects are distinct contents.

    ``repaired`` of the uploaded ones are named by older versions, and were missing or damaged; ``broken`` says where
    those lie, as physical keys, and what is wrong with each.
    """

    uploaded_objects: int = 0
    uploaded_bytes: int = 0
    reused_objects: int = 0
    reused_bytes: int = 0
    repaired: int = 0
    warnings: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    intact: frozenset[str] = frozenset()
    """Suspects that have been found right."""


def push_data(
    draft: Draft,
    prefix: str | None = None,
    *,
    local_files_only: bool = False,
    check: bool = False,
    suspects: frozenset[str] = frozenset(),
    versions: Iterable[str] = (),
    look_again: bool = True,
    hints: Hints | None = None,
    progress: ProgressCallback = no_progress,
    report: Callable[[DataPushed], None] | None = None,
) -> DataReport:
    """Upload local files below ``prefix``, and copy there what lies anywhere else.

    Without a prefix they go below the package's name, and objects that lie anywhere in its bucket stay where they are;
    with ``local_files_only`` all objects do. Nothing is overwritten, and what is there already is neither
    sent nor copied again. The draft then names the objects; its top hash is what it was.

    Objects that older versions name, ``versions`` first, are looked for in a listing; the bytes of ``suspects``
    (physical keys), and with ``check`` of all of them, are compared with their hash. What is missing or damaged is
    uploaded again. ``look_again`` is that of ``hash_entries``.

    Raises: FileChanged, DigestMismatch, ObjectCollision, UsageError, and what stores raise; the draft is then as it
    was, and what was uploaded is found by the next try.
    """
    push = _DataPush(draft, prefix, local_files_only, suspects, check=check)
    return push.run(list(versions), hints, progress, report, look_again=look_again)


class _DataPush:
    def __init__(
        self, draft: Draft, prefix: str | None, local_files_only: bool, suspects: frozenset[str], *, check: bool
    ) -> None:
        self._draft = draft
        self._prefix = normalise_prefix(draft.reference.name if prefix is None else prefix)
        self._local_files_only = local_files_only
        self._store = draft.stores.for_bucket(draft.reference.bucket)
        self._below = "" if prefix is None else f"{self._prefix}/"
        self._here = self._store.url(f"{self._below}~")[:-1]
        """What starts with this stays where it is."""
        self._is_new = is_new_directory(self._store)
        self._presence = Presence(self._store, draft.stores.for_key, suspects, check)
        self._stop = StopFlag()
        self._places = Places(self._store.url(f"{self._prefix}/~")[:-1], len(draft))
        """Where the bytes of the entries that move lie, or will."""
        self._count = [0, 0, 0, 0]
        """Contents to upload, their bytes; contents reused, their bytes."""

    def run(
        self,
        versions: list[str],
        hints: Hints | None,
        progress: ProgressCallback,
        report: Callable[[DataPushed], None] | None,
        *,
        look_again: bool,
    ) -> DataReport:
        draft = self._draft
        self._note_tag()
        moving = draft.tree.in_order().only(self._moves)
        if hash_entries(draft, (slot for _, slot in moving), look_again=look_again, hints=hints, progress=progress):
            draft.changed()
        warnings = self._plan(moving, versions)
        broken = self._find_broken(moving)
        restored = self._plan_again(moving, broken)
        lines = None if report is None else Lines(draft, moving, self._needs_upload(moving), self._readable, report)
        if lines is not None and self._local_files_only:
            lines.leave_out_what_stays()
        uploaded = self._upload(moving, restored, broken, lines, progress)
        self._restore_chunk_lists(moving, broken)
        if lines is not None:
            lines.finish()
        carry_block_lists(self._draft, self._store)
        self._relocate(moving)
        waiting, waiting_bytes, reused, reused_bytes = self._count
        there, there_bytes = waiting - uploaded[0], waiting_bytes - uploaded[1]
        counts = (*uploaded, reused + there, reused_bytes + there_bytes, len(restored))
        return DataReport(*counts, tuple(warnings), broken, frozenset(self._presence.intact))

    def _note_tag(self) -> None:
        """Remember where the tag stood before a long upload, for the push of the manifest."""
        tag = self._draft.tag
        if tag is not None and tag not in self._draft.based_on:
            state = None if self._is_new else read_tag(self._store, self._draft.reference.name, tag)
            self._draft.based_on[tag] = state.top_hash if state else None

    def _moves(self, slot: Slot) -> bool:
        item, number = slot
        if item.is_local:
            return True
        return not self._local_files_only and not str(item.entries.get(number).place).startswith(self._here)

    # --- what is there already ---------------------------------------------------------------------------------

    def _plan(self, moving: OrderedSlots, versions: list[str]) -> list[str]:
        """Decide what has to be uploaded. Return warnings about older versions that cannot be read."""
        known = self._read_known(len(moving), versions)
        for key, slot in moving:
            name, size = self._name_and_size(key, slot)
            if name in self._places:
                continue
            url = self._places[name] = known.places.get(name, WAITING)
            at = 0 if url == WAITING else 2
            self._count[at] += 1
            self._count[at + 1] += size
        return known.warnings

    def _read_known(self, moving: int, versions: list[str]) -> KnownObjects:
        if self._is_new or not (moving > READ_MANIFEST_ABOVE or moving == len(self._draft)):
            return KnownObjects()
        based_on = self._draft.based_on.values()
        return read_known_objects(self._store, self._draft.reference.name, [*versions, *based_on], self._below)

    def _find_broken(self, moving: OrderedSlots) -> dict[str, str]:
        """What is wrong with each object of older versions that is not as they name it, by physical key."""

        def objects() -> Iterator[NamedObject]:
            for key, slot in moving:
                name, size = self._name_and_size(key, slot)
                url = self._places[name]
                if url != WAITING:
                    digest = Digest(Algorithm.SHA2_256_CHUNKED, name)
                    yield NamedObject(url, size, digest)
                    if chunk_count(size) > 1:
                        yield NamedObject(self._store.url(chunk_list_key(digest)), chunk_count(size) * len(name))

        return self._presence.find_broken(objects, self._stop) if self._count[2] else {}

    def _plan_again(self, moving: OrderedSlots, broken: dict[str, str]) -> dict[bytes, str]:
        """Upload what is broken again; gives the keys that it had, by the name of its bytes."""
        restored: dict[bytes, str] = {}
        for key, slot in moving if broken else ():
            name, size = self._name_and_size(key, slot)
            url = self._places[name]
            if url in broken:
                self._places[name] = WAITING
                restored[name] = self._key_of(url)
                for at, change in enumerate((1, size, -1, -size)):
                    self._count[at] += change
        return restored

    def _key_of(self, url: str) -> str:
        here = parse_physical_key(self._store.url("~")).key[:-1]
        return parse_physical_key(url).key.removeprefix(here)

    def _restore_chunk_lists(self, moving: OrderedSlots, broken: dict[str, str]) -> None:
        def missing() -> Iterator[Hashed]:
            for _, (item, number) in moving if broken else ():
                if isinstance(item.entries, LocalFiles | RemoteObjects):
                    hashed = item.entries.hashes[number]
                    if hashed.chunks and self._store.url(chunk_list_key(hashed.digest)) in broken:
                        yield hashed

        def put(hashed: Hashed) -> None:
            put_chunk_list(self._store, hashed.digest, hashed.chunks)

        name = "fusepkg-chunks"
        run_threads(put, missing(), lambda _: None, threads=_CHUNK_LIST_THREADS, name=name, stop=self._stop)

    # --- uploading ---------------------------------------------------------------------------------------------

    def _needs_upload(self, moving: OrderedSlots) -> Iterator[tuple[str, Slot, bytes]]:
        for key, slot in moving:
            name, _ = self._name_and_size(key, slot)
            if self._places[name] == WAITING:
                yield key, slot, name

    def _upload(
        self,
        moving: OrderedSlots,
        restored: dict[bytes, str],
        broken: dict[str, str],
        lines: Lines | None,
        progress: ProgressCallback,
    ) -> tuple[int, int]:
        """Upload what has to be; gives how many objects, and bytes, were not there."""
        count, count_bytes = self._count[:2]
        counters = PhaseCounters(progress, Phase.UPLOAD, total=count, total_bytes=count_bytes)
        new = [0, 0]

        def waiting() -> Iterator[LocalBlob | StoredBlob]:
            for key, slot, name in self._needs_upload(moving):
                self._places[name] = SENT
                yield self._blob(key, slot, restored.get(name))

        def done(uploaded: Uploaded) -> None:
            name = name_of(uploaded.blob.identity)
            self._places[name] = uploaded.url
            counters.add(1, uploaded.blob.size)
            if uploaded.is_new:
                new[0] += 1
                new[1] += uploaded.blob.size
            if lines is not None:
                lines.uploaded(name, is_new=uploaded.is_new)

        upload_blobs(
            waiting(),
            done,
            self._store,
            self._prefix,
            count=count,
            stop=self._stop,
            open_place=self._draft.stores.for_key,
            broken=broken,
            presence=self._presence,
        )
        return new[0], new[1]

    def _name_and_size(self, key: str, slot: Slot) -> tuple[bytes, int]:
        item, number = slot
        entries = item.entries
        if isinstance(entries, LocalFiles):
            return entries.hashes.value(number), entries.get_size(number)
        blob = self._blob(key, slot)
        return name_of(blob.identity), blob.size

    def _blob(self, key: str, slot: Slot, restored_key: str | None = None) -> LocalBlob | StoredBlob:
        item, number = slot
        entries = item.entries
        if isinstance(entries, LocalFiles):
            file = entries.files[number]
            file = file if file.logical_key == key else replace(file, logical_key=key)
            return LocalBlob(file, entries.hashes[number], restored_key)
        known = entries.get(number)
        assert known.digest is not None
        if isinstance(entries, RemoteObjects):
            hashed, temporary = entries.hashes[number], entries.temporary.get(number)
            etag = entries.etags.get(number)
            return StoredBlob(key, known.place, known.size, hashed, temporary, etag, restored_key)
        return StoredBlob(key, known.place, known.size, Hashed(known.digest), restored_key=restored_key)

    # --- afterwards --------------------------------------------------------------------------------------------

    def _readable(self, logical: str) -> str:
        return parse_physical_key(self._store.url(f"{self._prefix}/{logical}x")).readable[:-1]

    def _relocate(self, moving: OrderedSlots) -> None:
        """Make the draft name what lies in the bucket now."""
        draft = self._draft
        entries: list[Entry] = []
        source = StoredEntries(entries)
        replaced: dict[Item, Item] = {}
        uploaded: set[Item] = set()
        for key, (item, number) in moving:
            if isinstance(item.entries, LocalFiles):
                uploaded.add(item)
                item.take_place(self._readable(item.logical), UploadedFiles(item.entries, self._places))
            elif item not in uploaded:
                place = parse_physical_key(self._places[self._name_and_size(key, (item, number))[0]])
                known = item.entries.get(number)
                assert known.digest is not None
                if item not in replaced:
                    replaced[item] = Item(item.logical, self._readable(item.logical), source)
                entries.append(Entry(key, place, known.size, known.digest, known.meta))
                draft.relocate(key, replaced[item], len(entries) - 1)
                if isinstance(item.entries, RemoteObjects) and (copy := item.entries.temporary.pop(number, None)):
                    copy.unlink(missing_ok=True)
        draft.replace_items(replaced)
