from __future__ import annotations

import pytest

from fusepkg.errors import ManifestInvalid
from fusepkg.model.logical_key import check_logical_key, tree_sort_key


def test_the_tree_order_compares_parts_by_code_point() -> None:
    keys = ["a/b", "a b", "a!/x", "a-b", "a.b", "a0", "\uffff", "\U00010000"]
    assert sorted(set(keys), key=tree_sort_key) == keys
    assert sorted(keys, key=lambda key: key.split("/")) == keys


@pytest.mark.parametrize(
    "key",
    ["a", "a/b", "...", "..a/b..", " ", "a\nb", "back\\slash", "é/日", "n" * 255, "é" * 127, "/".join(["d"] * 2048)],
)
def test_what_a_mount_can_show_is_taken(key: str) -> None:
    check_logical_key(key)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "part ''"),
        ("/abs", "absolute"),
        ("a//b", "part ''"),
        ("a/", "part ''"),
        (".", "part '.'"),
        ("a/./b", "part '.'"),
        ("../a", "part '..'"),
        ("a/..", "part '..'"),
        ("a\0b", "NUL"),
        ("n" * 256, "255"),
        ("a/" + "é" * 128, "255"),
        ("/".join(["d"] * 2049), "4095"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_no_mount_can_show_is_refused(key: str, why: str) -> None:
    with pytest.raises(ManifestInvalid, match=why) as caught:
        check_logical_key(key)
    assert caught.value.line == 0
    assert len(str(caught.value)) < 300
