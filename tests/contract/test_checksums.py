"""Checksums S3 tells, and what follows from them: digests without reading, copies proven, packages verified."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest, compute_digest

from fusepkg.errors import FileChanged
from fusepkg.model.checksums import digest_from_checksums, matches_checksums
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.store.s3 import S3Settings, S3Store, botocore
from tests.proxy import Proxy
from tests.trees import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.rgw import Gateway

SMALL = b"123456789"
LARGE = content("large", MIN_CHUNK_BYTES + 5)
"""Of two chunks."""


@pytest.fixture
def watched(s3_with_checksums: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(s3_with_checksums.endpoint, s3_with_checksums.s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def aws_bucket(s3_with_checksums: Gateway, monkeypatch: pytest.MonkeyPatch) -> str:
    """A versioned bucket that is sent the requests that AWS alone gets; the dot keeps its name out of the host's."""
    monkeypatch.setattr(botocore, "is_aws_endpoint", lambda endpoint: True)
    bucket = f"{s3_with_checksums.bucket()}.aws"
    s3_with_checksums.s3.create_bucket(Bucket=bucket)
    s3_with_checksums.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def chunked(data: bytes) -> Digest:
    return compute_digest(Algorithm.SHA2_256_CHUNKED, data)


# --- what a HEAD tells ---------------------------------------------------------------------------------------


def test_a_head_tells_what_the_server_keeps(s3_with_checksums: Gateway, watched: Proxy) -> None:
    bucket, s3 = s3_with_checksums.bucket(), s3_with_checksums.s3
    s3.put_object(Bucket=bucket, Key="sha", Body=SMALL, ChecksumAlgorithm="SHA256")
    s3.put_object(Bucket=bucket, Key="crc", Body=SMALL, ChecksumAlgorithm="CRC64NVME")
    s3.put_object(Bucket=bucket, Key="other", Body=SMALL, ChecksumAlgorithm="CRC32")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", ChecksumAlgorithm="SHA256")["UploadId"]
    names = {"Bucket": bucket, "Key": "parts", "UploadId": upload}
    parts = []
    for number, body in enumerate((LARGE[:MIN_CHUNK_BYTES], LARGE[MIN_CHUNK_BYTES:]), start=1):
        answer = s3.upload_part(**names, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256")
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": answer["ChecksumSHA256"]})
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})

    store = S3Store(bucket, S3Settings())
    sha, crc, other, in_parts = (store.head(key).checksums for key in ("sha", "crc", "other", "parts"))
    assert sha is not None
    assert (sha.sha256, sha.parts, sha.crc64nvme) == (hashlib.sha256(SMALL).digest(), 0, None)
    assert digest_from_checksums(len(SMALL), sha) == chunked(SMALL)
    assert crc is not None
    assert matches_checksums(len(SMALL), crc, compute_digest(Algorithm.CRC64NVME, SMALL)) is True
    assert other is None
    assert in_parts is not None
    assert in_parts.parts == 2
    assert matches_checksums(len(LARGE), in_parts, chunked(LARGE)) is True
    assert digest_from_checksums(len(LARGE), in_parts) is None  # nobody said where it was cut
    assert watched.operations() == ["HeadObject"] * 4


@pytest.mark.s3
def test_a_server_that_tells_none(s3: Gateway) -> None:
    bucket = s3.bucket()
    store = S3Store(bucket, S3Settings())
    store.create("a", SMALL)
    assert store.head("a").checksums is None
    assert store.part_bytes("a") is None


# --- what we write -------------------------------------------------------------------------------------------


