from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.store.directory.names import GOES_ON, names_of, part_of

PARTS = st.text(st.sampled_from("ab~+=df.\u65e5"), min_size=1, max_size=4) | st.text(
    st.sampled_from("a~d\u65e5"), min_size=80, max_size=400
)
KEYS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


def key_of(names: list[bytes]) -> str:
    """The way back, as a listing goes it."""
    parts, begun = [], b""
    for name in names[:-1]:
        if name.endswith(GOES_ON):
            begun += name[:-2]
        else:
            parts.append(begun + part_of(name, is_directory=True))
            begun = b""
    return b"/".join([*parts, begun + part_of(names[-1], is_directory=False)]).decode()


@given(KEYS)
def test_every_key_comes_back(key: str) -> None:
    names = names_of(key)
    if names is None:
        assert {".", ".."} & set(key.split("/"))
        return
    assert key_of(names) == key
    assert all(0 < len(name) <= 253 for name in names)
    assert not {b".", b".."} & set(names)


@given(KEYS, KEYS)
def test_two_keys_are_two_paths(one: str, other: str) -> None:
    names = names_of(one)
    if names is not None and one != other:
        assert names != names_of(other)


@pytest.mark.parametrize("key", ["a", "a/b", "a b/\u65e5", "~", "a~", ".hidden", ".../a", "n" * 251])
def test_usual_keys_are_their_own_paths(key: str) -> None:
    assert names_of(key) == key.encode().split(b"/")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "a/..", "../a", "a\0", "\udcff"])
def test_keys_that_are_no_paths(key: str) -> None:
    assert names_of(key) is None
