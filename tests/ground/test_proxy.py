"""The proxy before a real S3 server: what passes, what is written down, what each fault looks like to a client."""

from __future__ import annotations

import hashlib
import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ResponseStreamingError

from tests.proxy import (
    ACCESS_DENIED,
    INTERNAL_ERROR,
    NO_SUCH_KEY,
    SLOW_DOWN,
    Answer,
    Corrupt,
    Drip,
    Proxy,
    Reset,
    ShiftRange,
    Stall,
    Truncate,
    WholeObject,
)
from tests.rgw import Gateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.s3

BODY = bytes(range(256)) * 64


@pytest.fixture
def client(rgw: Gateway, proxy: Proxy) -> S3Client:
    """A client that makes every request once, through the proxy."""
    return rgw.client(endpoint=proxy.endpoint)


@pytest.fixture
def bucket(rgw: Gateway) -> str:
    """A bucket with BODY under the key ``k``."""
    bucket = rgw.bucket()
    rgw.s3.put_object(Bucket=bucket, Key="k", Body=BODY)
    return bucket


def get(client: S3Client, bucket: str, **more: str) -> bytes:
    return client.get_object(Bucket=bucket, Key="k", **more)["Body"].read()  # type: ignore[arg-type]


# --- what passes -----------------------------------------------------------------------------------------------


def test_requests_pass_and_are_written_down(client: S3Client, bucket: str, proxy: Proxy) -> None:
    assert get(client, bucket) == BODY
    assert get(client, bucket, Range="bytes=5-9") == BODY[5:10]
    whole, part = proxy.requests
    assert (whole.operation, whole.bucket, whole.key, whole.range, whole.status) == (
        "GetObject",
        bucket,
        "k",
        None,
        200,
    )
    assert (part.range, part.status, part.sent) == ((5, 9), 206, 5)
    assert whole.sent == len(BODY)


def test_operations_have_the_names_s3_gives_them(client: S3Client, bucket: str, proxy: Proxy, rgw: Gateway) -> None:
    client.head_object(Bucket=bucket, Key="k")
    client.list_objects_v2(Bucket=bucket)
    client.list_objects(Bucket=bucket)
    client.list_object_versions(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="new", Body=b"x")
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    client.delete_object(Bucket=bucket, Key="copy")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "new"}]})
    client.head_bucket(Bucket=bucket)
    client.list_buckets()
    assert proxy.operations() == [
        "HeadObject",
        "ListObjects",
        "ListObjects",
        "ListObjectVersions",
        "PutObject",
        "CopyObject",
        "DeleteObject",
        "DeleteObjects",
        "HeadBucket",
        "ListBuckets",
    ]
    assert proxy.operations(key="k") == ["HeadObject"]
    proxy.forget()
    assert proxy.requests == []


def test_strange_keys_pass(client: S3Client, bucket: str, proxy: Proxy) -> None:
    key = "a b/ü+%#?&=\n'\"/~é/\U0001f600"
    client.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"
    assert [request.key for request in proxy.requests] == [key, key]


def test_large_uploads_in_parts_pass(client: S3Client, bucket: str, proxy: Proxy, tmp_path: Path, rgw: Gateway) -> None:
    source = tmp_path / "large"
    source.write_bytes(BODY * 1280)  # 20 MiB
    client.upload_file(str(source), bucket, "large")
    assert sorted(set(proxy.operations())) == ["CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart"]
    stored = rgw.s3.get_object(Bucket=bucket, Key="large")["Body"].read()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_connections_are_kept_also_after_chunked_bodies(bucket: str, proxy: Proxy, client: S3Client) -> None:
    reading = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.endpoint.rpartition(":")[2]))
    with closing(connection):
        connection.request("GET", reading.removeprefix(proxy.endpoint))
        assert connection.getresponse().read() == BODY
        first = connection.sock
        connection.request("PUT", f"/{bucket}/k", body=iter([b"a", b"bc"]), encode_chunked=True)
        assert connection.getresponse().read()
        connection.request("GET", reading.removeprefix(proxy.endpoint))
        assert connection.getresponse().read() == BODY
        assert connection.sock is first
    assert [request.status for request in proxy.requests] == [200, 411, 200]  # S3 wants the length of an upload


def test_many_at_once(client: S3Client, bucket: str, proxy: Proxy) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: get(client, bucket), range(100))) == [BODY] * 100
    assert proxy.operations() == ["GetObject"] * 100


# --- the fault plan ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [SLOW_DOWN, INTERNAL_ERROR, ACCESS_DENIED, NO_SUCH_KEY], ids=lambda each: each.code)
def test_errors(client: S3Client, bucket: str, proxy: Proxy, answer: Answer) -> None:
    proxy.fail(answer)
    with pytest.raises(ClientError) as caught:
        get(client, bucket)
    assert caught.value.response["Error"]["Code"] == answer.code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == answer.status
    assert get(client, bucket) == BODY
    assert [request.status for request in proxy.requests] == [answer.status, 200]


def test_an_upload_is_refused_before_its_body(client: S3Client, bucket: str, proxy: Proxy, rgw: Gateway) -> None:
    proxy.fail(SLOW_DOWN, operation="PutObject")
    with pytest.raises(ClientError, match="SlowDown"):
        client.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert get(rgw.s3, bucket) == BODY


