from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import workload
from bench.workload import SMALL_FILE_BYTES, Tree, WrongBytes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return workload.write_tree(tmp_path, directories=3, files=10)


def test_readers_share_the_files_and_read_each_once(tmp_path: Path, tree: Tree) -> None:
    loops = workload.read_files(tmp_path, tree, 4)
    assert [loop()() for loop in loops] == [3, 3, 2, 2]


def test_a_walk_finds_every_file(tmp_path: Path, tree: Tree) -> None:
    assert workload.walk(tmp_path, tree)()() == 10


def test_the_large_file_is_counted_in_megabytes(tmp_path: Path) -> None:
    tree = workload.write_large(tmp_path / "large", 2 * workload.MIB)
    [loop] = workload.read_large(tmp_path / "large", tree)
    assert loop()() == pytest.approx(2.097152)


def test_a_reader_stops_at_its_budget(tmp_path: Path, tree: Tree) -> None:
    [loop] = workload.read_files(tmp_path, tree, 1, budget_s=0.0)
    assert loop()() == 1


def test_a_file_that_is_cut_off_is_not_fast_but_wrong(tmp_path: Path, tree: Tree) -> None:
    (tmp_path / tree.paths[4]).write_bytes(bytes(SMALL_FILE_BYTES - 1))
    [loop] = workload.read_files(tmp_path, tree, 1)
    with pytest.raises(WrongBytes):
        loop()()


def test_a_missing_file_is_found_missing_by_the_walk(tmp_path: Path, tree: Tree) -> None:
    (tmp_path / tree.paths[4]).unlink()
    with pytest.raises(WrongBytes):
        workload.walk(tmp_path, tree)()()
