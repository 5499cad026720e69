from __future__ import annotations

import pytest

from fusepkg.errors import HashAmbiguous, HashNotFound, PackageNotFound, TagNotFound
from fusepkg.model.reference import Reference, parse_reference
from fusepkg.registry import layout
from fusepkg.registry.layout import Layout
from fusepkg.registry.resolve import Resolved, resolve
from fusepkg.registry.tags import move_tag
from fusepkg.store.protocol import ObjectStore

A1, A2, B = "aa" * 32, "aa" * 31 + "ab", "bb" * 32


def ref(text: str) -> Reference:
    return parse_reference(f"bucket/{text}")


@pytest.fixture
def filled(store: ObjectStore) -> ObjectStore:
    for top_hash in (A1, A2, B):
        store.create(layout.manifest_key("ns/data", top_hash), b"{}")
    store.create(layout.manifest_key("untagged", B), b"{}")
    move_tag(store, "ns/data", "latest", A1, None)
    move_tag(store, "ns/data", "v1", B, None)
    return store


def test_a_tag_is_followed(filled: ObjectStore) -> None:
    assert resolve(filled, ref("ns/data")) == Resolved(ref("ns/data"), A1, "latest", Layout.FUSEPKG)
    assert resolve(filled, ref("ns/data:v1")) == Resolved(ref("ns/data:v1"), B, "v1", Layout.FUSEPKG)


def test_a_hash_wins_over_a_tag(filled: ObjectStore) -> None:
    reference = ref(f"ns/data:latest@{B[:6]}")
    assert resolve(filled, reference) == Resolved(reference, B, None, Layout.FUSEPKG)


def test_a_whole_hash_needs_no_bucket() -> None:
    class NoStore:
        def __getattr__(self, name: str):
            raise AssertionError(f"{name} was asked")

    reference = ref(f"ns/data@{'12' * 32}")
    assert resolve(NoStore(), reference) == Resolved(reference, "12" * 32, None)


@pytest.mark.parametrize("digits", [6, 7, 63])
def test_a_short_hash_is_completed(filled: ObjectStore, digits: int) -> None:
    assert resolve(filled, ref(f"ns/data@{B[:digits]}")).top_hash == B


@pytest.mark.parametrize("digits", [6, 62])
def test_an_ambiguous_hash_lists_its_candidates(filled: ObjectStore, digits: int) -> None:
    with pytest.raises(HashAmbiguous) as caught:
        resolve(filled, ref(f"ns/data@{A1[:digits]}"))
    assert A1 in caught.value.message
    assert A2 in caught.value.message
    assert B not in caught.value.message


def test_more_candidates_than_a_message_holds_are_cut(store: ObjectStore) -> None:
    for number in range(20):
        store.create(layout.manifest_key("data", f"{'a' * 62}{number:02}"), b"{}")
    with pytest.raises(HashAmbiguous, match="and 1 more"):
        resolve(store, ref("data@aaaaaa"))


def test_an_unknown_hash_is_told_from_an_unknown_package(filled: ObjectStore) -> None:
    with pytest.raises(HashNotFound, match="ns/data"):
        resolve(filled, ref("ns/data@123456"))
    with pytest.raises(PackageNotFound) as caught:
        resolve(filled, ref("ns/daat@bbbbbb"))
    assert "ns/data" in caught.value.hint


def test_an_unknown_tag_lists_the_tags_there_are_nearest_first(filled: ObjectStore) -> None:
    with pytest.raises(TagNotFound) as caught:
        resolve(filled, ref("ns/data:v2"))
    assert caught.value.hint == "It has v1, latest"


def test_a_package_without_tags_and_one_that_is_not_there(filled: ObjectStore, store: ObjectStore) -> None:
    with pytest.raises(TagNotFound, match="no tag yet"):
        resolve(filled, ref("untagged"))
    with pytest.raises(PackageNotFound) as caught:
        resolve(filled, ref("completely-different"))
    assert "fusepkg list bucket" in caught.value.hint


def test_an_empty_bucket_says_so(store: ObjectStore) -> None:
    with pytest.raises(PackageNotFound) as caught:
        resolve(store, ref("data"))
    assert "no package at all" in caught.value.hint
