"""Bringing the data of a version being made below one prefix of its bucket."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm

from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import DEFAULT_TAG
from fusepkg.publish.draft.entry_sources import LocalFiles, PlacedEntries, RemoteObjects
from fusepkg.publish.draft.items import Item, folders_first, holders
from fusepkg.publish.hash.files import Hashed
from fusepkg.publish.manifest import hash_entries
from fusepkg.publish.upload.blobs import Blob, StoredBlob
from fusepkg.publish.upload.known_objects import known_objects
from fusepkg.publish.upload.many import is_new_directory, place_blobs
from fusepkg.publish.upload.upload import normalise_prefix
from fusepkg.registry.tags import read_tag
from fusepkg.work.progress import no_progress
from fusepkg.work.threads import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.publish.draft.draft import Draft
    from fusepkg.publish.upload.known_objects import Known
    from fusepkg.publish.upload.upload import Placed
    from fusepkg.state.hints import Remembered
    from fusepkg.work.progress import ProgressCallback

READ_MANIFEST_ABOVE = 100
"""More files than this and reading an older manifest, a GET and a LIST, beats a HEAD for each."""


@dataclass(frozen=True, slots=True)
class DataPushed:
    """One line of the contents is in the bucket. ``existed`` says that nothing had to be uploaded or copied."""

    source: str
    target: str
    is_local: bool
    existed: bool

    def __str__(self) -> str:
        verb = "Pushing" if self.is_local else "Copying"
        target = f"{self.target}..." if self.target.endswith("/") else self.target
        return f"{verb} {self.source} to {target}{' (data exists, skipping)' if self.existed else ''}"


def push_data(
    draft: Draft,
    prefix: str | None = None,
    *,
    local_files_only: bool = False,
    remembered: Remembered | None = None,
    progress: ProgressCallback = no_progress,
    report: Callable[[DataPushed], None] = lambda _: None,
) -> None:
    """Upload local files below ``prefix``, and copy there what lies anywhere else.

    Without a prefix they go below the package's name, and objects that lie anywhere in its bucket stay where they are;
    with ``local_files_only`` all objects do. Nothing is overwritten, and what is there already is neither
    sent nor copied again. The draft then names the objects; its top hash is what it was.

    Raises: FileChanged, DigestMismatch, ObjectCollision, UsageError, and what stores raise; the draft is then as it
    was, and what was uploaded is found by the next try.
    """
    push = _DataPush(draft, prefix, local_files_only)
    push.run(remembered, progress, report)


class _DataPush:
    def __init__(self, draft: Draft, prefix: str | None, local_files_only: bool) -> None:
        self._draft = draft
        self._prefix = normalise_prefix(draft.reference.name if prefix is None else prefix)
        self._local_files_only = local_files_only
        self._store = draft.stores.for_bucket(draft.reference.bucket)
        self._here = self._store.url("~" if prefix is None else f"{self._prefix}/~")[:-1]
        """What starts with this stays where it is."""
        self._is_new = is_new_directory(self._store)
        self._blob_of: dict[str, Blob | StoredBlob] = {}
        """By logical key, for what is not in its place; equal bytes share one."""

    def run(
        self,
        remembered: Remembered | None,
        progress: ProgressCallback,
        report: Callable[[DataPushed], None],
    ) -> None:
        draft = self._draft
        self._note_tag()
        moving = [key for key in draft.keys_in_order() if self._moves(key)]
        if hash_entries(draft, moving, remembered=remembered, progress=progress):
            draft.changed()
        places = self._take_known(moving)
        lines = _Lines(draft, moving, self._blob_of, self._readable, report)
        if self._local_files_only:
            lines.leave_out_what_stays()
        placed = place_blobs(
            list({id(blob): blob for blob in self._blob_of.values()}.values()),
            self._store,
            self._prefix,
            is_new=self._is_new,
            stop=StopFlag(),
            progress=progress,
            open_place=draft.stores.for_key,
            report=lines.placed,
        )
        lines.finish()
        by_blob = {id(one.blob): one.physical_key for one in placed}
        places |= {key: by_blob[id(blob)] for key, blob in self._blob_of.items()}
        self._relocate(moving, places)

    def _note_tag(self) -> None:
        """Remember where the tag stood before a long upload, for the push of the manifest."""
        tag = self._draft.tag
        if tag is not None and tag not in self._draft.based_on:
            state = None if self._is_new else read_tag(self._store, self._draft.reference.name, tag)
            self._draft.based_on[tag] = state.top_hash if state else None

    def _moves(self, key: str) -> bool:
        item, number = self._draft.tree.slots[key]
        if item.is_local:
            return True
        return not self._local_files_only and not str(item.origin.facts(number).place).startswith(self._here)

    # --- what is there already ---------------------------------------------------------------------------------

    def _take_known(self, moving: list[str]) -> dict[str, PhysicalKey]:
        """Places of contents that the bucket has; a blob for each of the others."""
        known: Known = {}
        if len(moving) > READ_MANIFEST_ABOVE and not self._is_new:
            known, _ = known_objects(
                self._store, self._draft.reference.name, self._older_versions(), f"{self._prefix}/"
            )
        places: dict[str, PhysicalKey] = {}
        blobs: dict[object, Blob | StoredBlob] = {}
        for key in moving:
            blob = self._blob(key)
            url = known.get((blob.identity.value, blob.size))
            if url is not None and blob.identity.algorithm is Algorithm.SHA2_256_CHUNKED:
                places[key] = parse_physical_key(url.decode())
            else:
                self._blob_of[key] = blobs.setdefault(blob.identity, blob)
        return places

    def _older_versions(self) -> set[str]:
        tag = self._draft.tag or DEFAULT_TAG
        versions = {top_hash for top_hash in self._draft.based_on.values() if top_hash}
        if tag not in self._draft.based_on:
            state = read_tag(self._store, self._draft.reference.name, tag)
            versions |= {state.top_hash} if state else set()
        return versions

    def _blob(self, key: str) -> Blob | StoredBlob:
        item, number = self._draft.tree.slots[key]
        origin = item.origin
        if isinstance(origin, LocalFiles):
            return Blob(replace(origin.files[number], logical_key=key), origin.hashed[number])
        facts = origin.facts(number)
        if isinstance(origin, RemoteObjects):
            hashed, spooled = origin.hashed[number], origin.spooled.get(number)
            return StoredBlob(key, facts.place, facts.size, hashed, spooled, origin.etags.get(number))
        assert facts.digest is not None
        return StoredBlob(key, facts.place, facts.size, Hashed(facts.digest))

    # --- afterwards ------------------------------------------------------------------------------------------

    def _readable(self, logical: str) -> str:
        return parse_physical_key(self._store.url(f"{self._prefix}/{logical}x")).readable[:-1]

    def _relocate(self, moving: Iterable[str], places: dict[str, PhysicalKey]) -> None:
        """Make the draft name what lies in the bucket now."""
        draft = self._draft
        entries: list[Entry] = []
        origin = PlacedEntries(entries)
        items: dict[Item, Item] = {}
        for key in moving:
            item, number = draft.tree.slots[key]
            facts = item.origin.facts(number)
            assert facts.digest is not None
            if item not in items:
                items[item] = Item(item.logical, self._readable(item.logical), origin)
            entries.append(Entry(key, places[key], facts.size, facts.digest, facts.meta))
            draft.relocate(key, items[item], len(entries) - 1)
            if isinstance(item.origin, RemoteObjects) and (spooled := item.origin.spooled.pop(number, None)):
                spooled.unlink(missing_ok=True)
        draft.replace_items(items)


class _Lines:
    """Tells of each line of the contents once all of its blobs are placed, in their order."""

    def __init__(
        self,
        draft: Draft,
        moving: list[str],
        blob_of: dict[str, Blob | StoredBlob],
        readable: Callable[[str], str],
        report: Callable[[DataPushed], None],
    ) -> None:
        holder = holders(draft.all_items)
        self._waiting = folders_first(draft.items())
        self._moving = {holder[draft.tree.slots[key][0]] for key in moving}
        self._readable = readable
        self._report = report
        self._missing: Counter[Item] = Counter()
        self._uploaded: set[Item] = set()
        self._users: dict[int, list[Item]] = {}
        for key, blob in blob_of.items():
            item = holder[draft.tree.slots[key][0]]
            self._missing[item] += 1
            self._users.setdefault(id(blob), []).append(item)

    def leave_out_what_stays(self) -> None:
        """Tell nothing of what lies in a bucket."""
        self._waiting = [item for item in self._waiting if item in self._moving]

    def placed(self, placed: Placed) -> None:
        """One blob is in its place."""
        for item in self._users[id(placed.blob)]:
            self._missing[item] -= 1
            if placed.uploaded:
                self._uploaded.add(item)
        while self._waiting and not self._missing[self._waiting[0]]:
            self._tell(self._waiting.pop(0))

    def finish(self) -> None:
        """Nothing more is coming."""
        for item in self._waiting:
            self._tell(item)
        self._waiting = []

    def _tell(self, item: Item) -> None:
        target = self._readable(item.logical) if item in self._moving else item.source
        self._report(DataPushed(item.source, target, item.is_local, item not in self._uploaded))
