from __future__ import annotations

import random
from pathlib import Path

import pytest
from fusepkg_cache import Algorithm, Digest, Pin
from fusepkg_cache.pins import MAX_NAME_BYTES, Pins
from fusepkg_cache.records import key_of
from fusepkg_cache.unfinished import UnfinishedFiles


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "pins", UnfinishedFiles(tmp_path / "staging"))


def some(count: int, seed: int = 0) -> list[Digest]:
    chance = random.Random(seed)
    return [Digest(chance.choice(list(Algorithm)), chance.randbytes(32)) for _ in range(count)]


def test_pins_are_listed_by_name(pins: Pins) -> None:
    assert pins.all() == []
    pins.put("s3://bucket#package=b/ü", some(3), 5)
    pins.put("a", [], 6)
    assert pins.all() == [Pin("a", 0, 6), Pin("s3://bucket#package=b/ü", 3, 5)]
    pins.put("a", some(2) * 2, 7)
    assert pins.all()[0] == Pin("a", 2, 7)
    assert pins.remove("a")
    assert not pins.remove("a")
    assert [pin.blobs for pin in pins.all()] == [3]


@pytest.mark.parametrize("asked", [1, 7, 2000])  # searched one by one, or read at once
def test_what_is_pinned_is_found_among_others(pins: Pins, asked: int) -> None:
    pinned = some(5000, 1)
    pins.put("one", pinned[:4000], 0)
    pins.put("two", pinned[3000:], 0)
    for seed in range(3):
        chosen, others = random.Random(seed).sample(pinned, asked), some(asked, seed + 10)
        keys = [key_of(digest) for digest in chosen + others]
        assert pins.among(keys) == {key_of(digest) for digest in chosen}
    assert pins.among([]) == set()


def test_the_first_and_the_last_are_found(pins: Pins) -> None:
    keys = sorted(key_of(digest) for digest in some(1000))
    pins.put("all", some(1000), 0)
    assert pins.among([b"", keys[0], keys[-1], b"\xff" * 33]) == {keys[0], keys[-1]}


def test_a_pin_of_nothing_pins_nothing(pins: Pins) -> None:
    pins.put("none", [], 0)
    assert pins.among([key_of(digest) for digest in some(3)]) == set()


@pytest.mark.parametrize("damage", ["empty", "short", "long", "foreign"])
def test_a_damaged_pin_is_dropped_with_a_warning(
    pins: Pins, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    pins.put("sound", some(2, 1), 0)
    pins.put("damaged", some(2), 0)
    path = pins._path("damaged")
    data = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes({"empty": b"", "short": data[:-1], "long": data + b"x", "foreign": b"x" + data[1:]}[damage])
    assert pins.among([key_of(digest) for digest in some(2)]) == set()
    assert [pin.name for pin in pins.all()] == ["sound"]
    assert caplog.text.count("is damaged") == 1


def test_names_have_a_length(pins: Pins) -> None:
    pins.put("x" * MAX_NAME_BYTES, some(1), 0)
    assert pins.among([key_of(some(1)[0])])
    for name in ("", "x" * (MAX_NAME_BYTES + 1)):
        with pytest.raises(ValueError):
            pins.put(name, [], 0)


def test_nothing_is_left_of_a_pin_that_cannot_be_written(pins: Pins, tmp_path: Path) -> None:
    (tmp_path / "pins").write_text("in the way")
    with pytest.raises(OSError, match="pins"):
        pins.put("a", some(1), 0)
    assert [path for path in (tmp_path / "staging").rglob("*") if path.is_file()] == []
