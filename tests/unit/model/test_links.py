from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.errors import ManifestInvalid
from fusepkg.model.links import LinkGraph, text_stays_inside


def leaving(links: dict[str, str]) -> list[str]:
    graph = LinkGraph()
    for key, target in links.items():
        graph.add(key.encode(), target.encode())
    return [key.decode() for key, _ in graph.leaving()]


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({"deep/a/b/l": "../../../top", "readme": "deep/a/b/l/../../../outside"}, ["readme"]),
        ({"l": "deep/a", "m": "l/../../x"}, []),
        ({"deep/l": "../top", "m": "deep/l/../x"}, []),
        ({"deep/l": "../top", "m": "deep/l/../../x"}, ["m"]),
        ({"a": "b", "b": "c", "c": "/etc"}, ["a", "b", "c"]),
        ({"x/a": "../y/b", "y/b": "c", "z": "x/a/../../../q"}, ["z"]),
        ({"a": "b", "b": "a", "c": "a/../../.."}, []),  # round in circles: nowhere
        ({"self": "self/../../x"}, []),
        ({"a": ".", "b": "a/a/a/./b2", "c": "a/../x"}, ["c"]),
        ({"d/up": "..", "e": "d/up/..", "f": "d/up/x"}, ["e"]),
    ],
)
def test_links_are_followed_through_each_other(links: dict[str, str], expected: list[str]) -> None:
    assert leaving(links) == expected


def test_the_first_links_are_named() -> None:
    graph = LinkGraph()
    graph.add(b"up", b"..")
    for number in range(5):
        graph.add(b"d/%d" % number, b"../up/x")
    with pytest.raises(ManifestInvalid, match=r"'up' to '..', 'd/0' to '../up/x', 'd/1' to '../up/x' and 3 more"):
        graph.check()


def test_a_chain_of_any_length_is_followed_once() -> None:
    links = {f"l{number}": f"l{number + 1}" for number in range(20_000)}
    assert leaving(links) == []
    links["l20000"] = "d/../../x"
    assert len(leaving(links)) == 20_001


parts = st.sampled_from(["..", ".", "a", "b", "c"])
texts = st.lists(parts, min_size=1, max_size=6).map("/".join)
keys = st.sampled_from(["a", "b", "c/a", "c/b", "c/c/a", "c/c/b", "c/c/c"])


@given(st.dictionaries(keys, texts, max_size=7))
def test_what_stays_inside_stays_inside_for_the_kernel(links: dict[str, str]) -> None:
    outside = set(leaving(links))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "above", "root")
        (root / "c" / "c").mkdir(parents=True)
        for name in "abc":  # so that what leads out leads somewhere
            Path(directory, "above", name).mkdir()
            Path(directory, name).mkdir()
        for key, target in links.items():
            (root / key).symlink_to(target)
        for key, target in links.items():
            try:
                descriptor = os.open(root / key, os.O_PATH)
            except OSError:
                continue
            there = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            os.close(descriptor)
            if key not in outside and text_stays_inside(key, target):
                assert there.is_relative_to(root.resolve())
