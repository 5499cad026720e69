"""Block hashes of what is published: in the manifest, in the bucket, and only where they are asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, compute_digest

from fusepkg.errors import FileChanged
from fusepkg.index.build import build_index
from fusepkg.index.difference import compare_entries
from fusepkg.index.opening import open_index
from fusepkg.model.block_hashes import block_hashes, block_root, with_block_root, without_block_root, write_list
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.push import folder_hash, push_folder
from fusepkg.publish.push_manifest import push_manifest
from fusepkg.publish.upload.data import push_data
from fusepkg.registry.layout import block_list_key, manifest_key
from fusepkg.state.hints import Hints
from fusepkg.store.faulty import FaultyStore
from fusepkg.store.memory import MemoryStore
from tests.unit.publish.pushes import push, records
from tests.unit.publish.stores import GivenStores

LARGE = random.Random(27).randbytes(MIN_CHUNK_BYTES + 100_000)
DIGEST = compute_digest(Algorithm.SHA2_256_CHUNKED, LARGE)
ROOT, LIST = write_list(
    DIGEST, len(LARGE), [block_hashes(LARGE[:MIN_CHUNK_BYTES]), block_hashes(LARGE[MIN_CHUNK_BYTES:])]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "large").write_bytes(LARGE)
    (folder / "large").chmod(0o755)
    (folder / "small").write_bytes(b"small")
    return folder


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


def test_a_push_that_is_asked_to_names_the_roots_of_large_files_and_puts_their_lists(store: FaultyStore, folder: Path):
    pushed = push(store, folder, block_hashes=True)
    found = {key: record.entry().meta for key, record in records(store, pushed.top_hash).items()}
    assert found == {"large": {"fusepkg": {"executable": True, "blocks": ROOT.hex}}, "small": {}}
    assert store.get(block_list_key(ROOT)) == LIST
    assert folder_hash(folder, block_hashes=True) == pushed.top_hash
    assert folder_hash(folder) == push(store, folder).top_hash != pushed.top_hash


def test_without_being_asked_a_push_gives_the_top_hash_that_quilt3_gives(store: FaultyStore, folder: Path):
    pushed = push(store, folder)
    assert records(store, pushed.top_hash)["large"].entry().meta == {"fusepkg": {"executable": True}}
    assert not any("/blocks/" in key for _, key in store.calls)


def test_block_hashes_are_no_difference(store: FaultyStore, folder: Path):
    plain = [record.entry() for record in records(store, push(store, folder).top_hash).values()]
    hashed = [record.entry() for record in records(store, push(store, folder, block_hashes=True).top_hash).values()]
    assert list(compare_entries(plain, hashed)) == []


@pytest.mark.parametrize("meta", [{}, {"user_meta": {"a": 1}}, {"fusepkg": {"executable": True}}])
def test_a_root_is_put_into_an_entrys_metadata_and_taken_out(meta: dict[str, object]):
    assert block_root(with_block_root(meta, ROOT)) == ROOT
    assert without_block_root(with_block_root(meta, ROOT)) == without_block_root(meta) == meta


def test_a_list_that_is_lost_or_damaged_is_put_again_by_the_next_push(store: FaultyStore, folder: Path, tmp_path: Path):
    hints = Hints(tmp_path / "hints")
    pushed = push(store, folder, block_hashes=True, hints=hints)
    store.inner.overwrite(block_list_key(ROOT), b"damaged")
    assert push(store, folder, block_hashes=True, hints=hints).top_hash == pushed.top_hash
    assert store.get(block_list_key(ROOT)) == LIST


def test_a_file_whose_root_is_remembered_is_not_read_again(tmp_path: Path):
    hints = Hints(tmp_path / "hints")
    assert hints.block_root(DIGEST) is None
    hints.remember_block_root(DIGEST, ROOT)
    assert Hints(tmp_path / "hints").block_root(DIGEST) == ROOT


def test_a_file_that_changes_before_its_blocks_are_hashed_is_refused(
    store: FaultyStore, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from fusepkg.publish import block_lists

    hash_blocks = block_lists.hash_blocks

    def change_and_hash(*arguments: object, **options: object) -> None:
        with (folder / "large").open("r+b") as file:
            file.write(b"x")
        hash_blocks(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(block_lists, "hash_blocks", change_and_hash)
    with pytest.raises(FileChanged):
        push(store, folder, block_hashes=True)


def test_a_builder_names_roots_after_its_data_were_pushed(store: FaultyStore, folder: Path):
    stores = GivenStores(store)
    draft = Draft(parse_reference("bucket/ns/data"), stores, tag="v1")
    draft.add_folder(folder)
    push_data(draft)
    top_hash = push_manifest(draft, block_hashes=True)
    assert block_root(records(store, top_hash)["large"].entry().meta) == ROOT
    assert store.get(block_list_key(ROOT)) == LIST


def test_a_copy_to_another_bucket_takes_the_list_along(folder: Path, tmp_path: Path):
    ours, theirs = MemoryStore("ours"), MemoryStore("theirs")
    stores = GivenStores(ours, theirs=theirs, ours=ours)
    pushed = push_folder(folder, parse_reference("theirs/ns/data:v1"), stores, block_hashes=True)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(theirs.get(manifest_key("ns/data", pushed.top_hash)))
    build_index(manifest, tmp_path, expected_top_hash=pushed.top_hash, allow_file_keys=False)
    index = open_index(tmp_path, pushed.top_hash)
    assert index is not None
    draft = Draft(parse_reference("ours/ns/copy"), stores, tag="v1")
    draft.add_package(index)
    push_data(draft)
    assert push_manifest(draft) == pushed.top_hash
    assert ours.get(block_list_key(ROOT)) == LIST
