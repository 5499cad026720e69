"""The candidate farthest from all centres, again and again: exact, with few distances computed, in bounded memory.

A candidate's distance to the nearest centre only ever falls, so one computed earlier bounds it from above. Only
candidates whose bound is among the highest are compared with the centres they have not met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.pool.libraries import np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Rows = npt.NDArray[np.intp]

_BATCH = 256
"""Candidates whose distances are brought up to date together."""

_BLOCK_FLOATS = 1 << 22
"""Distances computed at a time: 32 MiB of doubles."""

_DECIMALS = 12
"""Squared distances are rounded to so many, so that equal ones are equal however they were computed."""


def squared_distances(some: Doubles, others: Doubles) -> Doubles:
    """Return the squared Euclidean distance of each vector of one set to each of another."""
    squares = (some * some).sum(axis=1)[:, None] + (others * others).sum(axis=1)[None, :]
    found: Doubles = np.round(np.maximum(squares - 2 * (some @ others.T), 0.0), _DECIMALS)
    return found


class Centres:
    """What has been chosen so far, in this run and before; grows one by one."""

    def __init__(self, first: Vectors) -> None:
        self._vectors = np.empty((max(2 * len(first), 64), first.shape[1]), np.float64)
        self._vectors[: len(first)] = first
        self._count = len(first)

    def __len__(self) -> int:
        return self._count

    def add(self, vector: Vectors) -> None:
        """Add one."""
        if self._count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[self._count] = vector
        self._count += 1

    def since(self, number: int) -> Doubles:
        """Return those from a number on."""
        return self._vectors[number : self._count]


class Farthest:
    """The candidates of one group, rows of ``vectors``, by their distance to the nearest centre.

    ``vectors`` may lie in a file: only blocks of them are read.
    """

    def __init__(self, vectors: Vectors, rows: Rows, centres: Centres) -> None:
        self._vectors = vectors
        self._rows = rows
        self._centres = centres
        self._bound: Doubles = np.full(len(rows), np.inf)
        """Squared, for each row, to those of the first ``_met`` centres; -1 for what has been taken."""
        self._met = np.zeros(len(rows), np.intp)
        for block in _blocks(np.arange(len(rows)), len(centres)):
            self._update(block)

    def find(self) -> tuple[int, float] | None:
        """Return the farthest row, of several the first, and its distance (infinite without centres); None: no more."""
        while len(self._rows):
            best = int(self._bound.argmax())
            if self._bound[best] < 0:
                return None
            if self._met[best] == len(self._centres):
                return int(self._rows[best]), float(np.sqrt(self._bound[best]))
            self._update(self._stale())
        return None

    def take(self, row: int) -> None:
        """Take a row out, and make it a centre."""
        self._bound[np.searchsorted(self._rows, row)] = -1.0
        self._centres.add(self._vectors[row])

    def _stale(self) -> Rows:
        """Return the places with the highest bounds, as far as they have not met all centres; the highest is one."""
        bound = self._bound
        highest = np.argpartition(bound, -_BATCH)[-_BATCH:] if len(bound) > _BATCH else np.arange(len(bound))
        waits = (self._met[highest] < len(self._centres)) & (bound[highest] >= 0)
        first = int(bound.argmax())
        return np.unique(np.append(highest[waits], first))

    def _update(self, places: Rows) -> None:
        """Bring bounds up to date, those together that have about as many centres to meet."""
        count = len(self._centres)
        ages = np.ceil(np.log2(np.maximum(count - self._met[places], 1)))
        for age in np.unique(ages):
            group = places[ages == age]
            for block in _blocks(group, 2 ** int(age)):
                since = int(self._met[block].min())
                if since < count:
                    vectors = self._vectors[self._rows[block]].astype(np.float64)
                    nearest = squared_distances(vectors, self._centres.since(since)).min(axis=1)
                    self._bound[block] = np.minimum(self._bound[block], nearest)
            self._met[group] = count


def _blocks(places: Rows, others: int) -> Iterator[Rows]:
    """Cut places into parts whose distances to so many others fit into a block."""
    size = max(1, min(_BLOCK_FLOATS // max(others, 1), 1 << 13))
    for start in range(0, len(places), size):
        yield places[start : start + size]
