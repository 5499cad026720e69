"""Scratch directories: gone with their block, or with the next one after a kill."""

from __future__ import annotations

from pathlib import Path

from fusepkg.index.scratch import scratch_directory


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(tmp_path: Path):
    left = tmp_path / "manifest-left"
    left.mkdir()
    foreign = tmp_path / "other"
    foreign.mkdir()
    with scratch_directory(tmp_path, "manifest-") as first, scratch_directory(tmp_path, "manifest-") as second:
        assert not left.exists()
        assert first.exists()
        assert second.exists()
        assert foreign.exists()
    assert sorted(tmp_path.iterdir()) == [foreign]


def test_a_directory_that_was_renamed_stays(tmp_path: Path):
    with scratch_directory(tmp_path, ".building-") as scratch:
        (scratch / "file").touch()
        scratch.rename(tmp_path / "final")
    assert [path.name for path in tmp_path.rglob("*")] == ["final", "file"]
