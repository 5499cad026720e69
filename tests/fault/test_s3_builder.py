"""A version made step by step while the bucket fails: the outcome is whole, or the tag stands where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.errors import RemoteUnavailable
from fusepkg.opened.contexts import close_contexts
from fusepkg.registry.tags import tag_history
from fusepkg.store.s3 import S3Settings, S3Store
from tests.proxy import INTERNAL_ERROR, Reset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.proxy import Proxy
    from tests.rgw import Gateway

pytestmark = pytest.mark.s3

WANTED = {"files/a": b"one", "files/b": b"two" * 1000, "objects/x": b"object", "objects/y": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(WANTED["files/a"])
    (folder / "b").write_bytes(WANTED["files/b"])
    return folder


@pytest.fixture
def elsewhere(s3: Gateway) -> str:
    bucket = s3.bucket()
    for name in ("x", "y"):
        s3.s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=WANTED[f"objects/{name}"])
    return f"s3://{bucket}/in/"


@pytest.fixture(autouse=True)
def sessions() -> Iterator[None]:
    yield
    close_contexts()


def publish(bucket: str, folder: Path, elsewhere: str) -> None:
    builder = PackageBuilder(f"{bucket}/ns/data", quiet=True)
    builder.add(str(folder), "files/")
    builder.add(elsewhere, "objects/")
    builder.push_data_and_manifest(tag="v1")
    close_contexts()


def contents(bucket: str) -> dict[str, bytes]:
    found = {entry.logical_key: entry.get_bytes() for entry in Package(f"{bucket}/ns/data:v1")}
    close_contexts()
    return found


@pytest.mark.parametrize("versioned", [False, True], ids=["plain", "versioned"])
@pytest.mark.parametrize("operation", ["PutObject", "CopyObject"])
def test_any_lost_answer_to_a_write_is_survived(
    proxy: Proxy, s3: Gateway, folder: Path, elsewhere: str, operation: str, versioned: bool
) -> None:
    publish(s3.bucket(versioned=versioned), folder, elsewhere)
    for number in range(proxy.operations().count(operation)):
        bucket = s3.bucket(versioned=versioned)
        rule = proxy.fail(Reset(reached=True), operation=operation, after=number)
        publish(bucket, folder, elsewhere)
        at = f"{operation} {number}"
        assert rule.hits == 1, at
        assert contents(bucket) == WANTED, at
        assert len(tag_history(S3Store(bucket, S3Settings()), "ns/data", "v1")) == 1, at
        proxy.heal()


@pytest.mark.parametrize("part", [".quilt/tags/", ".quilt/PACKAGE", "ns/data/objects/"])
def test_a_fault_that_lasts_publishes_nothing_and_is_made_up_for(
    proxy: Proxy, s3: Gateway, folder: Path, elsewhere: str, part: str
) -> None:
    bucket = s3.bucket(versioned=True)
    proxy.fail(
        INTERNAL_ERROR,
        times=None,
        when=lambda request: request.operation in ("PutObject", "CopyObject") and request.key.startswith(part),
    )
    with pytest.raises(RemoteUnavailable):
        publish(bucket, folder, elsewhere)
    assert tag_history(S3Store(bucket, S3Settings()), "ns/data", "v1") == []
    proxy.heal()
    there = {item["Key"] for item in s3.s3.list_objects_v2(Bucket=bucket, Prefix="ns/")["Contents"]}
    proxy.forget()
    publish(bucket, folder, elsewhere)
    sent = {request.key for request in proxy.requests if request.operation in ("PutObject", "CopyObject")}
    assert not sent & there
    assert contents(bucket) == WANTED
