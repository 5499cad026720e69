"""Versions made step by step and pushed to a real S3 server: what is read, copied, refused and lost."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import quilt3

from fusepkg import Package, PackageBuilder
from fusepkg.errors import (
    AccessDenied,
    DigestMismatch,
    FolderUnfit,
    FusepkgError,
    KeyCollision,
    ObjectMissing,
    TagConflict,
    UsageError,
)
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.opened.contexts import close_contexts
from fusepkg.registry.tags import read_tag
from fusepkg.store.s3 import S3Settings, S3Store
from tests.proxy import Proxy
from tests.rgw import Gateway, aws_environment

MIB = 1 << 20

pytestmark = pytest.mark.s3


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; what packages have opened is closed at the end."""
    directory = tmp_path / "workspace"
    directory.mkdir()
    monkeypatch.chdir(directory)
    yield directory
    close_contexts()


@pytest.fixture(params=[False, True], ids=["unversioned", "versioned"])
def bucket(request: pytest.FixtureRequest, s3: Gateway) -> str:
    return s3.bucket(versioned=request.param)


def fill(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def put(gateway: Gateway, bucket: str, objects: dict[str, bytes]) -> None:
    for key, content in objects.items():
        gateway.s3.put_object(Bucket=bucket, Key=key, Body=content)


def contents(package: Package) -> dict[str, bytes]:
    return {entry.logical_key: entry.get_bytes() for entry in package}


def builder(bucket: str, name: str = "ns/data") -> PackageBuilder:
    return PackageBuilder(f"{bucket}/{name}", quiet=True)


FILES = {"a.txt": b"one", "b/c.txt": b"two", "b/é #+%.txt": b"odd", "empty": b""}


# --- objects that lie in buckets -----------------------------------------------------------------------------


def test_a_prefix_is_read_once_and_then_copied_by_the_server(s3: Gateway, proxy: Proxy, bucket: str) -> None:
    other = s3.bucket(versioned=True)
    put(s3, other, {f"in/{key}": content for key, content in FILES.items()} | {"in/": b"", "in/b/": b"", "x": b""})
    made = builder(bucket).add(f"s3://{other}/in/", "data")
    proxy.forget()
    made.build_manifest()
    counted = Counter(proxy.operations())
    assert counted == {"HeadObject": 4, "GetObject": 3}  # all of them are asked; nothing is read of an empty one
    fill({f"data/{key}": content for key, content in FILES.items()})
    local = builder(bucket).add("data")
    local.build_manifest()
    assert made.hash == local.hash
    proxy.forget()
    made.push_data("all")
    assert "GetObject" not in proxy.operations()
    assert Counter(proxy.operations())["CopyObject"] == 4
    assert all(entry.physical_key.startswith(f"s3://{bucket}/all/data/") for entry in made)
    package = made.push_manifest("v1")
    s3.s3.delete_object(Bucket=other, Key="in/a.txt")
    assert contents(package) == {f"data/{key}": content for key, content in FILES.items()}
    proxy.forget()
    made.push_data("all")
    assert not set(proxy.operations()) & {"CopyObject", "PutObject", "GetObject"}


def test_objects_stay_where_they_are_if_asked_with_their_versions(s3: Gateway, bucket: str) -> None:
    other = s3.bucket(versioned=True)
    put(s3, other, {"in/a": b"first"})
    made = builder(bucket).add(f"s3://{other}/in/a").add(f"s3://{other}/in/", "all")
    put(s3, other, {"in/a": b"other"})
    made.push_data(local_files_only=True)
    package = made.push_manifest("v1")
    assert contents(package) == {"a": b"first", "all/a": b"first"}
    key = package.get_entry("a").physical_keys[0]
    version = key.partition("?versionId=")[2]
    assert version
    again = builder(bucket).add(f"s3://{other}/in/a?versionId={version}", "old")
    again.push_data(local_files_only=True)
    assert contents(again.push_manifest()) == {"old": b"first"}


def test_without_a_prefix_objects_of_the_own_bucket_stay(
    s3: Gateway, proxy: Proxy, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = s3.bucket()
    put(s3, other, {"in/a": b"theirs"})
    put(s3, bucket, {"in/a": b"ours", "in/b": b"unread"})
    fill({"t/new": b"new"})
    made = PackageBuilder(f"{bucket}/ns/data").add(f"s3://{bucket}/in/", "ours").add(f"s3://{other}/in/", "theirs")
    made.add("t")
    proxy.forget()
    made.push_data()
    assert Counter(proxy.operations())["CopyObject"] == 1
    assert capsys.readouterr().out.splitlines() == [
        f"Copying s3://{bucket}/in/ to s3://{bucket}/in/... (data exists, skipping)",
        f"Copying s3://{other}/in/ to s3://{bucket}/ns/data/theirs/...",
        f"Pushing ./t/ to s3://{bucket}/ns/data/t/...",
    ]
    package = made.push_manifest()
    assert contents(package) == {"ours/a": b"ours", "ours/b": b"unread", "t/new": b"new", "theirs/a": b"theirs"}
    assert [entry.physical_keys[0].partition("?")[0] for entry in package] == [
        f"s3://{bucket}/in/a",
        f"s3://{bucket}/in/b",
        f"s3://{bucket}/ns/data/t/new",
        f"s3://{bucket}/ns/data/theirs/a",
    ]
    again = package.as_package_builder()
    again.push_data("moved")  # said outright: everything goes there
    assert all(entry.physical_key.startswith(f"s3://{bucket}/moved/") for entry in again)


def test_hashes_from_checksums_need_no_reading(s3_with_checksums: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3_with_checksums.bucket(versioned=False)
    fill({"d/small": b"small", "d/empty": b"", "d/large": os.urandom(MIB) * 8})
    for name in ("small", "empty", "large"):
        data = Path("d", name).read_bytes()
        s3_with_checksums.s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=data, ChecksumAlgorithm="SHA256")
    read: list[str] = []
    real = S3Store.stream
    monkeypatch.setattr(S3Store, "stream", lambda self, key, **how: read.append(key) or real(self, key, **how))
    made = builder(bucket).add(f"s3://{bucket}/in/", "d")
    made.build_manifest()
    assert read == []
    local = builder(bucket).add("d")
    local.build_manifest()
    assert made.hash == local.hash


def test_large_objects_keep_their_chunk_lists(s3: Gateway, proxy: Proxy, bucket: str) -> None:
    data = os.urandom(MIB) * 9
    put(s3, bucket, {"in/large": data})
    made = builder(bucket).add(f"s3://{bucket}/in/")
    package = made.push_manifest("v1")
    with package.open("in/large") as file:
        proxy.forget()
        file.seek(8 * MIB + 5)
        assert file.read(10) == data[8 * MIB + 5 :][:10]
    assert [request.range for request in proxy.requests if request.operation == "GetObject" and request.range] == [
        (8 * MIB, 9 * MIB - 1)
    ]


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("in/", KeyCollision, "a file and a directory"),
        ("nothing/", FolderUnfit, "No object lies below"),
        ("bad/", FolderUnfit, "cannot be part of a package"),
        ("nothing", ObjectMissing, "is not there"),
        ("in", ObjectMissing, "is not there"),
    ],
)
def test_what_cannot_be_added_from_a_bucket(s3: Gateway, source: str, error: type[FusepkgError], words: str) -> None:
    bucket = s3.bucket()
    put(s3, bucket, {"in/a": b"", "in/a/b": b"", "bad/x//y": b"", "bad/../z": b""})
    made = builder(bucket).add(f"s3://{bucket}/in/a")
    with pytest.raises(error, match=words):
        made.add(f"s3://{bucket}/{source}")
    assert made.keys() == ["a"]


