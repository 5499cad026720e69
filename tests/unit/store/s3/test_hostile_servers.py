"""Servers that redirect, never end, stall or refuse: both clients alike, with an error that says what to do."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg.errors import (
    AccessDenied,
    BucketNotFound,
    FusepkgError,
    ObjectArchived,
    ObjectExists,
    ObjectTooLarge,
    RemoteProtocol,
    RemoteTimeout,
    RemoteUnavailable,
    UsageError,
)
from fusepkg.store.s3 import S3Settings, S3Store
from tests.unit.store.s3.servers import Listener, Server, a_store, read_async

KEYS = ["key", "key\x0b"]
"""A plain key, and one that has to be escaped."""


# --- answers without an end ----------------------------------------------------------------------------------


def endless(request: Server, status: int) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(1 << 40))
    request.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
    request.send_header("ETag", '"x"')
    request.end_headers()
    if request.command != "HEAD":
        while True:
            request.wfile.write(bytes(1 << 16))


@pytest.mark.parametrize("key", KEYS)
def test_a_whole_object_without_an_end_is_refused_before_it_is_read(server: Listener, key: str) -> None:
    server.answers(lambda request: endless(request, 200))
    with pytest.raises(ObjectTooLarge, match="larger than the 1000 bytes"):
        a_store().get(key, at_most=1000)


def test_errors_and_listings_without_an_end_are_not_read(server: Listener) -> None:
    store = a_store()
    tracemalloc.start()
    server.answers(lambda request: endless(request, 403))
    with pytest.raises(AccessDenied):
        store.get("key\x0b")
    server.answers(lambda request: endless(request, 200))
    with pytest.raises(RemoteProtocol, match="more than"):
        list(store.list(""))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 256 * 1024**2


# --- stalls --------------------------------------------------------------------------------------------------


@pytest.fixture
def dripping(server: Listener) -> Iterator[Listener]:
    """A server whose bodies never end, one byte at a time: no silence is long enough to be noticed."""
    stop = threading.Event()

    def drip(request: Server) -> None:
        request.send_response(206 if "Range" in request.headers else 200)
        request.send_header("Content-Range", "bytes 0-999/1000")
        request.send_header("Content-Length", "1000")
        request.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        request.send_header("ETag", '"x"')
        request.end_headers()
        while not stop.wait(0.02):
            request.wfile.write(b".")
            request.wfile.flush()

    server.answers(drip)
    yield server
    stop.set()


@pytest.mark.parametrize("key", KEYS)
def test_a_body_that_drips_ends_at_the_time_limit(dripping: Listener, key: str) -> None:
    store = a_store(request_timeout_s=0.3)
    with pytest.raises(RemoteTimeout):
        store.get(key, length=1000)
    assert isinstance(read_async(store, key, 1000), RemoteTimeout)


def test_a_listing_that_drips_ends_at_the_time_limit(dripping: Listener) -> None:
    with pytest.raises(RemoteTimeout):
        list(a_store(request_timeout_s=0.3).list(""))


@pytest.mark.parametrize("key", KEYS)
def test_an_asynchronous_read_has_a_time_limit_of_its_own(dripping: Listener, key: str) -> None:
    assert isinstance(read_async(a_store(), key, 1000, timeout_s=0.1), RemoteTimeout)


# --- names, places and settings ------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["a b", "b\n", "a/b", "\u00e9", "", "a?b", "b" * 256])
def test_a_bucket_that_cannot_be_is_an_error_and_no_panic(server: Listener, bucket: str) -> None:
    store = a_store(bucket)
    for call in (lambda: store.get("k"), lambda: list(store.list("")), lambda: store.create("k", b"")):
        with pytest.raises(BucketNotFound, match="no bucket can have such a name"):
            call()
    assert isinstance(read_async(store, "k"), BucketNotFound)
    assert server.asked == []


@pytest.mark.parametrize(
    ("style", "asked"), [("virtual", "bucket.localhost"), ("path", "localhost"), ("", "localhost")]
)
def test_both_clients_follow_the_addressing_style_of_the_profile(
    server: Listener, home: Path, monkeypatch: pytest.MonkeyPatch, style: str, asked: str
) -> None:
    import socket

    config = home / "aws-config"
    config.write_text(f"[default]\ns3 =\n  addressing_style = {style}\n" if style else "")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://localhost:{server.port}")
    find = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: find("127.0.0.1", *rest, **named))
    store = a_store()
    store.head("key")
    store.get("key")
    assert [host for _, host, *_ in server.asked] == [f"{asked}:{server.port}"] * 2
    assert [path for _, _, path, _ in server.asked] == ["/key" if style == "virtual" else "/bucket/key"] * 2


def test_both_clients_go_through_the_proxy_and_heed_its_exceptions(
    server: Listener, other: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", other.url)
    assert a_store().get("key") == b"hello"
    assert [line[2] for line in other.asked] == [f"{server.url}/bucket/key"]
    assert server.asked == []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    store = a_store()
    assert [store.get("key"), store.get("key\x0b"), read_async(store, "key", 5)] == [b"hello"] * 3
    assert len(server.asked) == 3
    assert len(other.asked) == 1


def test_certificates_in_der_are_named_with_the_way_to_convert_them(
    server: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.der"
    bundle.write_bytes(b"0\x82\x03\x05")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(UsageError, match=r"ca\.der holds no certificate in PEM form.*openssl x509 -inform der"):
        a_store().get("key")


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_an_archived_object_is_named_with_what_to_do(server: Listener, key: str) -> None:
    server.answers(lambda request: request.reply(403, b"<Error><Code>InvalidObjectState</Code></Error>"))
    with pytest.raises(ObjectArchived, match=r"is archived.*restore-object"):
        a_store().get(key)
    assert isinstance(read_async(a_store(), key), ObjectArchived)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("status", "code"), [(403, "InvalidAccessKeyId"), (400, "ExpiredToken"), (401, "Unauthorized")]
)
def test_refused_credentials_are_read_again(
    server: Listener, home: Path, monkeypatch: pytest.MonkeyPatch, key: str, status: int, code: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = home / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setattr("fusepkg.store.s3.credentials.REREAD_S", 0.0)

    def write(access_key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={access_key}\naws_secret_access_key=s\n")

    def answer(request: Server) -> None:
        if "Credential=NEW/" in request.headers["Authorization"]:
            request.reply(200, b"hello")
        else:
            request.reply(status, f"<Error><Code>{code}</Code></Error>".encode())

    server.answers(answer)
    write("OLD")
    store, asynchronous = a_store(), a_store()
    with pytest.raises(AccessDenied):
        store.get(key)
    assert isinstance(read_async(asynchronous, key, 5), AccessDenied)
    write("NEW")
    assert store.get(key) == b"hello"
    assert read_async(asynchronous, key, 5) == b"hello"
    server.asked.clear()
    assert store.get(key) == b"hello"
    assert store.head(key).size == 5
    assert len(server.asked) == 2  # with the new ones at once


def test_a_large_create_whose_answer_was_lost_is_found_to_be_its_own(server: Listener, tmp_path: Path) -> None:
    data = b"0123456789abcdef" * (1 << 20) + b"end"
    (tmp_path / "source").write_bytes(data)
    puts: list[int] = []

    def answer(request: Server) -> None:
        if request.command == "PUT":
            puts.append(1)
            request.reply(500 if len(puts) == 1 else 412)
        elif request.command == "HEAD" and not puts:
            request.reply(404)
        else:
            request.reply(200, stored[0])

    stored: list[bytes] = []
    for kept, found in (([data], True), ([data[:-1] + b"D"], False)):
        puts.clear()
        stored[:] = kept
        server.answers(answer)
        store = a_store(attempts=2)
        if found:
            assert store.create("large", tmp_path / "source").size == len(data)
        else:
            with pytest.raises(ObjectExists):
                store.create("large", tmp_path / "source")


def test_a_listing_whose_credentials_end_in_the_middle_goes_on(
    server: Listener, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = home / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text("[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n")
    page = "<ListBucketResult><Contents><Key>{}</Key><Size>1</Size></Contents>{}</ListBucketResult>"
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"

    def answer(request: Server) -> None:
        if "continuation-token" not in request.path:
            request.reply(200, page.format("a", more).encode())
        elif "Credential=NEW/" in request.headers["Authorization"]:
            request.reply(200, page.format("b", "").encode())
        else:
            file.write_text("[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n")
            request.reply(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>")

    server.answers(answer)
    assert [info.key for info in a_store().list("")] == ["a", "b"]


def test_every_error_says_what_to_do(server: Listener) -> None:
    for status, code in (
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
        (404, "NoSuchBucket"),
        (503, "SlowDown"),
        (400, ""),
    ):
        body = f"<Error><Code>{code}</Code></Error>".encode()
        server.answers(lambda request, status=status, body=body: request.reply(status, body))
        for key in ("key", "key\x0b"):
            with pytest.raises(FusepkgError) as caught:
                a_store().get(key)
            assert caught.value.hint, (status, code)
            assert "s3://bucket" in str(caught.value)
    unreachable = S3Store("bucket", S3Settings(endpoint_url="http://127.0.0.1:9", attempts=1, connect_timeout_s=0.5))
    with pytest.raises(RemoteUnavailable, match="AWS_ENDPOINT_URL_S3"):
        unreachable.get("k")
