from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fusepkg_cache.digest import DIGEST_BYTES, MAX_CHUNKS, Algorithm, Digest, combine_chunks

from fusepkg.errors import AccessDenied, DigestMismatch, HashNotFound, ObjectCollision, ObjectExists, ObjectMissing
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import write_directory, write_entry, write_header
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.model.tophash import TopHash
from fusepkg.registry import layout
from fusepkg.registry.layout import Layout
from fusepkg.registry.manifests import (
    ManifestPut,
    compute_top_hash,
    fetch_manifest,
    find_manifest,
    get_chunk_list,
    has_manifest,
    put_chunk_list,
    put_manifest,
)
from fusepkg.store.faulty import Fault, FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectInfo, ObjectStore

HEADER = {"version": "v0", "user_meta": None, "message": None}
DIGEST = Digest(Algorithm.SHA2_256_CHUNKED, bytes(32))


def entries(bucket: str = "bucket", keys: tuple[str, ...] = ("a/b", "a b")) -> list[Entry]:
    return [Entry(key, PhysicalKey("s3", bucket, key), 5, DIGEST) for key in keys]


def top_hash_of(some: list[Entry]) -> str:
    top_hash = TopHash(HEADER)
    for entry in some:
        top_hash.update(entry)
    return top_hash.hexdigest()


def written(path: Path, some: list[Entry]) -> Path:
    path.write_bytes(write_header(HEADER) + b"".join(write_entry(entry) for entry in some))
    return path


TOP_HASH = top_hash_of(entries())


