"""What the processes of one mount tell each other."""

from __future__ import annotations

import os
from pathlib import Path

from fusepkg.engines.shared import SharedMemory, publish_versions


def test_what_is_shown_is_seen_by_another_process() -> None:
    first = SharedMemory.created(2)
    other = SharedMemory(os.dup(first.descriptor), 1, 2)
    assert other.facts() == (0, {})
    publish_versions(first, {3: ("ab" * 32, Path("/index/v2/ab"))}, 3)
    generation, facts = other.facts()
    assert (generation, facts) == (2, {"versions": {"3": ["ab" * 32, "/index/v2/ab"]}, "current": 3})
    assert other.generation == generation


def test_what_does_not_fit_is_not_shown() -> None:
    shared = SharedMemory.created(1)
    publish_versions(shared, {number: ("a" * 64, Path("/" + "long" * 60)) for number in range(2000)}, 7)
    assert shared.facts()[1] == {"versions": {}, "current": 7}


def test_counts_of_all_processes_are_added() -> None:
    first = SharedMemory.created(2)
    other = SharedMemory(os.dup(first.descriptor), 1, 2)
    first.count_read(10)
    other.count_read(5)
    other.use(4, 3)
    first.use(4, -1)
    assert first.reads() == other.reads() == (2, 15)
    assert (first.uses(4), first.uses(5)) == (2, 0)
    first.watch(1)
    assert other.watched == 1