def test_rules_choose_by_operation_key_order_and_count(client: S3Client, bucket: str, proxy: Proxy) -> None:
    rule = proxy.fail(SLOW_DOWN, operation="GetObject", key="k", after=1, times=2)
    seen = []
    for _ in range(5):
        client.head_object(Bucket=bucket, Key="k")
        try:
            get(client, bucket)
            seen.append("read")
        except ClientError:
            seen.append("refused")
    assert seen == ["read", "refused", "refused", "read", "read"]
    assert rule.hits == 2


def test_rules_choose_by_request_and_end_with_heal(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(SLOW_DOWN, when=lambda request: request.range == (0, 3), times=None)
    assert get(client, bucket, Range="bytes=0-4") == BODY[:5]
    for _ in range(3):
        with pytest.raises(ClientError, match="SlowDown"):
            get(client, bucket, Range="bytes=0-3")
    proxy.heal()
    assert get(client, bucket, Range="bytes=0-3") == BODY[:4]


def test_a_truncated_body_breaks_off(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(Truncate(100))
    with pytest.raises(ResponseStreamingError):
        get(client, bucket)
    assert proxy.requests[0].sent == 100


def test_a_body_truncated_with_its_length_looks_whole(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(Truncate(100, honest=False))
    assert get(client, bucket) == BODY[:100]


def test_one_byte_is_corrupted(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(Corrupt(at=7))
    assert [n for n, byte in enumerate(get(client, bucket)) if byte != BODY[n]] == [7]


def test_a_reset_before_the_answer(client: S3Client, bucket: str, proxy: Proxy, rgw: Gateway) -> None:
    proxy.fail(Reset())
    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket=bucket, Key="unreached", Body=b"x")
    with pytest.raises(ClientError, match="404"):
        rgw.s3.head_object(Bucket=bucket, Key="unreached")


def test_a_reset_after_the_work_was_done(client: S3Client, bucket: str, proxy: Proxy, rgw: Gateway) -> None:
    proxy.fail(Reset(reached=True))
    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket=bucket, Key="reached", Body=b"x")
    assert rgw.s3.get_object(Bucket=bucket, Key="reached")["Body"].read() == b"x"


def test_a_reset_within_the_body(bucket: str, proxy: Proxy, rgw: Gateway) -> None:
    proxy.fail(Reset(after=10))
    with pytest.raises(ResponseStreamingError):
        get(rgw.client(endpoint=proxy.endpoint), bucket)


@pytest.mark.parametrize("after", [None, 0, 1000])
def test_a_stall_lasts_until_released(client: S3Client, bucket: str, proxy: Proxy, after: int | None) -> None:
    proxy.fail(Stall(after))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(get, client, bucket)
        (request,) = proxy.wait_for(1, operation="GetObject")
        assert get(client, bucket) == BODY  # others are not held
        assert not reading.done()
        assert request.sent <= (after or 0)
        proxy.release()
        assert reading.result() == BODY


def test_waiting_for_answers_leaves_out_what_stalls(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(Stall(), after=1)
    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(get, client, bucket) for _ in range(3)]
        arrived = proxy.wait_for(3)
        answered = proxy.wait_for(2, answered=True)
        (stalled,) = [request for request in arrived if request not in answered]
        assert (stalled.fault, stalled.status) == (Stall(), 0)
        proxy.release()
        assert stalled in proxy.wait_for(3, answered=True)
        assert [each.result() for each in reading] == [BODY] * 3


def test_a_drip_arrives_whole(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(Drip(piece_bytes=4096, pause_s=0.001))
    assert get(client, bucket) == BODY


def test_the_whole_object_in_place_of_a_range(client: S3Client, bucket: str, proxy: Proxy) -> None:
    rule = proxy.fail(WholeObject())
    assert get(client, bucket) == BODY
    assert rule.hits == 0  # only ranges are spoiled
    answer = client.get_object(Bucket=bucket, Key="k", Range="bytes=5-9")
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read()) == (200, BODY)


@pytest.mark.parametrize(("confess", "told"), [(True, "bytes 7-11/16384"), (False, "bytes 5-9/16384")])
def test_another_range(client: S3Client, bucket: str, proxy: Proxy, confess: bool, told: str) -> None:
    proxy.fail(ShiftRange(by=2, confess=confess))
    answer = client.get_object(Bucket=bucket, Key="k", Range="bytes=5-9")
    assert (answer["ContentRange"], answer["Body"].read()) == (told, BODY[7:12])


def test_unreachable_and_back(client: S3Client, bucket: str, proxy: Proxy) -> None:
    assert get(client, bucket) == BODY
    proxy.unreachable()
    with pytest.raises(EndpointConnectionError):
        get(client, bucket)
    proxy.reachable()
    assert get(client, bucket) == BODY
    assert proxy.operations() == ["GetObject"] * 2


def test_going_unreachable_breaks_off_what_is_under_way(client: S3Client, bucket: str, proxy: Proxy) -> None:
    proxy.fail(Stall(after=100))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(get, client, bucket)
        proxy.wait_for(1, operation="GetObject")
        proxy.unreachable()
        with pytest.raises((ResponseStreamingError, ConnectionClosedError)):
            reading.result()


def test_no_thread_or_port_outlives_the_proxy(rgw: Gateway, bucket: str) -> None:
    before = set(threading.enumerate())
    with Proxy(rgw.endpoint, rgw.s3) as proxy:
        assert get(rgw.client(endpoint=proxy.endpoint), bucket) == BODY
    assert set(threading.enumerate()) <= before
    with pytest.raises(EndpointConnectionError):
        get(rgw.client(endpoint=proxy.endpoint), bucket)
