"""Copies within a real S3 server behind a proxy that fails in S3's ways, and publishers who meet under one key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fusepkg.errors import FileChanged, FusepkgError, ObjectExists, RemoteUnavailable
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import parse_reference
from fusepkg.publish.push import push_folder
from fusepkg.registry.manifests import fetch_manifest
from fusepkg.store.s3 import S3Settings, S3Store, guarded
from tests.proxy import INTERNAL_ERROR, SLOW_DOWN, Answer, Reset, Stall
from tests.trees import content
from tests.unit.publish.stores import GivenStores

if TYPE_CHECKING:
    from pathlib import Path

    from fusepkg.model.physical_key import PhysicalKey
    from tests.proxy import Fault, Proxy
    from tests.rgw import Gateway

pytestmark = pytest.mark.s3

QUICK = S3Settings(connect_timeout_s=1.0, read_timeout_s=0.5)
LARGE = content("large", 9 * 1024 * 1024)
"""Of two parts."""


@pytest.fixture(params=[False, True], ids=["plain", "versioned"])
def store(s3: Gateway, proxy: Proxy, request: pytest.FixtureRequest) -> S3Store:
    return S3Store(s3.bucket(versioned=request.param), QUICK)


def made(store: S3Store, key: str, data: bytes) -> PhysicalKey:
    return parse_physical_key(store.url(key, store.create(key, data).version))


def copies(proxy: Proxy) -> list[str]:
    """The operations that may copy, in order."""
    return [name for name in proxy.operations() if name in ("CopyObject", "UploadPartCopy", "PutObject")]


# --- faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL_ERROR, Reset(), Stall()], ids=str)
def test_a_fault_that_passes_is_healed(store: S3Store, proxy: Proxy, fault: Fault) -> None:
    source = made(store, "source", b"hello")
    proxy.fail(fault, operation="CopyObject")
    info = store.copy(source, "copy", size=5, metadata={"a": "b"})
    proxy.release()
    assert store.get("copy", version=info.version) == b"hello"
    assert store.head("copy", version=info.version) == info


def test_a_copy_whose_answer_is_lost_is_ours(store: S3Store, proxy: Proxy, s3: Gateway) -> None:
    source = made(store, "source", b"hello")
    proxy.fail(Reset(reached=True), operation="CopyObject")
    info = store.copy(source, "copy", size=5)
    assert store.get("copy", version=info.version) == b"hello"
    versions = s3.s3.list_object_versions(Bucket=store.bucket, Prefix="copy")["Versions"]
    assert len({version["ETag"] for version in versions}) == 1


@pytest.mark.parametrize("fault", [SLOW_DOWN, Reset(), Answer(403, "AccessDenied")], ids=str)
def test_a_copy_that_fails_for_good_leaves_no_manifest_s_object(
    store: S3Store, proxy: Proxy, s3: Gateway, fault: Fault
) -> None:
    """What may lie there afterwards, without versions, is the claim: it says so, and is nobody's bytes."""
    source = made(store, "source", b"hello")
    rule = proxy.fail(fault, operation="CopyObject", times=None)
    with pytest.raises(FusepkgError):
        store.copy(source, "copy", size=5, metadata={"a": "b"})
    assert rule.hits
    proxy.heal()
    left = [item["Key"] for item in s3.s3.list_objects_v2(Bucket=store.bucket, Prefix="copy").get("Contents", ())]
    if isinstance(fault, Answer) and fault.status == 403:
        assert left == []
    for key in left:
        assert store.get(key).startswith(b"fusepkg copies s3://")
        assert store.head(key).metadata == {}
        with pytest.raises(ObjectExists):
            store.copy(source, key, size=5)


