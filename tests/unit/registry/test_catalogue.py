from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from fusepkg.errors import HashAmbiguous, HashNotFound, PackageNotFound, TagNotFound
from fusepkg.model.reference import parse_reference
from fusepkg.registry import layout
from fusepkg.registry.catalogue import (
    Named,
    find_tag,
    has_package,
    list_history,
    list_packages,
    list_tags,
    newest_version,
)
from fusepkg.registry.layout import Layout
from fusepkg.registry.resolve import Resolved, resolve
from fusepkg.registry.tags import move_tag
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.protocol import ObjectStore

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
POINTERS = ".quilt/named_packages/ns/theirs/"


def theirs(tag: str, top_hash: str, time: str | None = None, message: str | None = None) -> Named:
    return Named(tag, top_hash, time, None, message, Layout.QUILT3)


def put_manifest(store: ObjectStore, name: str, top_hash: str, where: Layout, message: object = None) -> None:
    store.overwrite(
        layout.manifest_key(name, top_hash, where), json.dumps({"version": "v0", "message": message}).encode()
    )


@pytest.fixture
def filled(store: ObjectStore) -> ObjectStore:
    """A package of ours, one that quilt3 pushed twice and tagged, one in its version 2."""
    put_manifest(store, "ns/ours", A, Layout.FUSEPKG)
    move_tag(store, "ns/ours", "latest", A, None, message="one", publisher="u@h", now=NOW)
    for pointer, top_hash in (("1700000000", A), ("1700000100", B), ("latest", B), ("mytag", A)):
        store.create(f"{POINTERS}{pointer}", top_hash.encode())
    put_manifest(store, "ns/theirs", A, Layout.QUILT3, "first")
    put_manifest(store, "ns/theirs", B, Layout.QUILT3)
    store.create(".quilt/v2/tags/ns@second/latest", C.encode())
    put_manifest(store, "ns/second", C, Layout.QUILT3_V2, "v2")
    return store


def test_every_package_is_listed_once(filled: ObjectStore) -> None:
    assert list_packages(filled) == ["ns/ours", "ns/second", "ns/theirs"]
    for name in ("ours", "plain"):
        put_manifest(filled, name, A, Layout.FUSEPKG)
    put_manifest(filled, "ns/theirs", C, Layout.FUSEPKG)
    filled.create(".quilt/named_packages/ns/second/latest", A.encode())
    assert list_packages(filled) == ["ns/ours", "ns/second", "ns/theirs", "ours", "plain"]
    assert list_packages(filled, at_most=1) == ["ns/ours", "ns/second"]


def test_versions_are_not_listed_for_names(filled: ObjectStore) -> None:
    asked = FaultyStore(filled)
    list_packages(asked)
    assert asked.count("list") == 0
    assert asked.count("list_directories") == 4  # ours, namespaces, the one namespace, version 2


def test_a_package_in_any_layout_is_there(filled: ObjectStore) -> None:
    assert [has_package(filled, f"ns/{name}") for name in ("ours", "theirs", "second", "their")] == [True] * 3 + [False]


def test_the_newest_version_of_any_tag(filled: ObjectStore) -> None:
    assert newest_version(filled, "ns/nothing") is None
    assert newest_version(filled, "ns/ours") == A
    move_tag(filled, "ns/ours", "before", B, None, now=NOW - timedelta(days=1))
    assert newest_version(filled, "ns/ours") == A
    move_tag(filled, "ns/ours", "after", C, None, now=NOW + timedelta(days=1))
    assert newest_version(filled, "ns/ours") == C
    assert newest_version(filled, "ns/theirs") == B  # of the last push
    assert newest_version(filled, "ns/second") == C  # its pointers tell no times


def test_tags_of_both_kinds(filled: ObjectStore) -> None:
    assert list_tags(filled, "ns/theirs") == [theirs("latest", B, "2023-11-14T22:15:00.000Z"), theirs("mytag", A)]
    move_tag(filled, "ns/theirs", "mytag", C, None, message="m", publisher="u@h", now=NOW)
    ours = Named("mytag", C, "2026-02-03T04:05:06.000Z", "u@h", "m", Layout.FUSEPKG)
    assert list_tags(filled, "ns/theirs") == [theirs("latest", B, "2023-11-14T22:15:00.000Z"), ours]
    assert list_tags(filled, "ns/second") == [Named("latest", C, None, None, None, Layout.QUILT3_V2)]


def test_our_own_tag_hides_that_of_quilt3(filled: ObjectStore) -> None:
    assert find_tag(filled, "ns/theirs", "latest") == (B, Layout.QUILT3)
    move_tag(filled, "ns/theirs", "latest", C, None)
    assert find_tag(filled, "ns/theirs", "latest") == (C, Layout.FUSEPKG)
    assert [named.top_hash for named in list_history(filled, "ns/theirs", "latest")] == [C]