def test_a_manifest_is_put_once_and_fetched_as_it_is(store: ObjectStore, tmp_path: Path) -> None:
    source = written(tmp_path / "source", entries())
    assert not has_manifest(store, "ns/n", TOP_HASH)
    assert put_manifest(store, "ns/n", TOP_HASH, source) is ManifestPut.CREATED
    assert has_manifest(store, "ns/n", TOP_HASH)
    assert put_manifest(store, "ns/n", TOP_HASH, source) is ManifestPut.KEPT
    fetch_manifest(store, "ns/n", TOP_HASH, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == source.read_bytes()


def test_the_places_of_an_older_manifest_of_the_same_hash_are_replaced(store: ObjectStore, tmp_path: Path) -> None:
    put_manifest(store, "n", TOP_HASH, written(tmp_path / "old", entries("elsewhere")))
    new = written(tmp_path / "new", entries())
    assert put_manifest(store, "n", TOP_HASH, new) is ManifestPut.PLACES_REPLACED
    assert store.get(layout.manifest_key("n", TOP_HASH)) == new.read_bytes()


def test_an_object_in_the_bucket_is_not_given_up_for_one_elsewhere_unless_it_is_gone(
    store: ObjectStore, tmp_path: Path
) -> None:
    here = [replace(entry, physical_key=parse_physical_key(store.url(entry.logical_key))) for entry in entries()]
    old = written(tmp_path / "old", here)
    put_manifest(store, "n", TOP_HASH, old)
    new = written(tmp_path / "new", entries("elsewhere"))
    assert put_manifest(store, "n", TOP_HASH, new) is ManifestPut.KEPT
    assert store.get(layout.manifest_key("n", TOP_HASH)) == old.read_bytes()
    gone = {str(here[0].physical_key): "is missing"}
    assert put_manifest(store, "n", TOP_HASH, new, broken=gone) is ManifestPut.PLACES_REPLACED
    mixed = written(tmp_path / "mixed", entries("elsewhere")[:1] + here[1:])
    assert store.get(layout.manifest_key("n", TOP_HASH)) == mixed.read_bytes()


@pytest.mark.parametrize("theirs", [{}, {"old": 1}])
def test_metadata_of_directories_are_not_dropped_in_silence(
    store: ObjectStore, tmp_path: Path, theirs: dict[str, int]
) -> None:
    """The top hash does not cover them."""

    def with_meta(name: str, meta: dict[str, int]) -> Path:
        lines = b"".join(write_entry(entry) for entry in entries())
        (tmp_path / name).write_bytes(write_header(HEADER) + write_directory("d/", meta) + lines)
        return tmp_path / name

    old = with_meta("old", theirs) if theirs else written(tmp_path / "old", entries())
    put_manifest(store, "n", TOP_HASH, old)
    with pytest.raises(ObjectCollision, match="other metadata of d/"):
        put_manifest(store, "n", TOP_HASH, with_meta("new", {"new": 1}))
    assert store.get(layout.manifest_key("n", TOP_HASH)) == old.read_bytes()
    assert put_manifest(store, "n", TOP_HASH, written(tmp_path / "none", entries())) is ManifestPut.KEPT


def test_a_manifest_that_others_can_read_is_not_dropped_for_one_they_cannot(tmp_path: Path) -> None:
    store = MemoryStore("bucket")
    local = [replace(entry, physical_key=PhysicalKey("file", "", "/home/ada/x")) for entry in entries()]
    put_manifest(store, "n", TOP_HASH, written(tmp_path / "old", local))
    assert put_manifest(store, "n", TOP_HASH, written(tmp_path / "new", entries())) is ManifestPut.PLACES_REPLACED
    again = written(tmp_path / "again", local[:1] + entries()[1:])
    assert put_manifest(store, "n", TOP_HASH, again) is ManifestPut.KEPT
    assert store.get(layout.manifest_key("n", TOP_HASH)) == (tmp_path / "new").read_bytes()


def test_the_order_of_lines_does_not_matter(store: ObjectStore, tmp_path: Path) -> None:
    old = written(tmp_path / "old", entries()[::-1])
    assert compute_top_hash(old, allow_file_keys=False) == TOP_HASH
    put_manifest(store, "n", TOP_HASH, old)
    assert put_manifest(store, "n", TOP_HASH, written(tmp_path / "new", entries())) is ManifestPut.KEPT


@pytest.mark.parametrize("content", [b"", b"not a manifest\n", write_header(HEADER)])
def test_something_else_under_the_key_is_mended(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    store.create(layout.manifest_key("n", TOP_HASH), content)
    new = written(tmp_path / "new", entries())
    assert put_manifest(store, "n", TOP_HASH, new) is ManifestPut.MENDED
    assert store.get(layout.manifest_key("n", TOP_HASH)) == new.read_bytes()


def test_a_manifest_of_a_newer_fusepkg_is_left_alone(store: ObjectStore, tmp_path: Path) -> None:
    line = write_entry(entries()[0]).replace(b"sha2-256-chunked", b"sha9")
    store.create(layout.manifest_key("n", TOP_HASH), write_header(HEADER) + line)
    with pytest.raises(ObjectCollision, match="sha9"):
        put_manifest(store, "n", TOP_HASH, written(tmp_path / "new", entries()))


def test_a_missing_manifest_is_a_missing_version_and_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(HashNotFound, match="12" * 32):
        fetch_manifest(store, "n", "12" * 32, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("where", Layout)
def test_a_manifest_is_found_in_any_layout(store: ObjectStore, tmp_path: Path, where: Layout) -> None:
    source = written(tmp_path / "source", entries())
    store.create(layout.manifest_key("ns/n", TOP_HASH, where), source)
    assert has_manifest(store, "ns/n", TOP_HASH)
    assert find_manifest(store, "ns/n", TOP_HASH) == layout.manifest_key("ns/n", TOP_HASH, where)
    for first in Layout:
        assert fetch_manifest(store, "ns/n", TOP_HASH, tmp_path / "fetched", first=first) is where
        assert (tmp_path / "fetched").read_bytes() == source.read_bytes()
    asked = FaultyStore(store)
    fetch_manifest(asked, "ns/n", TOP_HASH, tmp_path / "fetched", first=where)
    assert len(asked.calls) == 1


def test_who_may_not_list_is_told_of_missing_objects_that_they_are_forbidden(
    store: ObjectStore, tmp_path: Path
) -> None:
    source = written(tmp_path / "source", entries())
    store.create(layout.manifest_key("ns/n", TOP_HASH, Layout.QUILT3), source)
    denied = Fault("stream", key=layout.manifest_key("ns/n", TOP_HASH), times=None, error=AccessDenied("no"))
    barred = FaultyStore(store, [denied])
    assert fetch_manifest(barred, "ns/n", TOP_HASH, tmp_path / "fetched") is Layout.QUILT3
    with pytest.raises(HashNotFound):
        fetch_manifest(barred, "ns/n", "12" * 32, tmp_path / "fetched")
    barred.add(Fault("stream", times=None, error=AccessDenied("no")))
    with pytest.raises(AccessDenied):
        fetch_manifest(barred, "ns/n", TOP_HASH, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


CHUNKS = [hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest()]


def test_a_chunk_list_is_kept_as_raw_hashes(store: ObjectStore) -> None:
    digest = combine_chunks(CHUNKS)
    put_chunk_list(store, digest, CHUNKS)
    put_chunk_list(store, digest, CHUNKS)
    assert store.get(f".quilt/chunks/{digest.hex[:2]}/{digest.hex}") == b"".join(CHUNKS)
    assert get_chunk_list(store, digest) == CHUNKS


def test_a_chunk_list_that_no_blob_can_have_is_damage_and_is_mended(store: ObjectStore) -> None:
    digest = combine_chunks(CHUNKS)
    store.create(layout.chunk_list_key(digest), bytes(DIGEST_BYTES * MAX_CHUNKS + 1))
    with pytest.raises(DigestMismatch, match="larger"):
        get_chunk_list(store, digest)
    put_chunk_list(store, digest, CHUNKS)
    assert get_chunk_list(store, digest) == CHUNKS


def test_a_missing_chunk_list_is_a_missing_object(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        get_chunk_list(store, combine_chunks(CHUNKS))


@pytest.mark.parametrize("damage", [b"", b"x", CHUNKS[0], CHUNKS[1] + CHUNKS[0], b"".join(CHUNKS)[:-1]])
def test_a_damaged_chunk_list_is_noticed_and_mended_by_the_next_push(store: ObjectStore, damage: bytes) -> None:
    digest = combine_chunks(CHUNKS)
    store.create(layout.chunk_list_key(digest), damage)
    with pytest.raises(DigestMismatch):
        get_chunk_list(store, digest)
    put_chunk_list(store, digest, CHUNKS)
    assert get_chunk_list(store, digest) == CHUNKS


def test_wrong_chunks_are_never_written(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="not the chunks"):
        put_chunk_list(store, combine_chunks(CHUNKS), CHUNKS[:1])


def test_a_manifest_that_its_publisher_takes_back_is_put(tmp_path: Path) -> None:
    """Where several creators succeed, the key seems taken, then free; whoever was second begins again."""

    class Fleeting(MemoryStore):
        creates = 0

        def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
            self.creates += 1
            if self.creates == 1:
                raise ObjectExists(f"{key} exists already")
            return super().create(key, source, metadata=metadata)

    manifest = tmp_path / "manifest"
    manifest.write_bytes(b"{}\n")
    store = Fleeting("bucket")
    assert put_manifest(store, "n", "ab" * 32, manifest) is ManifestPut.CREATED
    assert store.creates == 2