def test_a_source_that_changes_in_between_is_not_copied(store: S3Store, proxy: Proxy, s3: Gateway) -> None:
    store.create("source", b"hello")
    rule = proxy.fail(Stall(), operation="CopyObject")
    unpinned = parse_physical_key(store.url("source"))
    patient = S3Store(store.bucket, S3Settings())
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(patient.copy, unpinned, "copy", size=5)
        proxy.wait_for(1, operation="CopyObject")
        s3.s3.put_object(Bucket=store.bucket, Key="source", Body=b"other")
        proxy.heal()
        with pytest.raises(FileChanged, match="changed while it was copied"):
            copying.result()
    assert rule.hits == 1
    assert "Contents" not in s3.s3.list_objects_v2(Bucket=store.bucket, Prefix="copy")


# --- large ones ----------------------------------------------------------------------------------------------


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "COPY_PARTS_FROM_BYTES", len(LARGE) - 1)


@pytest.mark.usefixtures("in_parts")
def test_a_large_object_is_copied_in_parts(store: S3Store, proxy: Proxy) -> None:
    source = made(store, "source", LARGE)
    proxy.forget()
    proxy.fail(SLOW_DOWN, operation="UploadPartCopy")
    info = store.copy(source, "copy", size=len(LARGE), metadata={"a": "b"})
    assert copies(proxy).count("UploadPartCopy") == 3
    assert store.get("copy", version=info.version) == LARGE
    assert store.head("copy") == info
    with pytest.raises(ObjectExists):
        store.copy(source, "copy", size=len(LARGE))


@pytest.mark.usefixtures("in_parts")
def test_a_large_copy_that_fails_leaves_no_parts(store: S3Store, proxy: Proxy, s3: Gateway) -> None:
    source = made(store, "source", LARGE)
    proxy.fail(INTERNAL_ERROR, operation="UploadPartCopy", times=None)
    with pytest.raises(RemoteUnavailable):
        store.copy(source, "copy", size=len(LARGE))
    assert "Uploads" not in s3.s3.list_multipart_uploads(Bucket=store.bucket)


# --- who meets whom ------------------------------------------------------------------------------------------


def test_an_object_about_to_be_taken_back_is_nobody_s(s3: Gateway, tmp_path: Path) -> None:
    """A loser's version lies on top of the winner's when a third publisher, with the loser's bytes, comes along."""
    store = S3Store(s3.bucket(versioned=True), S3Settings())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"mine")
    reference = parse_reference(f"{store.bucket}/data")
    push_folder(folder, parse_reference(f"{store.bucket}/elsewhere"), GivenStores(store))
    metadata = store.head("elsewhere/a").metadata
    s3.s3.put_object(Bucket=store.bucket, Key="data/a", Body=b"theirs")
    loser = s3.s3.put_object(Bucket=store.bucket, Key="data/a", Body=b"mine", Metadata=dict(metadata))["VersionId"]
    pushed = push_folder(folder, reference, GivenStores(store))
    assert pushed.uploaded_objects == 1
    s3.s3.delete_object(Bucket=store.bucket, Key="data/a", VersionId=loser)
    fetch_manifest(store, "data", pushed.top_hash, tmp_path / "manifest")
    assert "data/a~" in (tmp_path / "manifest").read_text()


def test_an_object_with_the_first_one_s_bytes_is_everybody_s(s3: Gateway, proxy: Proxy, tmp_path: Path) -> None:
    store = S3Store(s3.bucket(versioned=True), S3Settings())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"mine")
    push_folder(folder, parse_reference(f"{store.bucket}/other"), GivenStores(store), prefix="data")
    metadata = dict(store.head("data/a").metadata)
    second = s3.s3.put_object(Bucket=store.bucket, Key="data/a", Body=b"mine", Metadata=metadata)["VersionId"]
    assert store.stays(store.head("data/a"))
    proxy.forget()
    pushed = push_folder(folder, parse_reference(f"{store.bucket}/data"), GivenStores(store))
    assert (pushed.uploaded_objects, pushed.reused_objects) == (0, 1)
    fetch_manifest(store, "data", pushed.top_hash, tmp_path / "manifest")
    assert second in (tmp_path / "manifest").read_text()
