"""A version of a package being made: what is in it and where it comes from, before anything is hashed or pushed.

Used by one thread. An entry that comes from another package is its name and a number until somebody looks at it, so a
version made from one of a million entries costs their names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import EntryNotFound, KeyCollision, UsageError
from fusepkg.model.entry import META_KEY, EntryKind, kind_of, leads_out
from fusepkg.model.links import text_stays_inside
from fusepkg.model.logical_key import tree_sort_key
from fusepkg.model.reference import DVC
from fusepkg.publish.draft.entry_sources import DraftEntry, LocalFiles, PackageEntries, RemoteObjects, StoredEntries
from fusepkg.publish.draft.items import Grouping, Item, in_order
from fusepkg.publish.draft.metadata import RECORD_KEY, checked_meta, is_record, make_header, with_user_meta
from fusepkg.publish.draft.names import as_directory, check_key, check_name, move_collision
from fusepkg.publish.draft.sampling import choose
from fusepkg.publish.draft.sources import FoundSource, check_registry_is_outside, find_folder, find_source
from fusepkg.publish.draft.temporary_blobs import TemporaryBlobs
from fusepkg.publish.draft.tree import Tree
from fusepkg.publish.folder import Symlinks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import Reference
    from fusepkg.publish.hashes import Hashed
    from fusepkg.store.opening import StoreSet


_ITEMS_ALLOWED = 100
"""Items kept before those of no use are looked for: programs add a hundred thousand files one by one."""


class Draft:
    """A version being made of the package that ``reference`` names.

    ``tag`` is the tag a push moves by default: the one the package was named with, or None.
    ``top_hash`` is None until the manifest is built, and again after every change; ``manifest_url`` is where the
    manifest lies once it is pushed. ``based_on`` has the top hash that each tag named when it was seen, None for one
    that did not exist: a push moves a tag only from there.
    """

    def __init__(self, reference: Reference, stores: StoreSet, *, tag: str | None = None) -> None:
        if reference.bucket.scheme == DVC:
            raise UsageError(
                f"{reference.package} is a DVC repository, which fusepkg only reads",
                hint=f"`fusepkg import {reference} my-bucket/dataset` makes a package of it",
            )
        self.reference = reference
        self.stores = stores
        self.tag = tag
        self.tree = Tree()
        self.changed_meta: dict[str, dict[str, Any]] = {}
        self.directory_meta: dict[str, dict[str, Any]] = {}
        self.all_items: list[Item] = []
        """Those that still say something of an entry (``count``), and for a while others."""
        self._items_allowed = _ITEMS_ALLOWED
        self.based_on: dict[str, str | None] = {}
        self.temporary_blobs = TemporaryBlobs()
        self.block_roots: dict[Digest, Digest] = {}
        """Roots of block hashes, by the digest of the file; a manifest has them for all files that are in here."""
        self.top_hash: str | None = None
        self.manifest_url: str | None = None
        self._message: str | None = None
        self._user_meta: dict[str, Any] | None = None
        self._record: dict[str, Any] | None = None
        self._workflow: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.tree)

    def total_bytes(self) -> int:
        """Return the bytes of all entries."""
        return sum(item.entries.get_size(number) for item, number in self.tree.all())

    # --- the version itself ----------------------------------------------------------------------------------

    @property
    def message(self) -> str | None:
        """Why; part of the version."""
        return self._message

    @message.setter
    def message(self, message: str | None) -> None:
        make_header(message, None)
        self._message = message
        self.changed()

    @property
    def user_meta(self) -> dict[str, Any] | None:
        """The metadata of the package; None if there are none."""
        return self._user_meta

    @user_meta.setter
    def user_meta(self, meta: object) -> None:
        self._user_meta = None if meta is None else checked_meta(meta, "the package")
        self.changed()

    @property
    def record(self) -> dict[str, Any] | None:
        """How a workspace came about, kept beside the user's metadata; None for anything else."""
        return self._record

    @record.setter
    def record(self, record: dict[str, Any] | None) -> None:
        self._record = None if record is None else checked_meta(record, "the workspace")
        self.changed()

    @property
    def workflow(self) -> dict[str, Any] | None:
        """The rules of the bucket that the version has been checked by; None where there are none."""
        return self._workflow

    @workflow.setter
    def workflow(self, workflow: dict[str, Any] | None) -> None:
        if workflow != self._workflow:
            self._workflow = workflow
            self.changed()

    def header(self) -> dict[str, Any]:
        """The header of the manifest."""
        header = self._header()
        return header if self._workflow is None else {**header, "workflow": self._workflow}

    def _header(self) -> dict[str, Any]:
        if self._record is None:
            return make_header(self._message, self._user_meta)
        user_meta = dict(self._user_meta or {})
        if is_record(user_meta.get(RECORD_KEY)):  # of the version this one was made from
            del user_meta[RECORD_KEY]
        return make_header(self._message, {RECORD_KEY: self._record, **user_meta})

    def items(self) -> list[Item]:
        """The contents as they are shown: folders and files as they were added, exceptions below their folder."""
        return in_order(self.all_items)

    def keys_in_order(self) -> list[str]:
        """All logical keys, in tree order."""
        return [key for key, _ in self.tree.in_order()]

    def entry(self, key: str) -> DraftEntry:
        """One entry. Raises EntryNotFound."""
        if key not in self.tree.slots:
            raise self._not_found(key)
        return self._entry(key)

    def changed(self) -> None:
        """Forget the manifest: something is different now."""
        self.top_hash = self.manifest_url = None

    # --- adding ----------------------------------------------------------------------------------------------

    def add(
        self,
        source: str,
        logical_key: str | None = None,
        *,
        symlinks: Symlinks = Symlinks.REFUSE,
        leave_out: Callable[[str, bool], bool] | None = None,
    ) -> Item:
        """Add a file, a folder, an object or all objects below a prefix; what had one of the names is replaced.

        Without ``logical_key`` it keeps the name it has. Raises UsageError, FolderUnfit, KeyCollision, ObjectMissing.
        """
        found = find_source(source, self.stores, symlinks=symlinks, leave_out=leave_out)
        if found.is_folder:
            if found.is_local:
                registry = self.stores.for_bucket(self.reference.bucket)
                check_registry_is_outside(registry, Path(found.shown))
            return self._put_folder(found, found.default_key if logical_key is None else as_directory(logical_key))
        key = found.default_key if logical_key is None else logical_key
        return self._put_file(found, key + next(iter(found.keys)) if key.endswith("/") else key)

    def add_folder(self, directory: Path, *, symlinks: Symlinks = Symlinks.REFUSE) -> Item:
        """Add all that a folder holds, under the names that it has there. Raises FolderUnfit, KeyCollision."""
        return self._put_folder(find_folder(directory, symlinks=symlinks), "")

    def set(self, key: str, source: str, meta: object = None) -> Item:
        """Make one name one file or object. Raises as ``add``."""
        checked = None if meta is None else checked_meta(meta, repr(key))
        check_key(key)
        found = find_source(source, self.stores)
        if found.is_folder:
            raise UsageError(f"{source} is a folder, {key!r} is one file", hint="Add a folder with add")
        item = self._put_file(found, key)
        if checked is not None:
            self.changed_meta[key] = with_user_meta(found.entries.get(0).meta, checked)
        return item

    def set_object(
        self,
        key: str,
        place: PhysicalKey,
        size: int,
        hashed: Hashed | None,
        *,
        etag: str | None = None,
        meta: object = None,
    ) -> Item:
        """Make one name an object that has just been listed or read. Raises UsageError.

        Without a hash its store is asked when all are hashed, many side by side.
        """
        checked = None if meta is None else checked_meta(meta, repr(key))
        objects = RemoteObjects.of([(place, size)])
        if hashed is not None:
            objects.hashes.put(0, hashed)
        if etag is not None and place.version is None:
            objects.etags[0] = etag
        item = self._put_file(FoundSource(objects, (key,), place.readable, key, is_folder=False, is_local=False), key)
        if checked is not None:
            self.changed_meta[key] = with_user_meta(objects.get(0).meta, checked)
        return item

    def add_package(self, index: Index, logical_key: str = "") -> None:
        """Add all entries of a version that is there already, and the metadata of its directories."""
        directory = as_directory(logical_key)
        entries = PackageEntries(index)
        grouping = Grouping()
        for entry in index.entries:
            grouping.add(entry)
        directory_meta = index.entries.directory_meta()
        if len(self.tree):  # the names of one version do not collide with each other
            self.tree.check_free([directory + key for key in grouping.keys])
        self._check_lengths(directory, grouping.keys)
        moved: dict[Item, Item] = {}
        for number, (key, item) in enumerate(grouping.items(entries)):
            if item not in moved:
                moved[item] = item.moved("", directory)
                self.all_items.append(moved[item])
            self._put(directory + key, moved[item], number)
        self.directory_meta |= {directory + key: meta for key, meta in directory_meta.items()}
        self._settle()

    def add_stored(self, entries: Sequence[Entry]) -> None:
        """Add entries whose bytes lie where a manifest may name them. Raises KeyCollision for two of one name."""
        keys = [entry.logical_key for entry in entries]
        seen: set[str] = set()
        for key in keys:
            check_key(key)
            if key in seen or key in self.tree.slots:
                raise KeyCollision(f"two entries have become {key!r}", hint="Give results names of their own")
            seen.add(key)
        self.tree.check_free(keys)
        item = Item("", self.stores.for_bucket(self.reference.bucket).url("~")[:-1], StoredEntries(entries))
        self.all_items.append(item)
        for number, key in enumerate(keys):
            self._put(key, item, number)
        self._settle()

    def _put_folder(self, found: FoundSource, directory: str) -> Item:
        self._check_lengths(directory, found.keys)
        files = found.entries.files if isinstance(found.entries, LocalFiles) and not len(self.tree) else None
        if files is None:
            self.tree.check_free([directory + key for key in found.keys])
        item = self._new_item(directory, found)
        if files is not None:
            self.tree.put_folder(directory, item, files)
        else:
            for number, key in enumerate(found.keys):
                self._put(directory + key, item, number)
        self._settle()
        return item

    def _put_file(self, found: FoundSource, key: str) -> Item:
        check_key(key)
        self.tree.check_free([key])
        item = self._new_item(key, found)
        self._put(key, item, 0)
        self._settle()
        return item

    def _new_item(self, logical: str, found: FoundSource) -> Item:
        item = Item(logical, found.shown, found.entries, is_local=found.is_local)
        self.all_items.append(item)
        return item

    def _put(self, key: str, item: Item, number: int) -> None:
        self.tree.put(key, (item, number))
        self.changed_meta.pop(key, None)

    def _check_lengths(self, directory: str, keys: Iterable[str]) -> None:
        if directory:
            for key in keys:
                check_name(directory + key)

    # --- changing --------------------------------------------------------------------------------------------

    def set_meta(self, key: str, meta: object) -> None:
        """Replace the user's metadata of an entry, or of a directory where ``key`` ends with a slash."""
        if key in self.tree.slots:
            self.changed_meta[key] = with_user_meta(self.entry(key).meta, checked_meta(meta, repr(key)))
        elif self.tree.is_directory(key.removesuffix("/")):
            directory = as_directory(key)
            self.directory_meta[directory] = checked_meta(meta, repr(directory))
        else:
            raise self._not_found(key)
        self.changed()

    def move(self, old: str, new: str, *, overwrite: bool = False) -> None:
        """Move all that lies in one directory into another. Raises EntryNotFound, KeyCollision, UsageError."""
        old, new = as_directory(old), as_directory(new)
        moves = {key: new + key[len(old) :] for key in self.tree.below(old)}
        if not moves:
            raise self._not_found(old)
        leaving = frozenset(moves)
        taken = [key for key, goal in moves.items() if goal in self.tree.slots and goal not in leaving]
        if taken and not overwrite:
            raise move_collision(min(taken, key=tree_sort_key), moves)
        for key, goal in moves.items():
            check_name(goal)
            self._check_link(key, goal)
        self.tree.check_free(moves.values(), leaving)
        self._move(moves, old, new)

    def _move(self, moves: Mapping[str, str], old: str, new: str) -> None:
        taken_out = [(goal, self.tree.remove(key), self.changed_meta.pop(key, None)) for key, goal in moves.items()]
        moved: dict[Item, Item] = {}
        for goal, (item, number), meta in taken_out:
            if item not in moved:
                moved[item] = item.moved(old, new)
                self.all_items.append(moved[item])
            self._put(goal, moved[item], number)
            if meta is not None:
                self.changed_meta[goal] = meta
        directories = [path for path in self.directory_meta if path.startswith(old)]
        kept = {path: self.directory_meta.pop(path) for path in directories}
        self.directory_meta |= {new + path[len(old) :]: meta for path, meta in kept.items() if new + path[len(old) :]}
        self._settle()

    def delete(self, key: str) -> None:
        """Take out an entry, or all that lies in a directory. Raises EntryNotFound."""
        if key in self.tree.slots:
            self._remove([key])
        elif key.strip("/") and self.tree.is_directory(key.removesuffix("/")):
            self._remove(list(self.tree.below(as_directory(key))))
        else:
            raise self._not_found(key)

    def filter(self, wanted: Callable[[DraftEntry], object]) -> None:
        """Keep the entries ``wanted`` says yes to."""
        self._remove([key for key in self.tree.slots if not wanted(self._entry(key))])

    def sample(self, amount: float, *, seed: int | None = None) -> None:
        """Keep some entries, chosen at random: a number of them, or a part such as 0.1. Raises UsageError."""
        chosen = choose(self.keys_in_order(), amount, seed)
        self._remove([key for key in self.tree.slots if key not in chosen])

    def _remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.tree.remove(key)
            self.changed_meta.pop(key, None)
        gone = [path for path in self.directory_meta if not self.tree.is_directory(path.removesuffix("/"))]
        for path in gone:
            del self.directory_meta[path]
        self._settle()

    def relocate(self, key: str, item: Item, number: int) -> None:
        """Take an entry's bytes from elsewhere; it stays what it is."""
        self.tree.put(key, (item, number))

    def replace_items(self, items: Mapping[Item, Item]) -> None:
        """Show items in the places of others, of which those go that no entry belongs to any more."""
        both = (shown for item in self.all_items for shown in (item, items.get(item)))
        self.all_items = [item for item in both if item is not None and item.count]
        self.manifest_url = None

    def has_local_files(self) -> bool:
        """Return whether a manifest would name files of this machine that others cannot read."""
        in_bucket = self.reference.bucket.scheme == "s3"
        live = (item for item in self.all_items if item.count)
        return any(item.is_local or (in_bucket and item.source.startswith("file://")) for item in live)

    def _settle(self) -> None:
        if len(self.all_items) > self._items_allowed:
            self.all_items = [item for item in self.all_items if item.count]
            self._items_allowed = 2 * len(self.all_items) + _ITEMS_ALLOWED
        self.changed()

    def _check_link(self, key: str, goal: str) -> None:
        meta = self._entry(key).meta
        if leads_out(meta):
            return
        if kind_of(meta) is EntryKind.SYMLINK and not text_stays_inside(goal, meta[META_KEY]["symlink"]):
            raise UsageError(f"{key!r} cannot move to {goal!r}: the link would lead out of the package")

    def _entry(self, key: str) -> DraftEntry:
        item, number = self.tree.slots[key]
        return DraftEntry(key, item.entries, number, self.changed_meta.get(key))

    def _not_found(self, key: str) -> EntryNotFound:
        return EntryNotFound(
            f"The new version of {self.reference.package} has no {key!r}", hint="Look at what it holds, or add it first"
        )
