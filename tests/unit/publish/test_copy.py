"""Objects that lie elsewhere, brought below a prefix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, Digest, compute_digest

from fusepkg.errors import DigestMismatch, FileChanged, ObjectCollision
from fusepkg.model.physical_key import PhysicalKey, parse_physical_key
from fusepkg.publish.folder import scan_file
from fusepkg.publish.hash.files import hash_bytes
from fusepkg.publish.hashes import Hashed
from fusepkg.publish.upload.blobs import LocalBlob, StoredBlob
from fusepkg.publish.upload.upload import COPIED_METADATA, DIGEST_METADATA, Uploaded, Uploader
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectStore
from fusepkg.work.threads import StopFlag


def stored(store: ObjectStore, content: bytes, *, key: str = "elsewhere/x", hashed: Hashed | None = None) -> StoredBlob:
    info = store.create(key, content)
    place = parse_physical_key(store.url(key, info.version))
    return StoredBlob("file", place, len(content), hashed or hash_bytes(content))


def key_of(uploaded: Uploaded) -> str:
    return parse_physical_key(uploaded.url).key


def upload(store: ObjectStore, blob: LocalBlob | StoredBlob, source: ObjectStore | None = None) -> Uploaded:
    def open_place(where: PhysicalKey) -> tuple[ObjectStore, str]:
        return source or store, where.key

    return Uploader(store, "p", None, StopFlag(), open_place).upload(blob)


def test_a_copy_gets_its_name_and_claims_no_more_than_is_known(store: ObjectStore) -> None:
    blob = stored(store, b"content")
    uploaded = upload(store, blob)
    assert uploaded.is_new
    assert store.get("p/file") == b"content"
    assert store.head("p/file").metadata == {COPIED_METADATA: str(blob.hashed.digest)}
    again = upload(store, blob)
    assert (again.url, again.is_new) == (uploaded.url, False)


def test_what_has_the_name_stays_and_the_copy_gets_another(store: ObjectStore) -> None:
    store.create("p/file", b"theirs!")
    blob = stored(store, b"content")
    uploaded = upload(store, blob)
    assert store.get("p/file") == b"theirs!"
    assert key_of(uploaded).endswith(f"p/file~{blob.hashed.digest.hex[:16]}")
    other = stored(store, b"CONTENT", key="elsewhere/y", hashed=blob.hashed)
    assert not upload(store, other).is_new  # found by what it claims to be


def test_an_unverified_copy_does_not_stand_for_a_file(store: ObjectStore, folder: Path) -> None:
    wrong = stored(store, b"wrong!!", hashed=hash_bytes(b"content"))
    upload(store, wrong)
    (folder / "file").write_bytes(b"content")
    uploaded = upload(store, LocalBlob(scan_file(folder / "file"), hash_bytes(b"content")))
    assert uploaded.is_new
    key = f"p/file~{hash_bytes(b'content').digest.hex[:16]}"
    assert store.get(key) == b"content"
    assert DIGEST_METADATA in store.head(key).metadata


def test_an_object_that_was_replaced_since_it_was_hashed_is_not_copied(store: ObjectStore) -> None:
    blob = stored(store, b"content")
    if blob.place.version is not None:
        return  # a version is never replaced
    blob = replace(blob, etag=store.head("elsewhere/x").etag)
    store.overwrite("elsewhere/x", b"CONTENT")
    with pytest.raises(FileChanged, match="elsewhere/x"):
        upload(store, blob)
    assert list(store.list("p/")) == []


def test_an_upload_stands_for_a_copy(store: ObjectStore, folder: Path) -> None:
    (folder / "file").write_bytes(b"content")
    uploaded = upload(store, LocalBlob(scan_file(folder / "file"), hash_bytes(b"content")))
    copied = upload(store, stored(store, b"content"))
    assert (copied.url, copied.is_new) == (uploaded.url, False)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_no_server_can_copy_passes_through_here_and_is_compared(store: ObjectStore, algorithm: Algorithm) -> None:
    source = MemoryStore("source", versioned=False)
    hashed = Hashed(compute_digest(algorithm, b"content"))
    blob = stored(source, b"content", hashed=hashed)
    if isinstance(store, MemoryStore):
        upload(store, blob, source)
        assert store.get("p/file") == b"content"
    source.overwrite("elsewhere/x", b"CONTENT")
    target = MemoryStore("empty", versioned=False)
    with pytest.raises(DigestMismatch, match="elsewhere/x"):
        upload(target, blob, source)
    assert list(target.list("")) == []


def test_a_weak_checksum_names_the_bytes_of_one_place_only() -> None:
    digest = Digest(Algorithm.CRC64NVME, b"\1" * 8 + bytes(24))
    one = StoredBlob("file", PhysicalKey("s3", "b", "one"), 1, Hashed(digest))
    other = StoredBlob("file", PhysicalKey("s3", "b", "other"), 1, Hashed(digest))
    assert one.identity != other.identity
    assert one.identity.computed == other.identity.computed
    strong = StoredBlob("file", PhysicalKey("s3", "b", "one"), 1, hash_bytes(b"x"))
    assert strong.identity == hash_bytes(b"x").digest


def test_every_name_taken_is_an_error(store: ObjectStore) -> None:
    blob = stored(store, b"content")
    digits = blob.hashed.digest.hex
    for key in ("p/file", f"p/file~{digits[:16]}", f"p/file~{digits}"):
        store.create(key, b"taken")
    with pytest.raises(ObjectCollision, match="p/file"):
        upload(store, blob)
