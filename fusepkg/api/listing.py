"""A list of entries that is made as it is read, and prints one name per line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from fusepkg.api.display import show_lines

if TYPE_CHECKING:
    from collections.abc import Callable

_Item = TypeVar("_Item")


class Listing(Sequence[_Item], Generic[_Item]):
    """Items made by calling ``walk`` for each iteration, so that a million names are not held in memory."""

    __slots__ = ("_count", "_walk")

    def __init__(self, walk: Callable[[], Iterator[_Item]]) -> None:
        self._walk = walk
        self._count: int | None = None

    def __iter__(self) -> Iterator[_Item]:
        return self._walk()

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self._walk())
        return self._count

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | list[_Item]:
        if isinstance(index, slice):
            return list(self._walk())[index]
        place = index if index >= 0 else index + len(self)
        if place >= 0:
            for item in islice(self._walk(), place, None):
                return item
        raise IndexError(index)

    def __repr__(self) -> str:
        return show_lines(str(item) for item in self._walk())