def test_pushes_are_the_history_of_latest(filled: ObjectStore) -> None:
    second = theirs("latest", B, "2023-11-14T22:15:00.000Z")
    first = theirs("latest", A, "2023-11-14T22:13:20.000Z", "first")
    assert list_history(filled, "ns/theirs", "latest") == [second, first]
    assert list_history(filled, "ns/theirs", "latest", limit=1) == [second]
    filled.overwrite(f"{POINTERS}latest", A.encode())  # what quilt3's rollback does
    back = theirs("latest", A, None, "first")
    assert list_history(filled, "ns/theirs", "latest") == [back, second, first]
    assert list_history(filled, "ns/theirs", "latest", limit=2) == [back, second]
    assert list_tags(filled, "ns/theirs")[0] == theirs("latest", A)


def test_history_of_other_tags(filled: ObjectStore) -> None:
    assert list_history(filled, "ns/theirs", "mytag") == [theirs("mytag", A, None, "first")]
    push = theirs("1700000000", A, "2023-11-14T22:13:20.000Z", "first")
    assert list_history(filled, "ns/theirs", "1700000000") == [push]
    assert list_history(filled, "ns/second", "latest") == [Named("latest", C, None, None, "v2", Layout.QUILT3_V2)]
    assert list_history(filled, "ns/theirs", "none") == []
    assert list_history(filled, "plain", "latest") == []


@pytest.mark.parametrize(
    "manifest", [b"", b"{", b"[]", b'{"message": 1}', b"[" * 70_000, b'{"message": "' + b"x" * 70_000]
)
def test_a_message_that_cannot_be_read_is_none(filled: ObjectStore, manifest: bytes) -> None:
    filled.overwrite(layout.manifest_key("ns/theirs", A, Layout.QUILT3), manifest)
    assert list_history(filled, "ns/theirs", "mytag") == [theirs("mytag", A)]


# --- resolving -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "top_hash", "tag", "where"),
    [
        ("ns/theirs", B, "latest", Layout.QUILT3),
        ("ns/theirs:mytag", A, "mytag", Layout.QUILT3),
        ("ns/theirs:1700000000", A, "1700000000", Layout.QUILT3),
        (f"ns/theirs@{A[:6]}", A, None, Layout.QUILT3),
        (f"ns/theirs@{A}", A, None, None),
        ("ns/second", C, "latest", Layout.QUILT3_V2),
        (f"ns/second@{C[:63]}", C, None, Layout.QUILT3_V2),
        ("ns/ours", A, "latest", Layout.FUSEPKG),
    ],
)
def test_references_to_packages_of_quilt3(
    filled: ObjectStore, text: str, top_hash: str, tag: str | None, where: Layout | None
) -> None:
    reference = parse_reference(f"bucket/{text}")
    assert resolve(filled, reference) == Resolved(reference, top_hash, tag, where)


def test_a_short_hash_lists_the_manifests_that_start_so_alone(filled: ObjectStore) -> None:
    asked = FaultyStore(filled)
    resolve(asked, parse_reference(f"bucket/ns/theirs@{B[:6]}"))
    assert asked.calls == [
        ("list", ".quilt/PACKAGE=ns%2Ftheirs/HASH_PREFIX=bb/bbbbbb"),
        ("list", ".quilt/packages/bbbbbb"),
    ]


def test_names_quilt3_cannot_have_are_not_asked_of_it(filled: ObjectStore) -> None:
    asked = FaultyStore(filled)
    assert find_tag(asked, "plain", "latest") is None
    assert find_tag(asked, "ns/with.dot", "latest") is None
    assert asked.count("get") == 0


def test_an_ambiguous_hash_lists_its_candidates(filled: ObjectStore) -> None:
    other = f"{A[:60]}{'b' * 4}"
    put_manifest(filled, "ns/any", other, Layout.QUILT3)
    with pytest.raises(HashAmbiguous) as caught:
        resolve(filled, parse_reference(f"bucket/ns/theirs@{A[:6]}"))
    assert A in caught.value.message
    assert other in caught.value.message


def test_what_is_missing_is_told_with_what_there_is(filled: ObjectStore) -> None:
    with pytest.raises(TagNotFound) as no_tag:
        resolve(filled, parse_reference("bucket/ns/theirs:mytga"))
    assert no_tag.value.hint == "It has mytag, latest"
    with pytest.raises(PackageNotFound) as no_package:
        resolve(filled, parse_reference("bucket/ns/their"))
    assert "ns/theirs" in no_package.value.hint
    with pytest.raises(HashNotFound, match="ns/theirs"):
        resolve(filled, parse_reference("bucket/ns/theirs@123456"))
    filled.create(".quilt/named_packages/ns/pushed/1700000000", A.encode())
    with pytest.raises(TagNotFound, match="no tag yet"):
        resolve(filled, parse_reference("bucket/ns/pushed"))
