from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg.errors import DigestMismatch, ManifestInvalid
from fusepkg.index.files import index_directory
from fusepkg.model.reference import parse_reference
from fusepkg.package.open import OpenedPackage, open_package
from fusepkg.package.source import RegistryVersions
from fusepkg.registry.layout import Layout, manifest_key, pointers_prefix
from fusepkg.registry.tags import move_tag
from fusepkg.state.hints import Hints
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.protocol import ObjectStore
from tests.manifests import file_entry, manifest_of, top_hash_of

ENTRIES = [file_entry("a/b", b"1"), file_entry("c", b"2")]
TOP_HASH = top_hash_of(ENTRIES)
THEIRS = [Layout.QUILT3, Layout.QUILT3_V2]


class Opener:
    """Opens packages of one store with one cache directory, as commands do one after another."""

    def __init__(self, store: ObjectStore, directory: Path) -> None:
        self.store = FaultyStore(store)
        self.indexes = directory / "index"
        self.remembered = Hints(directory / "remembered")

    def __call__(self, rest: str) -> OpenedPackage:
        self.store.calls.clear()
        reference = parse_reference(f"bucket/{rest}")
        resolved = RegistryVersions(self.store, self.remembered).resolve(reference)
        return open_package(self.store, resolved, self.indexes, lambda _what, _done, _total: None)


@pytest.fixture
def opener(store: ObjectStore, tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(store, tmp_path)
    yield opener
    opener.remembered.close()


def put(store: ObjectStore, where: Layout, name: str = "ns/name") -> str:
    key = manifest_key(name, TOP_HASH, where)
    store.create(key, manifest_of(ENTRIES))
    if where is not Layout.FUSEPKG:
        store.create(f"{pointers_prefix(name, where)}latest", TOP_HASH.encode())
    return key


@pytest.mark.parametrize("where", THEIRS)
def test_where_the_manifest_was_found_is_known_from_then_on(opener: Opener, store: ObjectStore, where: Layout) -> None:
    key = put(store, where)
    opened = opener("ns/name")
    assert list(opened.index.entries) == ENTRIES
    assert (opened.resolved.where, opened.manifest_key) == (where, key)
    move_tag(store, "ns/name", "v1", TOP_HASH, None)
    for rest in ("ns/name", "ns/name:v1", f"ns/name@{TOP_HASH}", f"ns/name@{TOP_HASH[:9]}"):
        again = opener(rest)
        assert again.manifest_key == key
        assert again.index_root == opened.index_root
        assert opener.store.count("stream") == 0
    (index_directory(opened.index_root, TOP_HASH) / "layout").write_text("?")
    assert opener("ns/name").manifest_key == key


@pytest.mark.parametrize("where", Layout)
def test_a_tag_of_ours_may_name_any_manifest(opener: Opener, store: ObjectStore, where: Layout) -> None:
    key = put(store, where)
    move_tag(store, "ns/name", "v1", TOP_HASH, None)
    assert opener("ns/name:v1").manifest_key == key


@pytest.mark.parametrize("where", Layout)
def test_a_manifest_under_a_false_name_is_refused(opener: Opener, store: ObjectStore, where: Layout) -> None:
    store.create(manifest_key("ns/name", "12" * 32, where), manifest_of(ENTRIES))
    with pytest.raises(DigestMismatch, match=TOP_HASH):
        opener(f"ns/name@{'12' * 32}")


def test_a_manifest_of_a_bucket_may_not_name_files_of_this_machine(opener: Opener, store: ObjectStore) -> None:
    key = manifest_key("ns/name", TOP_HASH, Layout.QUILT3)
    store.create(key, manifest_of(ENTRIES).replace(b"s3://bucket/c?versionId=v1", b"file:///etc/passwd"))
    with pytest.raises(ManifestInvalid, match="file of this machine"):
        opener(f"ns/name@{TOP_HASH}")
