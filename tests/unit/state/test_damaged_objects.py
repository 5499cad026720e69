"""Notes of damaged objects: found again by every process, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.model.physical_key import PhysicalKey
from fusepkg.state import damaged_objects
from fusepkg.state.damaged_objects import DamagedObjects

PLACES = [
    PhysicalKey("s3", "bucket", "a/ä b?c.bin", "v1"),
    PhysicalKey("s3", "bucket", "a/ä b?c.bin"),
    PhysicalKey("file", "", "/data/a.bin"),
]


def test_what_is_noted_is_found_by_others_until_it_is_forgotten(tmp_path: Path) -> None:
    notes, others = DamagedObjects(tmp_path / "damaged"), DamagedObjects(tmp_path / "damaged")
    assert list(others) == []
    for place in PLACES * 2:
        notes.note(place)
    assert sorted(others, key=str) == sorted(PLACES, key=str)
    assert all(others.has(place) for place in PLACES)
    others.forget(PLACES[0])
    others.forget(PLACES[0])
    assert not notes.has(PLACES[0])
    assert notes.has(PLACES[1])


def test_notes_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damaged_objects, "MAX_NOTES", 2)
    notes = DamagedObjects(tmp_path / "damaged")
    for place in PLACES:
        notes.note(place)
    assert len(list(notes)) == 2


def test_a_directory_that_cannot_be_used_or_holds_other_things_costs_the_notes_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = DamagedObjects(tmp_path / "file" / "damaged")
    blocked.note(PLACES[0])
    assert not blocked.has(PLACES[0])
    assert list(blocked) == []
    notes = DamagedObjects(tmp_path / "damaged")
    notes.note(PLACES[0])
    (tmp_path / "damaged" / ("0" * 64)).write_bytes(b"s3://bucket/another")
    (tmp_path / "damaged" / "rubbish").write_bytes(b"\xff\xfe")
    (tmp_path / "damaged" / "directory").mkdir()
    assert list(notes) == PLACES[:1]
