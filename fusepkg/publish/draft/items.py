"""How the contents of a version are shown: a few lines, each a folder or a file and where it comes from."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg.model.entry import Entry
    from fusepkg.publish.draft.entry_sources import EntrySource

_FILES_SHOWN = 20
"""Single files of one directory shown one by one; more are shown as a folder."""

_HASH_SUFFIX = re.compile(r"~[0-9a-f]{16}(?:[0-9a-f]{48})?$")
"""What a push adds to a key that was taken."""


@dataclass(slots=True, eq=False)
class Item:
    """One line. ``logical`` and ``source`` end with a slash for a folder; the whole package is the empty ``logical``.

    ``count`` is how many entries of a version being made are still as this item says.
    """

    logical: str
    source: str
    entries: EntrySource
    is_local: bool = False
    count: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it stands for all that lies below."""
        return not self.logical or self.logical.endswith("/")

    def take_place(self, source: str, entries: EntrySource) -> None:
        """Say from now on that its entries come from a place in a bucket."""
        self.source, self.entries, self.is_local = source, entries, False

    def moved(self, old: str, new: str) -> Item:
        """The item for those of its entries that move from one directory to another; both end with a slash."""
        if self.logical.startswith(old):
            return replace(self, logical=new + self.logical[len(old) :], count=0)
        return replace(self, logical=new, source=self.source + old[len(self.logical) :], count=0)


def holders(items: Iterable[Item]) -> dict[Item, Item]:
    """The item that stands for each: itself, or a folder of which it says nothing else."""
    by_logical: dict[str, list[Item]] = {}
    live = [item for item in items if item.count]
    for item in live:
        by_logical.setdefault(item.logical, []).append(item)
    found: dict[Item, Item] = {}
    for item in sorted(live, key=lambda item: len(item.logical)):
        above = [item.logical, *_directories_above(item.logical)]
        candidates = (folder for path in above for folder in by_logical.get(path, ()) if folder.is_folder)
        found[item] = next((found.get(folder, folder) for folder in candidates if _says(folder, item)), item)
    return {item: found[item] for item in live}


def _says(folder: Item, item: Item) -> bool:
    return folder is not item and item.source == folder.source + item.logical[len(folder.logical) :]


def in_order(items: Iterable[Item]) -> list[Item]:
    """Items as they were added, but what lies below a folder right after it; those that stand for themselves."""
    live = [item for item, holder in holders(items).items() if holder is item]
    folders = {item.logical for item in live if item.is_folder}
    below: dict[str, list[Item]] = {}
    roots: list[Item] = []
    for item in live:
        parent = next((path for path in _directories_above(item.logical) if path in folders), None)
        (roots if parent is None else below.setdefault(parent, [])).append(item)
    return [shown for item in roots for shown in _with_those_below(item, below)]


def folders_first(items: list[Item]) -> list[Item]:
    """Ordered items with the files of their own last."""
    folders = tuple(item.logical for item in items if item.is_folder)
    return sorted(items, key=lambda item: not item.logical.startswith(folders))


def _with_those_below(item: Item, below: dict[str, list[Item]]) -> Iterator[Item]:
    yield item
    if item.is_folder:
        for inner in below.pop(item.logical, ()):
            yield from _with_those_below(inner, below)


def _directories_above(logical: str) -> Iterator[str]:
    path = logical.removesuffix("/")
    while "/" in path:
        path = path.rpartition("/")[0]
        yield f"{path}/"
    if logical:
        yield ""


# --- of a version that is there ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """Entries below one logical directory whose objects lie below one place."""

    logical: str
    source: str
    top: str
    keys: list[str] = field(default_factory=list)
    """The first of them: one more than may be shown one by one."""


class Grouping:
    """The items of a version, found from its entries."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._by_place: dict[tuple[str, str], int] = {}
        self._known: dict[tuple[str, str], int] = {}
        self._group_of = array("I")
        self.keys: list[str] = []
        """Of all entries, in the order they were added."""

    def add(self, entry: Entry) -> None:
        """The next entry."""
        key = entry.logical_key
        source = _HASH_SUFFIX.sub("", entry.physical_key.readable)
        directory, _, name = key.rpartition("/")
        place, _, object_name = source.rpartition("/")
        if name == object_name:
            number = self._known.get((directory, place))
            if number is None:
                number = self._known[directory, place] = self._number(*_common(directory, place))
        else:
            number = self._number(key, source, _top(directory))
        group = self._groups[number]
        if len(group.keys) <= _FILES_SHOWN:
            group.keys.append(key)
        self._group_of.append(number)
        self.keys.append(key)

    def items(self, entries: EntrySource) -> Iterator[tuple[str, Item]]:
        """Logical key and item of each entry, in the order they were added."""
        files: dict[str, Item] = {}
        folders: dict[int, Item] = {}
        groups_below = Counter(group.top for group in self._groups)
        for number, group in enumerate(self._groups):
            self._show(number, entries, files, folders, is_alone=groups_below[group.top] == 1)
        for key, number in zip(self.keys, self._group_of, strict=True):
            yield key, files.get(key) or folders[number]

    def _show(
        self, number: int, entries: EntrySource, files: dict[str, Item], folders: dict[int, Item], *, is_alone: bool
    ) -> None:
        group = self._groups[number]
        several = len(group.keys) > _FILES_SHOWN
        if not group.logical.endswith("/") and group.logical:  # an object of another name
            files[group.logical] = Item(group.logical, group.source, entries)
        elif several or (group.top and (len(group.keys) > 1 or is_alone)):
            folders[number] = Item(group.logical, group.source, entries)
        else:
            for key in group.keys:
                files[key] = Item(key, group.source + key[len(group.logical) :], entries)

    def _number(self, logical: str, source: str, top: str) -> int:
        number = self._by_place.setdefault((logical, source), len(self._groups))
        if number == len(self._groups):
            self._groups.append(_Group(logical, source, top))
        return number


def _top(directory: str) -> str:
    return f"{directory.partition('/')[0]}/" if directory else ""


def _common(directory: str, place: str) -> tuple[str, str, str]:
    """Directory and place less what both end with; the logical directory keeps its first part."""
    logical, source = directory, place
    while "/" in logical and logical.rpartition("/")[2] == source.rpartition("/")[2]:
        logical, source = logical.rpartition("/")[0], source.rpartition("/")[0]
    return (f"{logical}/" if logical else ""), f"{source}/", _top(directory)
