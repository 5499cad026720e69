"""S3Store against a real S3 server behind a proxy that fails in S3's ways: the right error, or the right bytes.

Every fault is met by a plain key, and by one that has to be escaped.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from fusepkg.errors import (
    AccessDenied,
    BucketNotFound,
    CredentialsMissing,
    FusepkgError,
    ObjectExists,
    ObjectMissing,
    RemoteProtocol,
    RemoteTimeout,
    RemoteUnavailable,
)
from fusepkg.store.s3 import S3Settings, S3Store
from fusepkg.store.s3.read import STREAM_BLOCK_BYTES
from tests.proxy import (
    ACCESS_DENIED,
    EXPIRED_TOKEN,
    INTERNAL_ERROR,
    NO_SUCH_BUCKET,
    NO_SUCH_KEY,
    NO_SUCH_VERSION,
    SLOW_DOWN,
    Answer,
    Corrupt,
    Drip,
    Reset,
    ShiftRange,
    Stall,
    Truncate,
    WholeObject,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy import Fault, Proxy
    from tests.rgw import Gateway

pytestmark = pytest.mark.s3

DATA = bytes(range(256)) * 1000
QUICK = S3Settings(connect_timeout_s=1.0, read_timeout_s=0.5)
"""Short timeouts: what a test waits for must end by them."""
TRIES = S3Settings().attempts


@pytest.fixture(params=["plain", "control\x0b"])
def key(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bucket(s3: Gateway) -> str:
    bucket = s3.bucket()
    for key in ("plain", "control\x0b"):
        s3.s3.put_object(Bucket=bucket, Key=key, Body=DATA)
    return bucket


@pytest.fixture
def store(proxy: Proxy, bucket: str) -> S3Store:
    return S3Store(bucket, QUICK)


@pytest.fixture
def patient(proxy: Proxy, bucket: str) -> S3Store:
    """A store whose timeouts no busy machine reaches."""
    return S3Store(bucket, S3Settings())


def read_all(store: S3Store, key: str) -> list[bytes]:
    """The three ways to read 1,000 bytes from 5,000 on."""
    return [
        store.get(key)[5000:6000],
        store.get(key, offset=5000, length=1000),
        b"".join(store.stream(key, piece_bytes=70_000))[5000:6000],
    ]


# --- without faults ------------------------------------------------------------------------------------------


def test_a_read_is_one_request(store: S3Store, proxy: Proxy, key: str) -> None:
    assert read_all(store, key) == [DATA[5000:6000]] * 3
    assert proxy.operations() == ["GetObject"] * 3
    assert [request.range for request in proxy.requests] == [None, (5000, 5999), None]
    proxy.forget()
    assert store.get(key, offset=255_000) == DATA[255_000:]
    assert store.get(key, offset=300_000, length=5) == b""
    assert store.get(key, length=0) == b""
    assert [(r.operation, r.range) for r in proxy.requests] == [
        ("GetObject", (255_000, None)),
        ("GetObject", (300_000, 300_004)),
    ]


def test_other_calls_are_one_request(store: S3Store, proxy: Proxy, key: str) -> None:
    store.head(key)
    next(iter(store.list("")))
    store.overwrite("other", b"x")
    assert proxy.operations() == ["HeadObject", "ListObjects", "PutObject"]
    proxy.forget()
    store.create("first", b"x")
    store.create("second", b"x")
    assert proxy.operations() == ["HeadObject", "PutObject", "PutObject"]  # looked first until the bucket was known


# --- faults that a retry heals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [SLOW_DOWN, INTERNAL_ERROR, Answer(502, "BadGateway"), Reset(), Reset(after=100), Truncate(), Truncate(0), Stall()],
    ids=str,
)
def test_a_fault_that_passes_is_healed(store: S3Store, proxy: Proxy, key: str, fault: Fault) -> None:
    for call in range(3):
        proxy.forget()
        proxy.fail(fault, operation="GetObject", after=call)
        assert read_all(store, key) == [DATA[5000:6000]] * 3
        assert len(proxy.operations()) == 4
        proxy.release()


def test_a_stalled_body_is_taken_up_where_it_stopped(store: S3Store, proxy: Proxy, key: str) -> None:
    proxy.fail(Stall(after=100_000))
    assert store.get(key) == DATA
    proxy.fail(Stall(after=100_000))
    assert b"".join(store.stream(key, piece_bytes=30_000)) == DATA
    assert proxy.requests[-1].range == (STREAM_BLOCK_BYTES, None)
    assert proxy.requests[-1].headers["if-match"]


def test_a_stream_gives_up_when_it_makes_no_progress(store: S3Store, proxy: Proxy, key: str) -> None:
    proxy.fail(Truncate(100_000), times=2)
    proxy.fail(Truncate(0), times=None)
    with pytest.raises(RemoteUnavailable):
        list(store.stream(key, piece_bytes=500))
    assert [request.range for request in proxy.requests] == [
        None,
        (100_000, None),
        (200_000, None),
        (200_000, None),
    ]


def test_a_stream_never_mixes_two_objects(store: S3Store, proxy: Proxy, s3: Gateway, key: str) -> None:
    proxy.fail(Stall(after=100_000))
    stream = store.stream(key, piece_bytes=10_000)
    assert next(stream) == DATA[:10_000]
    s3.s3.put_object(Bucket=store.bucket, Key=key, Body=DATA[::-1])
    with pytest.raises(RemoteProtocol, match="changed while it was read"):
        list(stream)


def test_dripping_bodies_arrive(store: S3Store, proxy: Proxy, key: str) -> None:
    proxy.fail(Drip(piece_bytes=100_000, pause_s=0.01), times=None)
    assert read_all(store, key) == [DATA[5000:6000]] * 3


def test_a_list_and_a_head_are_retried(store: S3Store, proxy: Proxy, key: str) -> None:
    proxy.fail(SLOW_DOWN, operation="HeadObject")
    proxy.fail(INTERNAL_ERROR, operation="ListObjects")
    assert store.head(key).size == len(DATA)
    assert [info.key for info in store.list("plain")] == ["plain"]


# --- faults that stay ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "tries"),
    [
        (SLOW_DOWN, RemoteUnavailable, TRIES),
        (INTERNAL_ERROR, RemoteUnavailable, TRIES),
        (Reset(), RemoteUnavailable, TRIES),
        (Stall(), RemoteTimeout, TRIES),
        (ACCESS_DENIED, AccessDenied, 1),
        (Answer(403, "InvalidAccessKeyId"), AccessDenied, 1),
        (Answer(403, "SignatureDoesNotMatch"), AccessDenied, 1),
        (Answer(403, "RequestTimeTooSkewed"), AccessDenied, 1),
        (EXPIRED_TOKEN, AccessDenied, 2),
        (NO_SUCH_KEY, ObjectMissing, 1),
        (NO_SUCH_VERSION, ObjectMissing, 1),
        (NO_SUCH_BUCKET, BucketNotFound, 1),
        (Answer(405, "MethodNotAllowed"), ObjectMissing, 1),
        (Answer(400, "InvalidRequest"), RemoteProtocol, 2),
        (Answer(418, "Teapot"), RemoteProtocol, 2),
    ],
    ids=str,
)
def test_a_fault_that_stays_is_the_right_error(
    store: S3Store, proxy: Proxy, key: str, fault: Fault, error: type[FusepkgError], tries: int
) -> None:
    proxy.fail(fault, times=None)
    with pytest.raises(error) as caught:
        store.get(key)
    assert type(caught.value) is error
    assert len(proxy.operations()) <= tries
    message = str(caught.value)
    assert f"s3://{store.bucket}" in message
    assert proxy.endpoint in message
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in message
    assert os.environ["AWS_ACCESS_KEY_ID"] not in message
    proxy.release()
    if tries < TRIES:  # else it has waited long enough
        with pytest.raises(error):
            list(store.stream(key, piece_bytes=100))
        with pytest.raises(error):
            store.get(key, offset=5, length=5)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidAccessKeyId", "AWS_PROFILE"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", "log in again"),
        ("AccessDenied", "may read"),
        ("RequestTimeTooSkewed", "clock"),
    ],
)
def test_a_denial_says_what_to_do(store: S3Store, proxy: Proxy, key: str, code: str, words: str) -> None:
    proxy.fail(Answer(400 if code == "ExpiredToken" else 403, code), times=None)
    with pytest.raises(AccessDenied) as caught:
        store.get(key)
    assert words in caught.value.hint
    with pytest.raises(AccessDenied) as listed:
        list(store.list(""))
    assert words in listed.value.hint


@pytest.mark.parametrize("fault", [Truncate(1000), Reset(after=1000), Stall(after=1000)], ids=str)
def test_a_body_that_never_completes(store: S3Store, proxy: Proxy, fault: Fault) -> None:
    proxy.fail(fault, times=None, when=lambda request: request.range is None or request.range[0] < 1000)
    proxy.fail(Truncate(0), times=None)
    for key in ("plain", "control\x0b"):
        with pytest.raises(RemoteUnavailable):
            store.get(key)
    assert len(proxy.operations()) <= 3 * TRIES


def test_head_and_list_say_what_is_wrong(store: S3Store, proxy: Proxy, key: str) -> None:
    proxy.fail(Answer(403, "AccessDenied"), operation="HeadObject")
    with pytest.raises(AccessDenied):
        store.head(key)
    proxy.fail(Answer(404, "NoSuchKey"), operation="HeadObject")
    with pytest.raises(ObjectMissing):
        store.head(key)
    proxy.fail(NO_SUCH_BUCKET, operation="ListObjects")
    with pytest.raises(BucketNotFound):
        list(store.list(""))


def test_an_endpoint_that_is_down(store: S3Store, proxy: Proxy, key: str) -> None:
    store.get(key)
    proxy.unreachable()
    for call in (store.get, store.head, lambda key: list(store.list(key)), lambda key: store.create(key, b"")):
        with pytest.raises(RemoteUnavailable, match=proxy.endpoint):
            call(key)
    proxy.reachable()
    assert store.get(key) == DATA


def test_a_host_that_has_no_address(bucket: str, key: str) -> None:
    store = S3Store(bucket, S3Settings(endpoint_url="http://nowhere.invalid", connect_timeout_s=1.0))
    with pytest.raises(RemoteUnavailable, match=r"nowhere\.invalid"):
        store.get(key)


def test_a_host_that_takes_no_connection(bucket: str, key: str) -> None:
    with socket.socket() as listener:  # its queue full, so that further connections get no answer at all
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        settings = S3Settings(endpoint_url=f"http://127.0.0.1:{port}", connect_timeout_s=0.2, read_timeout_s=0.2)
        with pytest.raises(RemoteTimeout):
            S3Store(bucket, settings).get(key)
        for filler in fillers:
            filler.close()


# --- wrong bytes ---------------------------------------------------------------------------------------------


def test_corrupted_bytes_pass(patient: S3Store, proxy: Proxy, key: str) -> None:
    """The store cannot know; whoever has the hash does."""
    proxy.fail(Corrupt(0))
    assert patient.get(key) == b"\xff" + DATA[1:]


def test_a_server_without_ranges(patient: S3Store, proxy: Proxy, key: str) -> None:
    proxy.fail(WholeObject(), times=None)
    assert patient.get(key, offset=5000, length=1000) == DATA[5000:6000]
    assert patient.get(key, offset=255_000, length=100_000) == DATA[255_000:]
    assert patient.get(key, offset=255_000) == DATA[255_000:]
    assert patient.get(key, offset=500_000, length=5) == b""


@pytest.mark.parametrize("by", [1, -1, 1000])
def test_a_wrong_range_is_refused(patient: S3Store, proxy: Proxy, key: str, by: int) -> None:
    proxy.fail(ShiftRange(by), times=None)
    with pytest.raises(RemoteProtocol, match="5000"):
        patient.get(key, offset=5000, length=1000)


def test_a_wrong_range_once_is_asked_for_again(patient: S3Store, proxy: Proxy) -> None:
    proxy.fail(ShiftRange(1))
    assert patient.get("plain", offset=5000, length=1000) == DATA[5000:6000]


@pytest.mark.parametrize("keep", [0, 10])
def test_a_range_that_is_too_short_is_refused(patient: S3Store, proxy: Proxy, key: str, keep: int) -> None:
    proxy.fail(Truncate(keep, honest=False), times=None)
    with pytest.raises((RemoteProtocol, RemoteUnavailable)):
        patient.get(key, offset=5000, length=1000)


# --- credentials ---------------------------------------------------------------------------------------------


def test_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsMissing) as caught:
        S3Store(bucket, QUICK).get(key)
    assert "--no-sign-request" in caught.value.hint


def test_unsigned_requests(s3: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = S3Store(bucket, S3Settings(sign=False))
    for call in (store.get, store.head, lambda key: list(store.list(key))):
        with pytest.raises(AccessDenied) as caught:
            call(key)
        assert "--no-sign-request" in caught.value.hint
    s3.s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.s3.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")
    assert store.get(key) == DATA
    assert store.head(key).size == len(DATA)
    assert len(list(store.list(""))) == 2


def test_wrong_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AccessDenied, match="SignatureDoesNotMatch"):
        S3Store(bucket, QUICK).get(key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "UNKNOWN")
    with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
        S3Store(bucket, QUICK).get(key)


def test_a_profile(s3: Gateway, bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Credentials, endpoint and region, all from a profile."""
    for name in [name for name in os.environ if name.startswith("AWS_") and not name.endswith(("FILE", "DISABLED"))]:
        monkeypatch.delenv(name)
    config = home / "aws-config"
    config.write_text(
        f"[profile lab]\naws_access_key_id={s3.owner.access_key}\naws_secret_access_key={s3.owner.secret_key}\n"
        f"region=eu-west-1\nendpoint_url={s3.endpoint}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = S3Store(bucket, S3Settings(profile="lab"))
    assert store.get(key) == DATA
    assert store.head(key).size == len(DATA)
    with pytest.raises(CredentialsMissing, match="nobody"):
        S3Store(bucket, S3Settings(profile="nobody")).get(key)


# --- writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versioned", [False, True])
def test_a_create_whose_answer_is_lost_is_ours(proxy: Proxy, s3: Gateway, versioned: bool) -> None:
    store = S3Store(s3.bucket(versioned=versioned), QUICK)
    store.create("warm", b"up")
    proxy.fail(Reset(reached=True), operation="PutObject")
    info = store.create("new", b"mine")
    assert store.get("new", version=info.version) == b"mine"
    versions = s3.s3.list_object_versions(Bucket=store.bucket, Prefix="new")["Versions"]
    assert versions[0]["VersionId"] == (info.version or "null")
    assert len({version["ETag"] for version in versions}) == 1  # the bytes are there twice, for who may have seen them


@pytest.mark.parametrize("versioned", [False, True])
def test_a_create_that_comes_second_after_a_retry_has_lost(proxy: Proxy, s3: Gateway, versioned: bool) -> None:
    store = S3Store(s3.bucket(versioned=versioned), QUICK)
    store.create("warm", b"up")
    proxy.fail(INTERNAL_ERROR, operation="PutObject")
    proxy.fail(Answer(404, "NoSuchKey"), operation="HeadObject")  # looked before the other wrote
    s3.s3.put_object(Bucket=store.bucket, Key="new", Body=b"theirs")
    with pytest.raises(ObjectExists):
        store.create("new", b"mine")
    assert store.get("new") == b"theirs"
    assert len(s3.s3.list_object_versions(Bucket=store.bucket, Prefix="new")["Versions"]) == 1


def test_a_key_that_was_deleted_is_free_again(s3: Gateway) -> None:
    store = S3Store(s3.bucket(versioned=True), QUICK)
    store.create("a", b"one")
    s3.s3.delete_object(Bucket=store.bucket, Key="a")
    assert store.get("a", version=store.create("a", b"two").version) == b"two"
    with pytest.raises(ObjectExists):
        store.create("a", b"three")


def test_a_conflict_that_asks_for_another_try(store: S3Store, proxy: Proxy) -> None:
    proxy.fail(Answer(409, "ConditionalRequestConflict"), operation="PutObject")
    store.create("new", b"x")
    proxy.fail(Answer(409, "ConditionalRequestConflict"), operation="PutObject", times=None)
    with pytest.raises(ObjectExists):
        store.create("newer", b"x")


def test_creating_sends_the_condition(store: S3Store, proxy: Proxy) -> None:
    store.create("new", b"x")
    assert [r.headers.get("if-none-match") for r in proxy.requests if r.operation == "PutObject"] == ["*"]


def test_an_upload_in_parts(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    store = S3Store(bucket, S3Settings())
    data = os.urandom(20 * 1024 * 1024)
    (tmp_path / "large").write_bytes(data)
    proxy.fail(SLOW_DOWN, operation="UploadPart")
    store.overwrite("large", tmp_path / "large")
    assert sorted(proxy.operations()) == sorted(
        ["CreateMultipartUpload", *["UploadPart"] * 4, "CompleteMultipartUpload"]
    )
    assert store.get("large", at_most=len(data)) == data


def test_an_upload_in_parts_that_fails_leaves_nothing(bucket: str, proxy: Proxy, s3: Gateway, tmp_path: Path) -> None:
    store = S3Store(bucket, S3Settings())
    (tmp_path / "large").write_bytes(bytes(20 * 1024 * 1024))
    proxy.fail(ACCESS_DENIED, operation="UploadPart", times=None)
    with pytest.raises(AccessDenied):
        store.overwrite("large", tmp_path / "large")
    assert proxy.operations()[-1] == "AbortMultipartUpload"
    assert "Uploads" not in s3.s3.list_multipart_uploads(Bucket=store.bucket)
    with pytest.raises(ObjectMissing):
        store.head("large")
