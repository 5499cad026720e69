from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusepkg.errors import FileChanged, ObjectCollision, UsageError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.publish.folder import scan_folder
from fusepkg.publish.hash.files import hash_bytes
from fusepkg.publish.upload import upload as uploading
from fusepkg.publish.upload.blobs import LocalBlob
from fusepkg.publish.upload.keys import candidate_keys, normalise_prefix
from fusepkg.publish.upload.upload import DIGEST_METADATA, Uploaded, Uploader
from fusepkg.registry.layout import chunk_list_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.store.protocol import ObjectStore
from fusepkg.work.threads import StopFlag
from tests.unit.publish.recording import RecordingStore

MIB = 1 << 20


def blob_of(folder: Path, content: bytes, key: str = "file") -> LocalBlob:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    files = [file for file in scan_folder(folder).files if file.logical_key == key]
    return LocalBlob(files[0], hash_bytes(content))


def key_of(uploaded: Uploaded) -> str:
    return parse_physical_key(uploaded.url).key


def upload(store: ObjectStore, blob: LocalBlob, listed: dict[str, int] | None = None) -> Uploaded:
    return Uploader(store, "p", listed, StopFlag()).upload(blob)


@pytest.fixture
def small_puts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs above three bytes go in parts."""
    monkeypatch.setattr(uploading, "SINGLE_PUT_BYTES", 3)


# --- one PUT -------------------------------------------------------------------------------------------------


def test_a_blob_gets_its_own_name_and_says_what_it_is(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"content", "a b/ü#?.txt")
    uploaded = upload(store, blob)
    assert uploaded.is_new
    assert store.get("p/a b/ü#?.txt") == b"content"
    assert store.head("p/a b/ü#?.txt").metadata == {DIGEST_METADATA: str(blob.hashed.digest)}
    assert uploaded.url == store.url("p/a b/ü#?.txt", store.head("p/a b/ü#?.txt").version)


def test_the_same_blob_is_not_sent_again(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"content")
    first = upload(store, blob)
    recording = RecordingStore(store)
    again = upload(recording, blob)
    assert (again.url, again.is_new) == (first.url, False)
    assert recording.calls == [("head", "p/file")]


@pytest.mark.parametrize("there", [b"other", b"content", b""])
def test_what_others_put_under_the_name_is_left_alone(store: ObjectStore, folder: Path, there: bytes) -> None:
    store.create("p/file", there, metadata={"mine": "yes"})
    blob = blob_of(folder, b"content")
    digits = blob.hashed.digest.hex
    uploaded = upload(store, blob)
    assert store.get("p/file") == there
    assert key_of(uploaded).endswith(f"p/file~{digits[:16]}")
    assert store.get(f"p/file~{digits[:16]}") == b"content"


def test_an_object_that_lies_about_its_hash_shows_by_its_size(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"content")
    store.create("p/file", b"cut", metadata={DIGEST_METADATA: str(blob.hashed.digest)})
    assert upload(store, blob).is_new
    assert store.get("p/file") == b"cut"


def test_a_taken_short_name_leads_to_the_long_one_and_then_to_an_error(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"content")
    digits = blob.hashed.digest.hex
    for key in ("p/file", f"p/file~{digits[:16]}"):
        store.create(key, b"taken")
    assert key_of(upload(store, blob)).endswith(f"p/file~{digits}")
    blob = blob_of(folder, b"another")
    digits = blob.hashed.digest.hex
    for key in (f"p/file~{digits[:16]}", f"p/file~{digits}"):
        store.create(key, b"taken")
    with pytest.raises(ObjectCollision, match="p/file"):
        upload(store, blob)


def test_a_publisher_who_was_faster_is_noticed(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"content")

    def same_bytes_first(call: str, key: str) -> None:
        if call == "create":
            store.create(key, b"content", metadata={DIGEST_METADATA: str(blob.hashed.digest)})

    assert not upload(RecordingStore(store, same_bytes_first), blob).is_new
    other = blob_of(folder, b"other", "other")

    def other_bytes_first(call: str, key: str) -> None:
        if call == "create" and key == "p/other":
            store.create(key, b"faster", metadata={DIGEST_METADATA: str(blob.hashed.digest)})

    uploaded = upload(RecordingStore(store, other_bytes_first), other)
    assert "~" in key_of(uploaded)
    assert store.get("p/other") == b"faster"


def test_with_a_listing_only_objects_of_equal_size_are_looked_at(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"content")
    recording = RecordingStore(store)
    assert upload(recording, blob, {}).is_new
    assert recording.calls == [("create", "p/file")]
    recording = RecordingStore(store)
    assert not upload(recording, blob, {"p/file": 7}).is_new
    assert recording.calls == [("head", "p/file")]
    other = blob_of(folder, b"another size")
    recording = RecordingStore(store)
    upload(recording, other, {"p/file": 7})
    assert recording.keys("head") == []
    assert recording.written() == [f"p/file~{other.hashed.digest.hex[:16]}"]


@pytest.mark.parametrize("restore_mtime", [False, True])
def test_a_file_that_changed_since_it_was_hashed_is_not_sent(
    store: ObjectStore, folder: Path, restore_mtime: bool
) -> None:
    blob = blob_of(folder, b"before")
    (folder / "file").write_bytes(b"after!")
    if restore_mtime:
        os.utime(folder / "file", ns=(blob.file.identity.mtime_ns,) * 2)
    with pytest.raises(FileChanged, match="file changed"):
        upload(store, blob)
    assert list(store.list("")) == []


def test_the_chunks_of_a_blob_of_several_are_kept(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, bytes(9 * MIB))
    upload(store, blob)
    assert tuple(get_chunk_list(store, blob.hashed.digest)) == blob.hashed.chunks
    assert len(blob.hashed.chunks) == 2
    upload(store, blob_of(folder, b"one chunk", "small"))
    assert len(list(store.list(".quilt/chunks/"))) == 1


def test_an_interrupted_push_s_missing_chunk_list_is_made_up_for(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, bytes(9 * MIB))

    def die(call: str, key: str) -> None:
        if key == chunk_list_key(blob.hashed.digest):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(RecordingStore(store, die), blob)
    recording = RecordingStore(store)
    assert not upload(recording, blob).is_new
    assert recording.written() == [chunk_list_key(blob.hashed.digest)]


# --- in parts ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_puts")
def test_a_large_blob_has_its_hash_in_its_name(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, b"large")
    uploaded = upload(store, blob)
    key = f"p/file~{blob.hashed.digest.hex[:16]}"
    assert uploaded.is_new
    assert store.get(key) == b"large"
    assert store.head(key).metadata == {DIGEST_METADATA: str(blob.hashed.digest)}


@pytest.mark.usefixtures("small_puts")
def test_a_large_blob_is_not_sent_again(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, bytes(9 * MIB))
    upload(store, blob)
    recording = RecordingStore(store)
    assert not upload(recording, blob).is_new
    assert recording.keys("overwrite") == []
    assert recording.keys("stream") == []


@pytest.mark.usefixtures("small_puts")
@pytest.mark.parametrize("there", [b"", b"x", b"\1" * 9 * MIB])
def test_other_bytes_under_a_large_blob_s_name_are_left_alone(store: ObjectStore, folder: Path, there: bytes) -> None:
    blob = blob_of(folder, bytes(9 * MIB))
    key = f"p/file~{blob.hashed.digest.hex[:16]}"
    store.create(key, there, metadata={DIGEST_METADATA: "other"})
    uploaded = upload(store, blob)
    assert key_of(uploaded).endswith(f"p/file~{blob.hashed.digest.hex}")
    assert store.get(key) == there


@pytest.mark.usefixtures("small_puts")
def test_a_killed_push_s_wrong_bytes_are_not_taken_for_the_blob(store: ObjectStore, folder: Path) -> None:
    """The file changed during the upload, and the push was killed before it could notice."""
    blob = blob_of(folder, bytes(9 * MIB))
    key = f"p/file~{blob.hashed.digest.hex[:16]}"
    store.create(key, b"\1" * 9 * MIB, metadata={DIGEST_METADATA: str(blob.hashed.digest)})
    uploaded = upload(store, blob)
    assert uploaded.is_new
    assert key_of(uploaded).endswith(f"p/file~{blob.hashed.digest.hex}")


@pytest.mark.usefixtures("small_puts")
def test_a_killed_push_s_right_bytes_are_read_once_and_taken(store: ObjectStore, folder: Path) -> None:
    blob = blob_of(folder, bytes(9 * MIB))
    key = f"p/file~{blob.hashed.digest.hex[:16]}"
    store.create(key, bytes(9 * MIB), metadata={DIGEST_METADATA: str(blob.hashed.digest)})
    recording = RecordingStore(store)
    assert not upload(recording, blob).is_new
    assert recording.keys("stream") == [key]
    recording = RecordingStore(store)
    assert not upload(recording, blob).is_new
    assert recording.keys("stream") == []


@pytest.mark.usefixtures("small_puts")
@pytest.mark.parametrize("restore_mtime", [False, True])
def test_a_large_file_that_changes_while_it_is_sent_leaves_nothing_that_could_be_used(
    store: ObjectStore, folder: Path, restore_mtime: bool
) -> None:
    blob = blob_of(folder, b"before")
    key = f"p/file~{blob.hashed.digest.hex[:16]}"
    changed = False

    def change(call: str, _: str) -> None:
        nonlocal changed
        if call == "overwrite" and not changed:
            changed = True
            (folder / "file").write_bytes(b"after!")
            if restore_mtime:
                os.utime(folder / "file", ns=(blob.file.identity.mtime_ns,) * 2)

    with pytest.raises(FileChanged):
        upload(RecordingStore(store, change), blob)
    assert store.get(key) == b""
    assert DIGEST_METADATA not in store.head(key).metadata
    uploaded = upload(store, blob_of(folder, b"before"))  # the old content again: the name is used after all
    assert uploaded.is_new
    assert store.get(key) == b"before"


# --- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [500, 510])
def test_a_path_too_long_for_the_bucket_still_finds_a_place(store: ObjectStore, folder: Path, parts: int) -> None:
    blob = blob_of(folder, b"content", "d/" * parts + "file")
    keys = candidate_keys("p", blob, plain=True)
    assert keys[-1] == f"p/~{blob.hashed.digest.hex}"
    for candidate in keys[:-1]:
        store.create(candidate, b"taken")
    assert upload(store, blob).is_new
    assert store.get(keys[-1]) == b"content"


@pytest.mark.parametrize("key", ["a\x01b", "line\nbreak", "a\ufffe/b", "del\x7f"])
def test_a_name_that_listings_cannot_hold_is_not_used(store: ObjectStore, folder: Path, key: str) -> None:
    blob = blob_of(folder, b"content", key)
    assert candidate_keys("p", blob, plain=True) == [f"p/~{blob.hashed.digest.hex}"]
    upload(store, blob)
    assert [info.key for info in store.list("p/")] == [f"p/~{blob.hashed.digest.hex}"]


@pytest.mark.parametrize(
    ("prefix", "normal"),
    [("a", "a"), ("/data/v0/", "data/v0"), ("a//b/./c", "a/b/c"), ("é x", "é x"), ("..a/b..", "..a/b..")],
)
def test_prefixes_are_normalised(prefix: str, normal: str) -> None:
    assert normalise_prefix(prefix) == normal


@pytest.mark.parametrize(
    "prefix",
    ["", "/", ".", "..", "a/../b", ".quilt", "/.quilt/packages", "a\nb", "a\0b", "x" * 1000, "x/" * 500, "\udcff"],
)
def test_prefixes_that_name_no_good_place_are_refused(prefix: str) -> None:
    with pytest.raises(UsageError):
        normalise_prefix(prefix)
