"""The results of one run, as a file keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
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


class Results(msgspec.Struct, kw_only=True):
    """One run. ``skipped`` says of subjects and groups why they were not measured."""

    format: int = FORMAT
    started: str
    complete: bool = False
    machine: dict[str, str]
    versions: dict[str, str]
    options: dict[str, str]
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
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    draft.rename(path)


def read_results(path: Path) -> Results:
    """Read a file. Raises msgspec.MsgspecError, or ValueError for another format."""
    results = msgspec.json.decode(path.read_bytes(), type=Results)
    if results.format != FORMAT:
        raise ValueError(f"{path} has results of format {results.format}, not {FORMAT}")
    return results
