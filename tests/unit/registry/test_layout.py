from __future__ import annotations

import pytest
from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.errors import InvalidReference
from fusepkg.registry import layout
from fusepkg.registry.layout import Layout

HASH = "82111d74b46893c539e816a1119891362049b7a744dd1e188b58751a8ec58b73"


def test_a_manifest_lies_where_sql_engines_look_for_partitions() -> None:
    assert layout.manifest_key("dataset", HASH) == f".quilt/PACKAGE=dataset/HASH_PREFIX=82/{HASH}.jsonl"


@pytest.mark.parametrize("name", ["dataset", "namespace/dataset", "-/-", "é/日本", "a.b_c-d/1.2"])
def test_every_name_is_read_back_from_its_keys(name: str) -> None:
    key = layout.manifest_key(name, HASH)
    assert key.count("/") == 3
    assert layout.parse_manifest_key(key) == HASH
    move = layout.tag_move_key(name, "v1", 7)
    assert layout.parse_tag_move_key(move) == (name, "v1", 7)


@pytest.mark.parametrize(
    "key",
    [
        f".quilt/PACKAGE=dataset/HASH_PREFIX=83/{HASH}.jsonl",
        f".quilt/PACKAGE=dataset/HASH_PREFIX=82/{HASH}.json",
        f".quilt/PACKAGE=a/b/HASH_PREFIX=82/{HASH}.jsonl",
        f".quilt/packages/{HASH}x",
        f".quilt/packages/{HASH[:-1]}",
        f".quilt/v2/manifests/ns@name/{HASH}",
        f".quilt/v2/manifests/ns@name/{HASH}/manifest.jsonl.gz",
        f".quilt/v2/manifests/ns/name/{HASH}/manifest.jsonl",
    ],
)
def test_other_keys_are_no_manifests(key: str) -> None:
    assert layout.parse_manifest_key(key) is None


@pytest.mark.parametrize(
    "key",
    [
        ".quilt/tags/a/latest/9999999999.json",
        ".quilt/tags/a/latest/999999999.json",
        ".quilt/tags/a/latest/readme.txt",
        ".quilt/tags/a/9999999998.json",
    ],
)
def test_other_keys_are_no_tag_moves(key: str) -> None:
    assert layout.parse_tag_move_key(key) is None


def test_the_newest_move_of_a_tag_sorts_first() -> None:
    keys = [layout.tag_move_key("a", "latest", number) for number in (1, 2, 9, 10, 99, 100, 1_000_000)]
    assert sorted(keys) == keys[::-1]
    assert keys[0] == ".quilt/tags/a/latest/9999999998.json"


def test_tags_and_names_that_start_alike_do_not_share_a_prefix() -> None:
    assert not layout.tag_move_key("a", "v10", 1).startswith(layout.tag_prefix("a", "v1"))
    assert not layout.tag_move_key("ab", "v1", 1).startswith(layout.tags_prefix("a"))
    assert not layout.manifest_key("ab", HASH).startswith(layout.package_prefix("a"))


def test_chunk_lists_are_named_by_the_hash_in_hex() -> None:
    digest = Digest(Algorithm.SHA2_256_CHUNKED, bytes.fromhex(HASH))
    assert layout.chunk_list_key(digest) == f".quilt/chunks/82/{HASH}"


def test_a_name_or_tag_too_long_for_a_key_is_refused() -> None:
    long = f"{'a' * 128}/{'日' * 128}"
    assert layout.parse_manifest_key(layout.manifest_key(long, HASH)) == HASH
    with pytest.raises(InvalidReference, match="too long"):
        layout.manifest_key("\U00020000" * 256, HASH)
    with pytest.raises(InvalidReference, match="too long"):
        layout.tag_move_key(long, "\U00020000" * 128, 1)


def test_keys_of_quilt3s_registries() -> None:
    places = {
        Layout.QUILT3: (f".quilt/packages/{HASH}", ".quilt/named_packages/é/a_b-1/"),
        Layout.QUILT3_V2: (f".quilt/v2/manifests/é@a_b-1/{HASH}/manifest.jsonl", ".quilt/v2/tags/é@a_b-1/"),
    }
    for where, (manifest, pointers) in places.items():
        assert layout.manifest_key("é/a_b-1", HASH, where) == manifest
        assert manifest.startswith(layout.manifest_prefix("é/a_b-1", HASH[:7], where))
        assert layout.parse_manifest_key(manifest) == HASH
        assert layout.pointers_prefix("é/a_b-1", where) == pointers
        assert layout.parse_pointers_prefix(pointers) == "é/a_b-1"


@pytest.mark.parametrize("name", ["name", "a.b/c", "a/b/c", "a/", "/a", "a/b\n", "a@b/c", "a/b c"])
def test_names_quilt3_does_not_have(name: str) -> None:
    assert not layout.is_quilt3_name(name)
    assert layout.layouts_of(name) == (Layout.FUSEPKG,)


def test_our_own_layout_is_asked_first() -> None:
    assert layout.layouts_of("ns/name") == (Layout.FUSEPKG, Layout.QUILT3, Layout.QUILT3_V2)
