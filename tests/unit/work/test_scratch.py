"""Scratch directories: gone with their block, or with the next one after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.work.scratch import scratch_directory


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    parent = tmp_path / "index"
    parent.mkdir()
    return parent


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(parent: Path):
    left = parent / "manifest-left"
    left.mkdir()
    foreign = parent / "other"
    foreign.mkdir()
    with scratch_directory(parent, "manifest-") as first, scratch_directory(parent, "manifest-") as second:
        assert not left.exists()
        assert first.exists()
        assert second.exists()
        assert foreign.exists()
    assert sorted(parent.iterdir()) == [foreign]


def test_a_directory_that_was_renamed_stays(parent: Path):
    with scratch_directory(parent, ".building-") as scratch:
        (scratch / "file").touch()
        scratch.rename(parent / "final")
    assert [path.name for path in parent.rglob("*")] == ["final", "file"]