def test_what_we_write_to_aws_has_checksums(aws_bucket: str, watched: Proxy, tmp_path: Path) -> None:
    store = S3Store(aws_bucket, S3Settings())
    (tmp_path / "large").write_bytes(LARGE)
    store.create("small", SMALL)
    store.create("control\x01", SMALL)
    store.create("large", LARGE)
    store.overwrite("large-file", tmp_path / "large")
    store.overwrite("small-file", SMALL)
    assert "HeadObject" not in watched.operations()  # the condition is all AWS needs
    puts = {request.key: request.headers for request in watched.requests if request.operation == "PutObject"}
    assert set(puts) == {"small", "control\x01", "small-file"}
    assert [puts[key].get("if-none-match") for key in ("small", "control\x01", "small-file")] == ["*", "*", None]
    digest = base64.b64encode(hashlib.sha256(SMALL).digest()).decode()
    # moto keeps those of boto3's requests only
    assert [puts[key]["x-amz-checksum-sha256"] for key in ("small", "control\x01")] == [digest, digest]
    for key, data in (("large", LARGE), ("large-file", LARGE), ("small-file", SMALL)):
        assert matches_checksums(len(data), store.head(key).checksums, chunked(data)) is True, key


def test_a_copy_on_aws_is_conditional_and_proven(aws_bucket: str, watched: Proxy) -> None:
    store = S3Store(aws_bucket, S3Settings())
    source = store.overwrite("source", SMALL)
    watched.forget()
    copied = store.copy(parse_physical_key(store.url("source", source.version)), "copy", size=len(SMALL))
    assert matches_checksums(copied.size, copied.checksums, chunked(SMALL)) is True
    (request,) = watched.requests
    assert request.headers["if-none-match"] == "*"
    assert request.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert copied.version == store.head("copy").version


def test_a_large_copy_is_cut_in_chunks(aws_bucket: str, watched: Proxy) -> None:
    store = S3Store(aws_bucket, S3Settings())
    store.create("source", LARGE)
    watched.forget()
    store.copy(parse_physical_key(store.url("source")), "copy", size=len(LARGE), metadata={"a": "b"})
    assert store.get("copy") == LARGE
    assert store.head("copy").metadata == {"a": "b"}
    begin, *parts, complete = [r for r in watched.requests if r.operation not in ("HeadObject", "GetObject")]
    assert begin.headers["x-amz-checksum-algorithm"] == "SHA256"
    assert complete.headers["if-none-match"] == "*"
    ranges = {part.headers["x-amz-copy-source-range"] for part in parts}
    assert ranges == {f"bytes=0-{MIN_CHUNK_BYTES - 1}", f"bytes={MIN_CHUNK_BYTES}-{len(LARGE) - 1}"}
    assert all("x-amz-copy-source-if-match" in part.headers for part in parts)
    with pytest.raises(FileChanged):
        store.copy(parse_physical_key(store.url("source")), "another", size=len(LARGE) + 1)


# --- a package -----------------------------------------------------------------------------------------------


def test_verify_downloads_nothing_that_has_a_checksum(
    s3_with_checksums: Gateway, watched: Proxy, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    bucket, s3 = s3_with_checksums.bucket(), s3_with_checksums.s3
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode() * 1000)
    reference = f"s3://{bucket}/data"
    fusepkg("push", str(folder), reference)
    for name in ("a", "b", "c"):  # as S3 keeps them; moto only heeds boto3's way to say it
        s3.put_object(Bucket=bucket, Key=f"data/{name}", Body=name.encode() * 1000, ChecksumAlgorithm="SHA256")
    fusepkg("verify", reference)  # fetches the manifest
    watched.forget()
    assert "verified" in fusepkg("verify", reference).stderr
    data = [request for request in watched.requests if request.key.startswith("data/")]
    assert [request.operation for request in data] == ["HeadObject"] * 3

    s3.put_object(Bucket=bucket, Key="data/b", Body=b"B" * 1000, ChecksumAlgorithm="SHA256")
    s3.put_object(Bucket=bucket, Key="data/c", Body=b"c" * 1000, ChecksumAlgorithm="CRC32")
    watched.forget()
    result = fusepkg("verify", reference, "--json", check=False)
    assert result.returncode == 1
    assert [found["logical_key"] for found in json.loads(result.stdout)] == ["b"]
    read = [request.key for request in watched.requests if request.operation == "GetObject"]
    assert [key for key in read if key.startswith("data/")] == ["data/c"]
