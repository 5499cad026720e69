from __future__ import annotations

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import quilt3

from fusepkg.errors import (
    BucketNotFound,
    FileChanged,
    FolderUnfit,
    ManifestInvalid,
    RemoteUnavailable,
    TagConflict,
    UsageError,
)
from fusepkg.model.reference import parse_reference
from fusepkg.publish.push import Pushed, folder_hash, push_folder
from fusepkg.publish.upload import many as uploading
from fusepkg.registry.layout import manifest_key
from fusepkg.registry.manifests import compute_top_hash
from fusepkg.registry.tags import TagState, move_tag, read_tag, tag_history
from fusepkg.store.directory import DirectoryStore
from fusepkg.store.faulty import Fault, FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectInfo, ObjectStore
from fusepkg.work.progress import Phase, Progress
from tests.unit.publish.pushes import V1, content, contents, fill, push, records
from tests.unit.publish.recording import RecordingStore
from tests.unit.publish.stores import GivenStores

# --- what a push makes ---------------------------------------------------------------------------------------


def test_a_push_makes_objects_a_manifest_and_a_tag(store: ObjectStore, folder: Path, tmp_path: Path) -> None:
    fill(folder, V1)
    pushed = push(store, folder, message="first", user_meta={"k": 1})
    assert contents(store, pushed.top_hash) == V1
    assert read_tag(store, "ns/data", "latest") == pushed.moved_to == TagState(1, pushed.top_hash)
    assert tag_history(store, "ns/data", "latest")[0].message == "first"
    assert (pushed.entries, pushed.total_bytes, pushed.moved_from, pushed.warnings) == (4, 9, None, ())
    assert (pushed.uploaded_objects, pushed.uploaded_bytes, pushed.reused_objects) == (3, 6, 0)
    assert pushed.tag_moved
    manifest = tmp_path / "manifest"
    manifest.write_bytes(store.get(manifest_key("ns/data", pushed.top_hash)))
    assert compute_top_hash(manifest, allow_file_keys=True) == pushed.top_hash
    assert json.loads(manifest.read_bytes().splitlines()[0]) == {
        "version": "v0",
        "user_meta": {"k": 1},
        "message": "first",
    }
    assert store.get("ns/data/a.txt") == b"one"


