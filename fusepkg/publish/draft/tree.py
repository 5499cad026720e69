"""The names of a version being made, each with what lies there.

An entry costs its name, a slot of a dict and a small tuple: a million take about 250 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import KeyCollision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fusepkg.publish.draft.items import Item

Slot = tuple["Item", int]
"""An entry: what it was added with, and its number in that."""


class Tree:
    """Logical keys, and the slot of each."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self._children: dict[str, int] = {}
        """Names directly in each directory; what has none is no directory."""

    def is_directory(self, path: str) -> bool:
        """Return whether a name without a closing slash is a directory."""
        return path in self._children

    def below(self, directory: str) -> Iterator[str]:
        """The keys below a directory, which ends with a slash; all of them for the empty one."""
        return (key for key in self.slots if key.startswith(directory))

    def check_free(self, keys: Iterable[str], leaving: frozenset[str] = frozenset()) -> None:
        """Refuse keys of which one would be a file and a directory, beside all that is not ``leaving``.

        Raises KeyCollision.
        """
        new = set(keys)
        directories: set[str] = set()
        for key in new:
            directory = key.rpartition("/")[0]
            while directory and directory not in directories:
                directories.add(directory)
                directory = directory.rpartition("/")[0]
        both = [key for key in new if key in directories or self._stays_directory(key, leaving)]
        both += [path for path in directories if path in self.slots and path not in leaving and path not in new]
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
        old = self.slots.get(key)
        if old is None:
            self._count(key)
        else:
            old[0].count -= 1
        self.slots[key] = slot
        slot[0].count += 1

    def remove(self, key: str) -> Slot:
        """Take an entry out."""
        slot = self.slots.pop(key)
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