# --- nothing is lost -----------------------------------------------------------------------------------------


def test_older_versions_keep_every_byte(s3: Gateway, bucket: str) -> None:
    fill({"t/1": b"1", "t/2": b"2"})
    first = builder(bucket).add("t").push_data_and_manifest("p", "v1")
    fill({"new": b"changed"})
    second = first.as_package_builder().set("t/1", "new").push_data_and_manifest("p", "v2")
    assert contents(first) == {"t/1": b"1", "t/2": b"2"}
    assert contents(second) == {"t/1": b"changed", "t/2": b"2"}
    assert s3.s3.get_object(Bucket=bucket, Key="p/t/1")["Body"].read() == b"1"
    moved = builder(bucket).add(second).move_dir_contents("t", "u").push_data_and_manifest("q")
    assert contents(moved) == {"u/1": b"changed", "u/2": b"2"}


def test_of_two_publishers_the_second_is_told_and_loses_nothing(s3: Gateway, bucket: str) -> None:
    fill({"t/1": b"1", "x": b"x", "y": b"y"})
    first = builder(bucket).add("t").push_data_and_manifest(tag="main")
    ours, theirs = first.as_package_builder(), first.as_package_builder()
    theirs.set("x", "x").push_data_and_manifest(tag="main")
    ours.set("y", "y").push_data()
    with pytest.raises(TagConflict) as conflict:
        ours.push_manifest("main")
    assert theirs.hash
    assert ours.hash
    assert theirs.hash in conflict.value.message
    assert ours.hash in conflict.value.message
    assert contents(Package(f"{bucket}/ns/data:main")) == {"t/1": b"1", "x": b"x"}
    assert contents(Package(f"{bucket}/ns/data@{ours.hash}")) == {"t/1": b"1", "y": b"y"}


