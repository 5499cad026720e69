"""Versions made step by step whose objects or manifests are gone, or lie in another bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.errors import ObjectMissing
from fusepkg.index.build import build_index
from fusepkg.index.opening import Index, open_index
from fusepkg.model.reference import parse_reference
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.push_manifest import ManifestBuilt, ManifestPushed, TagLinked, push_manifest
from fusepkg.publish.upload.data import push_data
from fusepkg.registry.layout import manifest_key
from fusepkg.registry.manifests import ManifestPut
from fusepkg.registry.tags import read_tag
from fusepkg.store.memory import MemoryStore
from tests.unit.publish.pushes import V1, contents, fill, records
from tests.unit.publish.stores import GivenStores


@pytest.fixture(params=[False, True], ids=["unversioned", "versioned"])
def own(request: pytest.FixtureRequest) -> MemoryStore:
    return MemoryStore("bucket", versioned=request.param)


@pytest.fixture
def theirs() -> MemoryStore:
    store = MemoryStore("theirs")
    store.create("raw/1.csv", b"1")
    return store


def draft_of(own: MemoryStore, **others: MemoryStore) -> Draft:
    return Draft(parse_reference("bucket/ns/data"), GivenStores(own, **others))


def of_folder(own: MemoryStore, folder: Path) -> Draft:
    draft = draft_of(own)
    draft.add_folder(folder)
    return draft


def index_of(own: MemoryStore, top_hash: str, scratch: Path) -> Index:
    manifest = scratch / "manifest"
    manifest.write_bytes(own.get(manifest_key("ns/data", top_hash)))
    build_index(manifest, scratch / "index", expected_top_hash=top_hash, allow_file_keys=False)
    index = open_index(scratch / "index", top_hash)
    assert index is not None
    return index


def test_pushing_the_same_data_again_brings_back_what_is_gone(own: MemoryStore, folder: Path) -> None:
    fill(folder, V1)
    draft = of_folder(own, folder)
    push_data(draft)
    top_hash = push_manifest(draft, "v1")
    del own._objects["ns/data/a.txt"]
    del own._objects[manifest_key("ns/data", top_hash)]
    again = of_folder(own, folder)
    assert push_data(again).uploaded_objects == 1
    assert push_manifest(again, "v1") == top_hash
    assert contents(own, top_hash) == V1


def test_data_copied_into_the_own_bucket_are_what_the_version_names_then(own: MemoryStore, theirs: MemoryStore) -> None:
    first = draft_of(own, theirs=theirs)
    first.add("s3://theirs/raw/", "raw/")
    top_hash = push_manifest(first, "v1")
    assert [record.url for record in records(own, top_hash).values()] == [b"s3://theirs/raw/1.csv"]
    second = draft_of(own, theirs=theirs)
    second.add("s3://theirs/raw/", "raw/")
    push_data(second, "data")
    said: list[ManifestBuilt | ManifestPushed | TagLinked] = []
    assert push_manifest(second, "v1", report=said.append) == top_hash
    assert [one.put for one in said if isinstance(one, ManifestPushed)] == [ManifestPut.PLACES_REPLACED]
    del theirs._objects["raw/1.csv"]
    assert contents(own, top_hash) == {"raw/1.csv": b"1"}
    third = draft_of(own, theirs=theirs)  # over the foreign object once more: the own one stays
    theirs.create("raw/1.csv", b"1")
    third.add("s3://theirs/raw/", "raw/")
    push_manifest(third, "v1")
    assert contents(own, top_hash) == {"raw/1.csv": b"1"}
    assert all(record.url.startswith(b"s3://bucket/") for record in records(own, top_hash).values())


def test_a_version_whose_objects_are_gone_is_not_published_in_silence(
    own: MemoryStore, folder: Path, tmp_path: Path
) -> None:
    fill(folder, V1)
    draft = of_folder(own, folder)
    push_data(draft)
    top_hash = push_manifest(draft, "v1")
    del own._objects["ns/data/a.txt"]
    made = draft_of(own)
    made.add_package(index_of(own, top_hash, tmp_path))
    made.set_meta("b/c.txt", {"label": 1})
    with pytest.raises(ObjectMissing, match=r"a\.txt \(s3://bucket/ns/data/a\.txt.* is missing\)"):
        push_manifest(made, "v2")
    assert read_tag(own, "ns/data", "v2") is None
    made.delete("a.txt")
    made.delete("b/same.txt")  # the same bytes, of the same object
    push_manifest(made, "v2")
    assert read_tag(own, "ns/data", "v2") is not None
