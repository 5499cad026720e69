"""Where bytes lie, by the name of the bytes: a dict in little room."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.publish.places import SENT, WAITING, Names, Places

BASE = "s3://bucket/prefix/"


def name(number: int) -> bytes:
    """Few first bytes, so that many collide."""
    return bytes([number % 3, *bytes(7)]) + hashlib.sha256(str(number).encode()).digest()[:24]


TEXTS = st.sampled_from([WAITING, SENT, BASE, f"{BASE}ä?versionId=1", "s3://other/x", "file:///y"])


@given(st.lists(st.tuples(st.integers(0, 200), TEXTS)), st.integers(0, 300))
def test_it_is_as_a_dict(puts: list[tuple[int, str]], expected: int) -> None:
    places, model = Places(BASE, expected), dict[bytes, str]()
    for number, text in puts:
        key = name(number) if number % 10 else name(number) + b"md5"  # that of a weak checksum is longer
        assert (key in places) is (key in model)
        places[key] = model[key] = text
    assert {key: places[key] for key in model} == model
    assert places.get(name(999), "none") == places.get(name(999) + b"md5", "none") == "none"
    with pytest.raises(KeyError):
        places[name(999)]


def test_names_are_numbered_in_their_order() -> None:
    names = Names()
    assert [names.add(name(number)) for number in range(500)] == list(range(500))
    assert [names.add(name(number)) for number in range(500)] == list(range(500))
    assert (names.find(name(7)), names.find(name(500)), len(names)) == (7, None, 500)
