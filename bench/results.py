"""The results of one group of rows, as a file keeps them; and of several groups joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT = 1
"""Raised with each change that makes older files mean something else."""


class RowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. ``unit`` is of each value; rates grow with speed, ``s`` and ``MB`` shrink."""

    key: str
    title: str
    unit: str


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. ``passes`` are the rates of its passes and ``value`` the rate over all of them; ``passes`` is
    empty for what is no rate. ``beside`` are the rates of the bare local folder, taken in turn with the passes.
    ``load`` is the load average before it."""

    row: str
    subject: str
    round: int
    value: float
    passes: list[float]
    load: float
    beside: list[float] = []

    @property
    def best(self) -> float:
        """The fastest pass: whatever else runs on the machine can only make a pass slower."""
        return max(self.passes, default=self.value)


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """When a group of rows was measured, and how: ``minutes`` with its setting up, load averages before and after.

    ``complete`` is False for one that was interrupted."""

    started: str
    minutes: float
    rounds: int
    scale: float
    load_before: float
    load_after: float
    complete: bool = False


class Results(msgspec.Struct, kw_only=True):
    """One group of rows of a run, or several joined. ``skipped`` says of subjects and rows why they were not measured.

    ``groups`` is empty in files of older runs, which had all groups in one.
    """

    format: int = FORMAT
    started: str
    complete: bool = False
    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, str]
    groups: dict[str, GroupFacts] = msgspec.field(default_factory=dict)
    rows: list[RowFacts] = msgspec.field(default_factory=list)
    skipped: dict[str, str] = msgspec.field(default_factory=dict)
    samples: list[Sample] = msgspec.field(default_factory=list)

    def add_row(self, key: str, title: str, unit: str) -> None:
        """Make a row known, once; rows are shown in the order in which they were."""
        facts = RowFacts(key=key, title=title, unit=unit)
        if facts not in self.rows:
            self.rows.append(facts)


def write_results(results: Results, path: Path) -> None:
    """Write the file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    draft.rename(path)


def read_results(path: Path) -> Results:
    """Read a file. Raises msgspec.MsgspecError, or ValueError for another format."""
    results = msgspec.json.decode(path.read_bytes(), type=Results)
    if results.format != FORMAT:
        raise ValueError(f"{path} has results of format {results.format}, not {FORMAT}")
    return results


def join(several: Sequence[Results]) -> Results:
    """Make one of the results of several groups, in the order of the groups' last runs.

    Of a group that was measured more than once the last complete run counts, or the last if none is. Raises ValueError
    if they are of different versions or machines: their figures cannot be compared.
    """
    chosen: dict[tuple[str, ...], Results] = {}
    for one in sorted(several, key=lambda one: one.started):
        key = tuple(one.groups) or (one.started,)
        if key not in chosen or one.complete or not chosen[key].complete:
            chosen.pop(key, None)
            chosen[key] = one
    first, *others = chosen.values()
    for other in others:
        for name in ("machine", "versions"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                differs = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
                raise ValueError(f"results of {first.started} and {other.started} differ in {', '.join(differs)}")
    joined = Results(
        started=first.started,
        complete=all(one.complete for one in chosen.values()),
        machine=first.machine,
        versions=first.versions,
        options=first.options if not others else {},
    )
    for one in chosen.values():
        joined.groups.update(one.groups)
        joined.skipped.update(one.skipped)
        joined.samples += one.samples
        for row in one.rows:
            joined.add_row(row.key, row.title, row.unit)
    return joined