def test_the_folder_s_hash_is_that_of_a_push(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    assert push(store, folder).top_hash == folder_hash(folder)
    assert push(store, folder, message="m", user_meta={}).top_hash == folder_hash(folder, message="m", user_meta={})


@pytest.mark.parametrize(
    ("message", "user_meta"), [(None, None), ("", {}), ("grüße", {"z": 1.0, "a": ["é", None, True]})]
)
def test_header_top_hash_and_lines_are_quilt3_s(
    store: ObjectStore, folder: Path, tmp_path: Path, message: str | None, user_meta: dict[str, object] | None
) -> None:
    odd = {"a b": b"1", "a/b": b"2", "a!/x": b"3", "é\U0001f600\uffee": b"4", 'q"\\\n': b"5", "big": bytes(9 << 20)}
    fill(folder, V1 | odd)
    package = quilt3.Package()
    package.set_dir("/", str(folder), meta=user_meta)
    registry = tmp_path / "quilt3-registry"
    package.build("ns/data", registry=registry.as_uri(), message=message)
    pushed = push(store, folder, message=message, user_meta=user_meta)
    assert pushed.top_hash == package.top_hash
    theirs = (registry / ".quilt" / "packages" / package.top_hash).read_text().splitlines()
    ours = store.get(manifest_key("ns/data", pushed.top_hash)).decode().splitlines()
    assert ours[0] == theirs[0]
    for our_line, their_line in zip(ours[1:], theirs[1:], strict=True):
        ours_there = json.loads(our_line) | {"physical_keys": json.loads(their_line)["physical_keys"]}
        assert json.dumps(ours_there, ensure_ascii=False) == their_line


def test_executables_links_and_empty_directories_are_kept(store: ObjectStore, folder: Path) -> None:
    fill(folder, {"bin/run": b"#!", "plain": b"x"})
    (folder / "bin/run").chmod(0o755)
    (folder / "link").symlink_to("bin/run")
    (folder / "empty").mkdir()
    pushed = push(store, folder)
    found = records(store, pushed.top_hash)
    assert {key: json.loads(record.meta) for key, record in found.items()} == {
        "bin/run": {"fusepkg": {"executable": True}},
        "plain": {},
        "link": {"fusepkg": {"symlink": "bin/run"}},
        "empty/.fusepkg-empty-directory": {"fusepkg": {"empty_directory": True}},
    }
    assert content(store, found["link"]) == b"bin/run"
    assert content(store, found["empty/.fusepkg-empty-directory"]) == b""


def test_data_go_where_the_publisher_says(store: ObjectStore, folder: Path) -> None:
    fill(folder, {"a": b"1"})
    push(store, folder, prefix="/data/v0/")
    assert store.get("data/v0/a") == b"1"


def test_progress_goes_through_all_phases_to_the_end(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    seen: list[Progress] = []
    push(store, folder, progress=seen.append)
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == [Phase.SCAN, Phase.HASH, Phase.UPLOAD, Phase.MANIFEST, Phase.TAG]
    last = {progress.phase: progress for progress in seen}
    assert last[Phase.HASH] == Progress(Phase.HASH, 4, 4, 9, 9)
    assert last[Phase.UPLOAD] == Progress(Phase.UPLOAD, 3, 3, 6, 6)
    assert last[Phase.TAG] == Progress(Phase.TAG, 1, 1, 0, 0)


# --- what is reused ------------------------------------------------------------------------------------------


def test_an_unchanged_folder_is_pushed_again_without_writing_anything(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    first = push(store, folder)
    recording = RecordingStore(store)
    again = push(recording, folder)
    assert again.top_hash == first.top_hash
    assert recording.written() == []
    assert not again.tag_moved
    assert (again.uploaded_objects, again.uploaded_bytes, again.reused_objects, again.reused_bytes) == (0, 0, 3, 6)


def test_only_what_changed_is_uploaded_and_looked_at(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    push(store, folder)
    fill(folder, {"a.txt": b"ONE", "new.txt": b"two"})
    recording = RecordingStore(store)
    pushed = push(recording, folder)
    assert (pushed.uploaded_objects, pushed.reused_objects) == (1, 3)
    assert [key for key in recording.written() if not key.startswith(".quilt/")] != []
    assert all(key.startswith(("ns/data/a.txt", ".quilt/")) for key in recording.written())
    assert contents(store, pushed.top_hash) == V1 | {"a.txt": b"ONE", "new.txt": b"two"}


def test_nothing_an_older_version_names_is_touched(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    versions = [(push(store, folder).top_hash, dict(V1))]
    now = dict(V1)
    for change in ({"a.txt": b"ONE"}, {"a.txt": b"one", "b/c.txt": b""}, {"a.txt": b"ONE", "b/c.txt": b"three"}):
        now |= change
        fill(folder, change)
        versions.append((push(store, folder).top_hash, dict(now)))
    for top_hash, expected in versions:
        assert contents(store, top_hash) == expected


def test_a_file_may_become_a_directory_and_back(store: ObjectStore, folder: Path) -> None:
    fill(folder, {"a": b"file", "b/c": b"below"})
    first = push(store, folder).top_hash
    (folder / "a").unlink()
    (folder / "b/c").unlink()
    (folder / "b").rmdir()
    fill(folder, {"a/deep/x": b"below a", "b": b"file b"})
    second = push(store, folder).top_hash
    assert contents(store, first) == {"a": b"file", "b/c": b"below"}
    assert contents(store, second) == {"a/deep/x": b"below a", "b": b"file b"}


def test_a_new_tag_on_known_content_uploads_nothing(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    first = push(store, folder)
    recording = RecordingStore(store)
    tagged = push_folder(folder, parse_reference("bucket/ns/data:v1"), GivenStores(recording), message=None)
    assert tagged.top_hash == first.top_hash
    assert [key for key in recording.written() if "/tags/" not in key and "PACKAGE=" not in key] == []
    assert read_tag(store, "ns/data", "v1") == TagState(1, first.top_hash)


def test_an_old_version_pushed_again_uses_its_old_manifest(store: ObjectStore, folder: Path) -> None:
    fill(folder, {"a": b"1"})
    first = push(store, folder)
    fill(folder, {"a": b"2"})
    push(store, folder)
    fill(folder, {"a": b"1"})
    recording = RecordingStore(store)
    third = push(recording, folder)
    assert third.top_hash == first.top_hash
    assert third.uploaded_objects == 0
    assert [key for key in recording.written() if not key.startswith(".quilt/")] == []
    assert tag_history(store, "ns/data", "latest")[0].top_hash == first.top_hash


def test_a_tag_whose_manifest_is_gone_is_mended(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    move_tag(store, "ns/data", "latest", folder_hash(folder), None)
    pushed = push(store, folder)
    assert contents(store, pushed.top_hash) == V1
    assert not pushed.tag_moved
    assert "cannot be read" in pushed.warnings[0]


def test_objects_of_other_buckets_and_of_other_hashes_are_not_taken_for_ours(store: ObjectStore, folder: Path) -> None:
    fill(folder, {"a": b"1"})
    first = push(store, folder)
    manifest = store.get(manifest_key("ns/data", first.top_hash))
    here = store.url("ns/data/a").encode()
    assert here in manifest
    elsewhere = manifest.replace(here, b"s3://another-bucket/ns/data/a").replace(b'"message": null', b'"message": "x"')
    header, entry = elsewhere.splitlines(keepends=True)
    store.create(manifest_key("ns/data", "12" * 32), header + entry)
    move_tag(store, "ns/data", "latest", "12" * 32, first.moved_to)
    (record,) = records(store, push(store, folder, message="new").top_hash).values()
    assert record.url.startswith(store.url("").encode())


def test_a_plain_hash_is_not_taken_for_a_chunked_one_of_the_same_value(store: ObjectStore, folder: Path) -> None:
    """SHA-256 of a hash is the chunked hash of what was hashed: with 32 bytes each, value and size are equal."""
    data = bytes(range(32))
    other = hashlib.sha256(data).digest()
    store.create("ns/data/old", other)
    value = hashlib.sha256(other).hexdigest()
    line = {
        "logical_key": "old",
        "physical_keys": [store.url("ns/data/old", store.head("ns/data/old").version)],
        "size": 32,
        "hash": {"type": "SHA256", "value": value},
        "meta": {},
    }
    header = {"version": "v0", "message": None}
    manifest = "".join(json.dumps(record) + "\n" for record in (header, line))
    store.create(manifest_key("ns/data", "12" * 32), manifest.encode())
    move_tag(store, "ns/data", "latest", "12" * 32, None)
    fill(folder, {"new": data})
    pushed = push(store, folder)
    assert pushed.warnings == ()  # the old manifest was read
    assert contents(store, pushed.top_hash) == {"new": data}


def test_many_uploads_are_compared_with_one_listing(
    store: ObjectStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "LIST_ABOVE_UPLOADS", 3)
    fill(folder, {f"{number:02}": b"%d" % number for number in range(10)})
    recording = RecordingStore(store)
    push(recording, folder)
    assert recording.keys("head", "ns/data/") == []
    assert recording.keys("list", "ns/data/") == ["ns/data/"]


# --- interruptions and races ---------------------------------------------------------------------------------


@pytest.mark.parametrize("listing", [False, True])
@pytest.mark.parametrize("survived", [0, 1, 7, 10, 11])
def test_an_interrupted_push_changes_nothing_and_is_finished_by_repeating_it(
    store: ObjectStore, folder: Path, monkeypatch: pytest.MonkeyPatch, survived: int, listing: bool
) -> None:
    """Dies before write number ``survived``: ten objects, the manifest, the tag."""
    if listing:
        monkeypatch.setattr(uploading, "LIST_ABOVE_UPLOADS", 0)
    fill(folder, {"old": b"old"})
    first = push(store, folder)
    fill(folder, {f"{number:02}": b"%d" % number for number in range(10)})
    dying = FaultyStore(store, [Fault("create", skip=survived, times=None, error=RemoteUnavailable("gone"))])
    with pytest.raises(RemoteUnavailable):
        push(dying, folder)
    assert read_tag(store, "ns/data", "latest") == first.moved_to
    assert contents(store, first.top_hash) == {"old": b"old"}
    recording = RecordingStore(store)
    pushed = push(recording, folder)
    assert pushed.uploaded_objects == 10 - min(survived, 10)
    assert len(contents(store, pushed.top_hash)) == 11
    assert read_tag(store, "ns/data", "latest") == TagState(2, pushed.top_hash)


def test_a_keyboard_interrupt_ends_the_push(store: ObjectStore, folder: Path) -> None:
    fill(folder, {f"{number:02}": b"%d" % number for number in range(60)})

    def interrupt(progress: Progress) -> None:
        if progress.phase is Phase.UPLOAD and progress.done == 5:
            raise KeyboardInterrupt

    recording = RecordingStore(store)
    with pytest.raises(KeyboardInterrupt):
        push(recording, folder, progress=interrupt)
    assert read_tag(store, "ns/data", "latest") is None
    assert push(store, folder).entries == 60


def test_a_bucket_that_goes_away_is_reported_and_the_tag_stays(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    first = push(store, folder)
    fill(folder, {"a.txt": b"changed"})

    def gone(call: str, _: str) -> None:
        if call == "create":
            raise RemoteUnavailable("the bucket is gone")

    with pytest.raises(RemoteUnavailable):
        push(RecordingStore(store, gone), folder)
    assert read_tag(store, "ns/data", "latest") == first.moved_to


def test_a_tag_that_moved_meanwhile_is_a_conflict_and_the_data_stay(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    first = push(store, folder)
    fill(folder, {"a.txt": b"mine"})

    def other_publisher(progress: Progress) -> None:
        if progress.phase is Phase.UPLOAD and progress.done == 0:
            move_tag(store, "ns/data", "latest", "12" * 32, first.moved_to)

    with pytest.raises(TagConflict) as caught:
        push(store, folder, progress=other_publisher)
    assert "12" * 32 in caught.value.message
    assert folder_hash(folder) in caught.value.message
    assert contents(store, folder_hash(folder))["a.txt"] == b"mine"
    assert read_tag(store, "ns/data", "latest") == TagState(2, "12" * 32)


def test_of_two_racing_publishers_none_loses_data_and_none_moves_the_tag_unseen(
    store: ObjectStore, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        fill(folder, {"same": b"same", "differs": b"%d" % number, f"own-{number}": b"own"})
    barrier = threading.Barrier(2, timeout=60)

    def meet(progress: Progress) -> None:
        if progress.phase is Phase.UPLOAD and progress.done == 0:
            barrier.wait()

    def publish(folder: Path) -> Pushed | TagConflict:
        try:
            return push(store, folder, progress=meet)
        except TagConflict as conflict:
            return conflict

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(publish, folders))
    assert sorted(type(result).__name__ for result in results) == ["Pushed", "TagConflict"]
    for number, folder in enumerate(folders):
        assert contents(store, folder_hash(folder)) == {
            "same": b"same",
            "differs": b"%d" % number,
            f"own-{number}": b"own",
        }
    assert len(tag_history(store, "ns/data", "latest")) == 1


class TakingBack(MemoryStore):
    """As on servers without conditional creates in versioned buckets: the loser's version is there for a moment."""

    def stays(self, found: ObjectInfo) -> bool:
        return found.key != "ns/data/a"


def test_a_version_that_a_racing_publisher_takes_back_is_not_kept(folder: Path) -> None:
    fill(folder, {"a": b"1", "b": b"2"})
    store = TakingBack("bucket", versioned=True)
    push_folder(folder, parse_reference("bucket/other"), GivenStores(store), prefix="ns/data")
    pushed = push(store, folder)
    assert (pushed.uploaded_objects, pushed.reused_objects) == (1, 1)
    assert contents(store, pushed.top_hash) == {"a": b"1", "b": b"2"}
    assert any(info.key.startswith("ns/data/a~") for info in store.list("ns/data/"))


@pytest.mark.parametrize("phase", [Phase.HASH, Phase.UPLOAD])
def test_a_file_that_changes_during_the_push_is_named_and_the_tag_stays(
    store: ObjectStore, folder: Path, phase: Phase
) -> None:
    fill(folder, V1)

    def change(progress: Progress) -> None:
        if progress.phase is phase and progress.done == 0:
            (folder / "b/c.txt").write_bytes(b"changed")

    with pytest.raises(FileChanged, match=r"b/c\.txt"):
        push(store, folder, progress=change)
    assert read_tag(store, "ns/data", "latest") is None


# --- what is refused -----------------------------------------------------------------------------------------


def test_a_hash_cannot_be_pushed_to(store: ObjectStore, folder: Path) -> None:
    with pytest.raises(UsageError, match="hash"):
        push_folder(folder, parse_reference("bucket/data@123456"), GivenStores(store))


def test_metadata_that_json_cannot_hold_is_refused_before_any_work(store: ObjectStore, folder: Path) -> None:
    recording = RecordingStore(store)
    with pytest.raises(UsageError, match="JSON object"):
        push(recording, folder, user_meta=[1])
    with pytest.raises(ManifestInvalid, match="JSON"):
        push(recording, folder, user_meta={"nan": float("nan")})
    assert recording.calls == []


def test_an_unfit_folder_writes_nothing(store: ObjectStore, folder: Path) -> None:
    fill(folder, V1)
    os.mkfifo(folder / "fifo")
    recording = RecordingStore(store)
    with pytest.raises(FolderUnfit, match="fifo"):
        push(recording, folder)
    assert recording.written() == []


@pytest.mark.parametrize("damaged", [b"damaged", b"", b'{"version": "v0"}\n'])
def test_a_damaged_manifest_under_our_hash_is_written_again(store: ObjectStore, folder: Path, damaged: bytes) -> None:
    fill(folder, V1)
    store.create(manifest_key("ns/data", folder_hash(folder)), damaged)
    pushed = push(store, folder)
    assert contents(store, pushed.top_hash) == V1
    assert any("damaged, and was written again" in warning for warning in pushed.warnings)


@pytest.mark.parametrize("inside", ["", "deep/registry"])
def test_a_registry_inside_the_folder_is_refused(folder: Path, inside: str) -> None:
    (folder / inside).mkdir(parents=True, exist_ok=True)
    fill(folder, V1)
    with pytest.raises(FolderUnfit, match="registry"):
        push(DirectoryStore(folder / inside), folder)


@pytest.mark.parametrize("listing", [False, True])
def test_the_first_push_to_a_directory_makes_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: bool
) -> None:
    if listing:
        monkeypatch.setattr(uploading, "LIST_ABOVE_UPLOADS", 0)
    fill(folder, V1)
    store = DirectoryStore(tmp_path / "new" / "registry")
    pushed = push_folder(folder, parse_reference("local/ns/data:v1"), GivenStores(store))
    assert contents(store, pushed.top_hash) == V1


def test_a_bucket_that_is_not_there_is_not_made(folder: Path) -> None:
    def no_bucket(call: str, _: str) -> None:
        raise BucketNotFound("no such bucket")

    fill(folder, V1)
    with pytest.raises(BucketNotFound):
        push(RecordingStore(MemoryStore("bucket"), no_bucket), folder)
