"""Pushes to a real S3 server, in buckets with and without versioning."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import quilt3
from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.errors import AccessDenied, BucketNotFound, TagConflict
from fusepkg.model.manifest import read_manifest
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import EntryRecord
from fusepkg.model.reference import Reference, parse_reference
from fusepkg.publish.push import Pushed, push_folder
from fusepkg.registry.layout import manifest_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.registry.tags import TagState, read_tag, tag_history
from fusepkg.state.hints import Hints
from fusepkg.store.s3 import S3Settings, S3Store
from tests.proxy import Proxy, Stall
from tests.rgw import Gateway, aws_environment
from tests.unit.publish.stores import GivenStores

MIB = 1 << 20

pytestmark = pytest.mark.s3


@pytest.fixture(params=[False, True], ids=["unversioned", "versioned"])
def versioned(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def bucket(s3: Gateway, versioned: bool) -> str:
    return s3.bucket(versioned=versioned)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for key, content in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def reference_in(bucket: str, rest: str = "ns/data") -> Reference:
    return parse_reference(f"{bucket}/{rest}")


def push(bucket: str, folder: Path, rest: str = "ns/data", **options: object) -> Pushed:
    return push_folder(folder, reference_in(bucket, rest), GivenStores(S3Store(bucket, S3Settings())), **options)


def records(s3: Gateway, bucket: str, top_hash: str) -> dict[str, EntryRecord]:
    data = s3.s3.get_object(Bucket=bucket, Key=manifest_key("ns/data", top_hash))["Body"].read()
    found = read_manifest([data], allow_file_keys=False).records
    return {record.key.decode(): record for record in found if isinstance(record, EntryRecord)}


def contents(s3: Gateway, bucket: str, top_hash: str) -> dict[str, bytes]:
    """What a manifest's physical keys lead to, read behind fusepkg's back."""
    found = {}
    for key, record in records(s3, bucket, top_hash).items():
        place = parse_physical_key(record.url.decode())
        version = {"VersionId": place.version} if place.version else {}
        found[key] = s3.s3.get_object(Bucket=place.bucket, Key=place.key, **version)["Body"].read()
    return found


V1 = {"a.txt": b"one", "b/c.txt": b"two", "b/same.txt": b"one", "empty": b""}


def test_older_versions_keep_every_byte(s3: Gateway, bucket: str, folder: Path, versioned: bool) -> None:
    now = dict(V1)
    fill(folder, now)
    versions = [(push(bucket, folder).top_hash, dict(now))]
    for change in ({"a.txt": b"ONE", "b/new": b"new"}, {"a.txt": b"three", "b/c.txt": b""}, {"a.txt": b"one"}):
        now |= change
        fill(folder, change)
        versions.append((push(bucket, folder).top_hash, dict(now)))
    for top_hash, expected in versions:
        assert contents(s3, bucket, top_hash) == expected
        for record in records(s3, bucket, top_hash).values():
            assert (parse_physical_key(record.url.decode()).version is not None) == versioned
    history = tag_history(S3Store(bucket, S3Settings()), "ns/data", "latest")
    assert [move.top_hash for move in history] == [top_hash for top_hash, _ in versions][::-1]


def test_odd_names_arrive(s3: Gateway, bucket: str, folder: Path) -> None:
    names = ["a b", "a+b", "a%20b", "#", "?x=1", "é\U0001f600", "back\\slash", "q\"'", "~", "tab\there", "line\nbreak"]
    files = {name: name.encode() for name in names} | {"&<>/a": b"xml", "\x01": b"control", "\r": b"cr"}
    fill(folder, files)
    assert contents(s3, bucket, push(bucket, folder).top_hash) == files


def test_an_unchanged_folder_is_looked_for_and_sends_no_data(
    proxy: Proxy, bucket: str, folder: Path, tmp_path: Path
) -> None:
    fill(folder, V1)
    hints = Hints(tmp_path / "hints")
    first = push(bucket, folder, hints=hints)
    proxy.forget()
    again = push(bucket, folder, hints=hints)
    asked = Counter(proxy.operations())
    looked = 2 + first.uploaded_objects  # the manifest, rules of the bucket, objects
    assert asked == {"ListObjects": 1, "GetObject": 2, "HeadObject": looked}
    assert (again.top_hash, again.uploaded_objects, again.tag_moved) == (first.top_hash, 0, False)
    hints.close()


def test_a_large_file_goes_up_in_parts_once(s3: Gateway, proxy: Proxy, bucket: str, folder: Path) -> None:
    data = os.urandom(MIB) * 70
    fill(folder, {"large.bin": data, "small": b"x"})
    pushed = push(bucket, folder)
    assert "CompleteMultipartUpload" in proxy.operations()
    (large, _) = records(s3, bucket, pushed.top_hash).values()
    assert len(get_chunk_list(S3Store(bucket, S3Settings()), Digest(Algorithm.SHA2_256_CHUNKED, large.value))) == 9
    assert contents(s3, bucket, pushed.top_hash)["large.bin"] == data
    proxy.forget()
    fill(folder, {"small": b"y"})
    again = push(bucket, folder)
    assert again.uploaded_objects == 1
    s3.s3.delete_object(Bucket=bucket, Key=manifest_key("ns/data", again.top_hash))
    s3.s3.delete_object(Bucket=bucket, Key=manifest_key("ns/data", pushed.top_hash))
    assert push(bucket, folder).uploaded_objects == 0  # found by its name alone
    assert "UploadPart" not in proxy.operations()


def test_two_racing_publishers_lose_nothing(s3: Gateway, bucket: str, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        fill(folder, {"same": b"same", "differs": b"%d" % number, f"own-{number}": b"own"})
    barrier = threading.Barrier(2, timeout=60)

    def publish(folder: Path) -> Pushed | TagConflict:
        store = S3Store(bucket, S3Settings())
        read_tag(store, "ns/data", "latest")  # connected
        barrier.wait()
        try:
            return push_folder(folder, reference_in(bucket), GivenStores(store))
        except TagConflict as conflict:
            return conflict

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(publish, folders))
    pushed = [result for result in results if isinstance(result, Pushed)]
    history = tag_history(S3Store(bucket, S3Settings()), "ns/data", "latest")
    assert [move.top_hash for move in history][::-1] == [
        result.top_hash for result in sorted(pushed, key=lambda result: result.moved_to.number)
    ]
    for number, result in enumerate(results):
        top_hash = result.top_hash if isinstance(result, Pushed) else result.message.partition("not our ")[2][:64]
        assert contents(s3, bucket, top_hash) == {
            "same": b"same",
            "differs": b"%d" % number,
            f"own-{number}": b"own",
        }


def test_many_publishers_of_one_folder_agree(s3: Gateway, bucket: str, folder: Path) -> None:
    files = {f"{number:02}": b"%d" % number for number in range(20)}
    fill(folder, files)
    barrier = threading.Barrier(6, timeout=60)

    def publish(_: int) -> Pushed:
        store = S3Store(bucket, S3Settings())
        read_tag(store, "ns/data", "latest")
        barrier.wait()
        return push_folder(folder, reference_in(bucket), GivenStores(store))

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(publish, range(6)))
    assert len({result.top_hash for result in results}) == 1
    assert contents(s3, bucket, results[0].top_hash) == files
    assert len(tag_history(S3Store(bucket, S3Settings()), "ns/data", "latest")) == 1


_PUSH = """
import sys
from pathlib import Path
from fusepkg.model.reference import parse_reference
from fusepkg.publish.push import push_folder
from fusepkg.store.opening import StoreSet
from fusepkg.store.s3 import S3Settings
bucket, folder = sys.argv[1:]
push_folder(Path(folder), parse_reference(f"{bucket}/ns/data"), StoreSet(S3Settings(), Path("data")))
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_push_leaves_the_tag_and_is_finished_by_repeating_it(
    s3: Gateway, proxy: Proxy, bucket: str, folder: Path, ending: signal.Signals
) -> None:
    fill(folder, {"old": b"old"})
    first = push(bucket, folder)
    files = {f"{number:02}": b"%d" % number for number in range(40)}
    fill(folder, files)
    stalled = proxy.fail(
        Stall(), operation="PutObject", times=None, after=25, when=lambda request: not request.key.startswith(".quilt")
    )
    process = subprocess.Popen(
        [sys.executable, "-c", _PUSH, bucket, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        proxy.wait_for(3 + 25 + 10, operation="PutObject")  # the first push's three, 25 that go on, 10 that hang
        process.send_signal(ending)
        if ending is signal.SIGINT:
            proxy.heal()  # what is on its way may end; nothing new begins
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        proxy.heal()
    assert stalled.hits
    assert process.returncode == -ending if ending is signal.SIGKILL else b"KeyboardInterrupt" in said
    store = S3Store(bucket, S3Settings())
    assert read_tag(store, "ns/data", "latest") == first.moved_to
    assert contents(s3, bucket, first.top_hash) == {"old": b"old"}
    there = {item["Key"] for item in s3.s3.list_objects_v2(Bucket=bucket, Prefix="ns/data/")["Contents"]}
    assert len(there) > 16  # of 38 requests no more than the 16 last, one per thread, can be without an answer
    pushed = push(bucket, folder)
    assert pushed.uploaded_objects <= 41 - len(there)  # less, if one that was on its way has arrived since
    assert pushed.uploaded_objects + pushed.reused_objects == 41
    assert contents(s3, bucket, pushed.top_hash) == files | {"old": b"old"}
    assert read_tag(store, "ns/data", "latest") == TagState(2, pushed.top_hash)


def test_quilt3_reads_what_was_pushed(s3: Gateway, bucket: str, folder: Path, tmp_path: Path) -> None:
    fill(folder, V1 | {"ü/ö #1.txt": b"odd"})
    pushed = push(bucket, folder, message="m", user_meta={"k": "v"})
    manifest = tmp_path / "manifest.jsonl"
    s3.s3.download_file(bucket, manifest_key("ns/data", pushed.top_hash), str(manifest))
    with manifest.open() as file:
        package = quilt3.Package.load(file)
    assert package.top_hash == pushed.top_hash
    assert package.meta == {"k": "v"}
    assert package["ü/ö #1.txt"].get_bytes() == b"odd"


def test_a_bucket_that_is_not_there_and_one_that_is_closed(
    s3: Gateway, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, V1)
    with pytest.raises(BucketNotFound):
        push("no-such-bucket-here", folder)
    bucket = s3.bucket()
    for name, value in aws_environment(s3.endpoint, s3.user()).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDenied):
        push(bucket, folder)
