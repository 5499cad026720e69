from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.scratch import scratch_directory

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_cleared_away_however_the_run_ends(tmp_path: Path) -> None:
    def interrupted() -> None:
        with scratch_directory(tmp_path) as scratch:
            (scratch / "data").write_text("much")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.glob("fusepkg-bench-*")) == []


def test_what_a_killed_run_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "fusepkg-bench-left"
    left.mkdir()
    (left / "running").touch()  # nobody holds its lock
    with scratch_directory(tmp_path):
        assert not left.exists()


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as first:
        with scratch_directory(tmp_path) as second:
            assert first.is_dir()
            assert second != first
        assert first.is_dir()
