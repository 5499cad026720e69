from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.readers import ReaderFailed, run_readers
from bench.tools import FIND, GREP, LS, _running

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", [LS, FIND, GREP], ids=lambda command: command[0])
def test_a_directory_with_fewer_files_is_not_fast_but_wrong(tmp_path: Path, command: list[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abcdefgh":
        (folder / name).write_text("x\n")
    assert run_readers(_running(folder, command, 8)).work == 8
    with pytest.raises(ReaderFailed, match="for 20 files"):
        run_readers(_running(folder, command, 20))


def test_a_program_that_fails_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(ReaderFailed, match="ended with 1"):
        run_readers(_running(tmp_path, ["find", "nowhere"], 0))
