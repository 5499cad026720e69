"""The names of a version being made, each with what lies there.

The files of one folder, as long as nothing else is added or changed, cost nothing here: they have their order and their
names. After that an entry costs its name, a slot of a dict and a small tuple: a million take about 250 MB.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fusepkg.errors import KeyCollision
from fusepkg.model.logical_key import tree_sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fusepkg.publish.draft.items import Item
    from fusepkg.publish.scanned import ScannedFiles

Slot = tuple["Item", int]
"""An entry: what it was added with, and its number in that."""


class OrderedSlots(Protocol):
    """Entries in tree order."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> tuple[str, Slot]:
        """Return the key and slot of one."""
        ...

    def __iter__(self) -> Iterator[tuple[str, Slot]]: ...

    def only(self, wanted: Callable[[Slot], bool]) -> OrderedSlots:
        """Return those that are wanted."""
        ...


@dataclass(frozen=True, slots=True)
class _FolderSlots:
    """Files of one folder, which were scanned in tree order; ``directory`` is where they were put."""

    directory: str
    item: Item
    files: ScannedFiles
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> tuple[str, Slot]:
        number = self.numbers[place]
        return self.directory + self.files.key(number), (self.item, number)

    def __iter__(self) -> Iterator[tuple[str, Slot]]:
        return map(self.__getitem__, range(len(self)))

    def without_keys(self) -> Iterator[Slot]:
        return ((self.item, number) for number in self.numbers)

    def only(self, wanted: Callable[[Slot], bool]) -> OrderedSlots:
        numbers = array("I", (number for number in self.numbers if wanted((self.item, number))))
        return self if len(numbers) == len(self) else _FolderSlots(self.directory, self.item, self.files, numbers)


@dataclass(frozen=True, slots=True)
class _NamedSlots:
    keys: Sequence[str]
    slots: Mapping[str, Slot]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: int) -> tuple[str, Slot]:
        key = self.keys[place]
        return key, self.slots[key]

    def __iter__(self) -> Iterator[tuple[str, Slot]]:
        return ((key, self.slots[key]) for key in self.keys)

    def only(self, wanted: Callable[[Slot], bool]) -> OrderedSlots:
        return _NamedSlots([key for key in self.keys if wanted(self.slots[key])], self.slots)


class Tree:
    """Logical keys, and the slot of each."""

    def __init__(self) -> None:
        self._folder: _FolderSlots | None = None
        """All that there is, until anything else is put or taken out."""
        self._slots: dict[str, Slot] = {}
        self._children: dict[str, int] = {}
        """Names directly in each directory; what has none is no directory."""

    def __len__(self) -> int:
        return len(self._slots if self._folder is None else self._folder)

    @property
    def slots(self) -> Mapping[str, Slot]:
        """The slot of each key. Asking for it makes a dict of a folder; ``all`` and ``in_order`` do not."""
        self._expand()
        return self._slots

    def all(self) -> Iterator[Slot]:
        """Return all entries, as they were added."""
        return iter(self._slots.values()) if self._folder is None else self._folder.without_keys()

    def in_order(self) -> OrderedSlots:
        """Return all entries in tree order."""
        if self._folder is not None:
            return self._folder
        return _NamedSlots(sorted(self._slots, key=tree_sort_key), self._slots)

    def put_folder(self, directory: str, item: Item, files: ScannedFiles) -> None:
        """Put the files of a folder into a directory of this tree, which holds nothing yet."""
        assert not len(self), "it holds nothing yet"
        self._folder = _FolderSlots(directory, item, files, range(len(files)))
        item.count = len(files)

    def _expand(self) -> None:
        if self._folder is not None:
            folder, self._folder = self._folder, None
            for key, slot in folder:
                self._slots[key] = slot
                self._count(key)

    def is_directory(self, path: str) -> bool:
        """Return whether a name without a closing slash is a directory."""
        self._expand()
        return path in self._children

    def below(self, directory: str) -> Iterator[str]:
        """The keys below a directory, which ends with a slash; all of them for the empty one."""
        return (key for key in self.slots if key.startswith(directory))

    def check_free(self, keys: Iterable[str], leaving: frozenset[str] = frozenset()) -> None:
        """Refuse keys of which one would be a file and a directory, beside all that is not ``leaving``.

        Raises KeyCollision.
        """
        self._expand()
        new = set(keys)
        directories: set[str] = set()
        for key in new:
            directory = key.rpartition("/")[0]
            while directory and directory not in directories:
                directories.add(directory)
                directory = directory.rpartition("/")[0]
        both = [key for key in new if key in directories or self._stays_directory(key, leaving)]
        both += [path for path in directories if path in self._slots and path not in leaving and path not in new]
        if both:
            raise KeyCollision(
                f'"{min(both)}" would be a file and a directory at once',
                hint="Choose another name, or delete one first",
            )

    def _stays_directory(self, path: str, leaving: frozenset[str]) -> bool:
        if path not in self._children:
            return False
        return not leaving or any(key not in leaving for key in self.below(f"{path}/"))

    def put(self, key: str, slot: Slot) -> None:
        """Put an entry under a key, which ``check_free`` knows to be free or another entry's."""
        self._expand()
        old = self._slots.get(key)
        if old is None:
            self._count(key)
        else:
            old[0].count -= 1
        self._slots[key] = slot
        slot[0].count += 1

    def remove(self, key: str) -> Slot:
        """Take an entry out."""
        self._expand()
        slot = self._slots.pop(key)
        slot[0].count -= 1
        directory = key.rpartition("/")[0]
        while directory:
            self._children[directory] -= 1
            if self._children[directory]:
                break
            del self._children[directory]
            directory = directory.rpartition("/")[0]
        return slot

    def _count(self, key: str) -> None:
        directory = key.rpartition("/")[0]
        while directory:
            known = self._children.get(directory, 0)
            self._children[directory] = known + 1
            if known:
                break
            directory = directory.rpartition("/")[0]
