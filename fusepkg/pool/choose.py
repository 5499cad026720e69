"""Which of the new pictures and frames are added to those chosen before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.pool.farthest import Centres, Farthest
from fusepkg.pool.libraries import np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fusepkg.pool.farthest import Vectors

OTHERS = ""
"""The group of all whose class has no share of its own."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row of the candidates' vectors, and its distance from all that was chosen before it; infinite for the first."""

    row: int
    distance: float


def choose(
    candidates: Vectors,
    before: Vectors,
    *,
    min_distance: float = 0.0,
    at_most: int | None = None,
    rows: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    shares: Mapping[str, float] | None = None,
    counts_before: Mapping[str, int] | None = None,
    each: Callable[[int], None] = lambda _count: None,
) -> list[Chosen]:
    """Choose candidates one by one, each the farthest from all of ``before`` and those chosen, while it is farther than
    ``min_distance`` and there are fewer than ``at_most``. Of several as far the first in order; the first of all where
    ``before`` is empty.

    Only ``rows`` are candidates, if given. With ``shares`` (of classes, 1 in all with that of ``OTHERS``) each step
    takes the farthest of the class that lacks most of its share, counting what was chosen before; a class that has no
    more is passed over. ``each`` hears how many there are.
    """
    centres = Centres(before)
    groups = _groups(range(len(candidates)) if rows is None else rows, classes, shares or {})
    waiting = {name: Farthest(candidates, np.array(members, np.intp), centres) for name, members in groups.items()}
    counts = Counter(counts_before or {})
    total = len(before)
    chosen: list[Chosen] = []
    while waiting and (at_most is None or len(chosen) < at_most):
        name = min(waiting, key=lambda one: (counts[one] - _share(shares, one) * (total + 1), one))
        found = waiting[name].find()
        if found is None or not found[1] > min_distance:
            del waiting[name]
            continue
        row, distance = found
        waiting[name].take(row)
        chosen.append(Chosen(row, distance))
        counts[name] += 1
        total += 1
        each(len(chosen))
    return chosen


def group_of(name: str, shares: Mapping[str, float]) -> str:
    """Return the group that a class belongs to."""
    return name if name in shares else OTHERS


def _share(shares: Mapping[str, float] | None, name: str) -> float:
    if not shares:
        return 1.0
    return shares[name] if name in shares else max(0.0, 1.0 - sum(shares.values()))


def _groups(rows: Sequence[int], classes: Sequence[str] | None, shares: Mapping[str, float]) -> dict[str, list[int]]:
    """Return rows, in order, by group; those of a group without a share are left out."""
    found: dict[str, list[int]] = {}
    for row in sorted(rows):
        name = OTHERS if classes is None else group_of(classes[row], shares)
        if _share(shares, name) > 1e-9:
            found.setdefault(name, []).append(row)
    return found
