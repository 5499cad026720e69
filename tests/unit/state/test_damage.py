from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.state import damage
from fusepkg.state.damage import damaged_objects, forget_damaged, note_damaged

ONE, TWO = "s3://b/one?versionId=1", "s3://b/two"


def test_what_is_noted_is_told_until_it_is_forgotten(tmp_path: Path) -> None:
    assert damaged_objects(tmp_path / "data") == frozenset()
    note_damaged(tmp_path / "data", [ONE, TWO, ONE])
    note_damaged(tmp_path / "data", [TWO])
    assert damaged_objects(tmp_path / "data") == {ONE, TWO}
    forget_damaged(tmp_path / "data", [ONE])
    assert damaged_objects(tmp_path / "data") == {TWO}


def test_a_damaged_or_unwritable_file_costs_the_notes_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note_damaged(tmp_path, [ONE])
    file = tmp_path / "damaged-objects.txt"
    file.write_bytes(b"\xff\0nonsense\n" + TWO.encode() + b"\n")
    assert TWO in damaged_objects(tmp_path)
    file.unlink()
    file.mkdir()
    note_damaged(tmp_path, [ONE])
    forget_damaged(tmp_path, [ONE])
    assert damaged_objects(tmp_path) == frozenset()
    assert "cannot be written" in caplog.text


def test_only_so_many_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "_MAX_OBJECTS", 3)
    for number in range(5):
        note_damaged(tmp_path, [f"s3://b/{number}"])
    assert damaged_objects(tmp_path) == {f"s3://b/{number}" for number in (2, 3, 4)}