def test_the_tag_in_the_name_moves_only_from_where_it_was_seen(s3: Gateway, bucket: str) -> None:
    fill({"a": b"a", "b": b"b", "c": b"c"})
    slow, fast = builder(bucket, "d:t").add("a"), builder(bucket, "d:t").add("b")
    slow.push_data()  # looks at the tag first
    fast.push_data_and_manifest()
    with pytest.raises(TagConflict):
        slow.push_manifest()
    again = builder(bucket, "d:t").add("c")
    assert contents(again.push_data_and_manifest()) == {"c": b"c"}
    again.push_manifest()
    state = read_tag(S3Store(bucket, S3Settings()), "d", "t")
    assert state is not None
    assert (state.number, state.top_hash) == (2, again.hash)


def test_a_bucket_that_may_not_be_written_has_nothing_afterwards(
    s3: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill({"t/1": b"1"})
    stranger = s3.user()
    arn = f"arn:aws:s3:::{bucket}"
    reading = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["s3:GetObject", "s3:ListBucket"],
               "Resource": [arn, f"{arn}/*"]}  # fmt: skip
    writing = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["s3:PutObject", "s3:ListBucketVersions"],
               "Resource": [arn, f"{arn}/p/*"]}  # fmt: skip
    for name, value in aws_environment(s3.endpoint, stranger).items():
        monkeypatch.setenv(name, value)
    close_contexts()
    made = builder(bucket).add("t")
    s3.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [reading]}))
    with pytest.raises(AccessDenied):
        made.push_data_and_manifest("p", "v1")
    assert made.draft.has_local_files()
    assert "Contents" not in s3.s3.list_objects_v2(Bucket=bucket)
    policy = {"Version": "2012-10-17", "Statement": [reading, writing]}
    s3.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    with pytest.raises(AccessDenied):
        made.push_data_and_manifest("p", "v1")
    assert [item["Key"] for item in s3.s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["p/t/1"]


def test_an_object_replaced_since_its_package_is_not_copied_through_here(s3: Gateway, bucket: str) -> None:
    other = s3.bucket()
    fill({"t/1": b"right"})
    package = builder(other).add("t").push_data_and_manifest("p")
    put(s3, other, {"p/t/1": b"wrong"})
    made = PackageBuilder("local/copy", quiet=True).add(package)
    with pytest.raises(DigestMismatch, match="p/t/1"):
        made.push_data()


# --- little is asked -----------------------------------------------------------------------------------------


def test_a_sample_of_a_package_reads_no_data_and_copies_none(s3: Gateway, proxy: Proxy, bucket: str) -> None:
    fill({f"t/{number:03}": b"%d" % number for number in range(150)})
    builder(bucket).add("t").push_data_and_manifest("p", "large")
    large = Package(f"{bucket}/ns/data:large")
    proxy.forget()
    small = PackageBuilder(f"{bucket}/ns/small", quiet=True).add(large).sample(10, seed=1)
    small.filter(lambda entry: entry.logical_key != "t/000")
    assert proxy.operations() == []
    package = small.push_manifest("v1")
    data = [request for request in proxy.requests if not request.key.startswith(".quilt/") and request.key]
    named = [parse_physical_key(entry.physical_keys[0]).key for entry in package]
    assert len(named) in (9, 10)
    # whether what it names is there is asked, once each, and nothing else of the data
    assert sorted((request.method, request.key) for request in data) == sorted(("HEAD", key) for key in named)
    assert not [request for request in proxy.requests if request.method == "GET" and request.key.endswith(".jsonl")]


def test_an_unchanged_folder_sends_no_data(s3: Gateway, proxy: Proxy, bucket: str) -> None:
    fill({f"t/{number:03}": b"%d" % number for number in range(150)})
    first = builder(bucket, "d:t").add("t").push_data_and_manifest()
    proxy.forget()
    again = builder(bucket, "d:t").add("t").push_data_and_manifest()
    assert again.hash == first.hash
    assert [request.key for request in proxy.requests if not request.key.startswith(".quilt/") and request.key] == []
    assert len(proxy.operations()) < 20


def test_objects_come_to_a_local_registry_once(s3: Gateway, proxy: Proxy, bucket: str) -> None:
    put(s3, bucket, {f"in/{key}": content for key, content in FILES.items()})
    made = PackageBuilder("local/copy", quiet=True).add(f"s3://{bucket}/in/")
    made.build_manifest()
    package = made.push_data_and_manifest(tag="v1")
    gets = Counter(request.key for request in proxy.requests if request.operation == "GetObject")
    assert set(gets.values()) == {1}
    assert contents(package) == {f"in/{key}": content for key, content in FILES.items()}
    assert all(entry.physical_keys[0].startswith("file://") for entry in package)


# --- quilt3 --------------------------------------------------------------------------------------------------


def test_quilt3_browses_and_verifies_what_is_pushed_in_its_format(s3: Gateway, bucket: str, tmp_path: Path) -> None:
    fill({f"t/{key}": content for key, content in FILES.items()})
    made = builder(bucket).add("t").set_meta("t/", {"kind": "folder"}).set_meta("t/a.txt", {"x": 1.0})
    made.meta = {"package": "é\U0001f600"}
    made.message = "why"
    package = made.push_data_and_manifest("p", registry_format="quilt3")
    theirs = quilt3.Package.browse("ns/data", registry=f"s3://{bucket}")
    assert theirs.top_hash == package.hash == made.hash
    assert (theirs.meta, theirs["t"].meta, theirs["t"]["a.txt"].meta) == (made.meta, {"kind": "folder"}, {"x": 1.0})
    theirs.fetch(str(tmp_path / "fetched"))
    assert theirs.verify(str(tmp_path / "fetched"))
    with pytest.raises(UsageError, match="only 'latest'"):
        made.push_manifest("v1", registry_format="quilt3")
    with pytest.raises(UsageError, match="registry format"):
        made.push_manifest(registry_format="other")
