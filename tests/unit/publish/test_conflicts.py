"""Changes that meet others are made again."""

from __future__ import annotations

import time

import pytest

from fusepkg.errors import TagConflict, UsageError
from fusepkg.publish.conflicts import TRIES, repeat_conflicts


class Writer:
    """Meets others a number of times."""

    def __init__(self, conflicts: int) -> None:
        self.tries = 0
        self._conflicts = conflicts

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self._conflicts:
            raise TagConflict("somebody was first")
        return "done"


def test_a_change_is_made_again_until_it_meets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    writer = Writer(TRIES - 1)
    assert (repeat_conflicts(writer), writer.tries) == ("done", TRIES)
    assert len(pauses) == TRIES - 1
    assert len(set(pauses)) > 1
    stubborn = Writer(TRIES)
    with pytest.raises(TagConflict):
        repeat_conflicts(stubborn)
    assert stubborn.tries == TRIES


def test_other_errors_are_not_repeated() -> None:
    def refuse() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError):
        repeat_conflicts(refuse)
