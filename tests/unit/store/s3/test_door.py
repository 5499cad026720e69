"""What is S3Store's own: clients per process, and where settings come from."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from fusepkg.errors import AccessDenied, CredentialsMissing, RemoteUnavailable, UsageError
from fusepkg.store.protocol import Wanted
from fusepkg.store.s3 import S3Settings, S3Store
from fusepkg.store.s3 import bucket as bucket_module
from fusepkg.store.s3.address import Address
from fusepkg.store.s3.async_reads import S3Reads
from fusepkg.store.s3.botocore import connect, load_descriptions
from fusepkg.store.s3.exchange import Exchange
from fusepkg.store.s3.http.loop import wait_for
from tests.proxy import Stall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fusepkg.store.protocol import Answers
    from fusepkg.store.s3.botocore import ClientSetup
    from fusepkg.store.s3.bucket import Bucket
    from tests.proxy import Proxy
    from tests.rgw import Gateway

needs_s3 = pytest.mark.s3


@pytest.fixture
def bucket(s3: Gateway) -> str:
    bucket = s3.bucket()
    s3.s3.put_object(Bucket=bucket, Key="a", Body=b"hello")
    return bucket


# --- processes and threads -----------------------------------------------------------------------------------

FORKING = """
import os, sys
from fusepkg.store.s3 import S3Settings, S3Store

used, unused = S3Store(sys.argv[1], S3Settings()), S3Store(sys.argv[1], S3Settings())
if "reads" in sys.argv[2:]:
    assert used.get("a") == b"hello"
else:
    used.head("a") if "boto3" in sys.argv[2:] else None
child = os.fork()
if child == 0:
    try:
        assert [used.get("a"), unused.get("a")] == [b"hello"] * 2
        assert used.head("a").size == 5
        os._exit(0)
    except BaseException as exc:
        print(repr(exc), flush=True)
        os._exit(1)
assert used.get("a") == b"hello"
sys.exit(os.waitpid(child, 0)[1])
"""


@needs_s3
@pytest.mark.parametrize("used_before", ["nothing", "boto3", "reads"])
def test_a_forked_child_reads(bucket: str, used_before: str) -> None:
    """The loop's thread is not there in a child: it starts one of its own."""
    command = [sys.executable, "-W", "ignore", "-c", FORKING, bucket, used_before]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_s3
def test_many_threads_share_one_set_of_clients(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = bucket_module.open_clients
    monkeypatch.setattr(bucket_module, "open_clients", lambda *asked: made.append(1) or make(*asked))
    store = S3Store(bucket, S3Settings())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store.get, ["a"] * 64)) == [b"hello"] * 64
    assert made == [1]


@needs_s3
def test_a_read_lets_other_threads_run(bucket: str, proxy: Proxy) -> None:
    proxy.fail(Stall())
    store = S3Store(bucket, S3Settings())
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(store.get("a")))
    reader.start()
    proxy.wait_for(1, operation="GetObject")  # only runs on if the reader gave up the interpreter
    assert found == []
    proxy.release()
    reader.join()
    assert found == [b"hello"]


def test_reads_at_once_open_the_bucket_once() -> None:
    """Also where that fails: finding no credentials may take seconds."""
    opened: list[int] = []
    found: list[object] = []
    go_on, answered = threading.Event(), threading.Event()

    def open_bucket() -> Bucket:
        opened.append(1)
        go_on.wait(60)
        raise CredentialsMissing("none")

    def take(answers: Answers) -> None:
        found.extend(answer for _, answer in answers)
        if len(found) in (50, 51):
            answered.set()

    async def nothing() -> None:
        pass

    reads = S3Reads(open_bucket, take)
    reads.submit([Wanted(number, "key", None, 0, 1) for number in range(50)])
    wait_for(nothing())  # all reads have begun
    go_on.set()
    assert answered.wait(60)
    assert opened == [1]
    answered.clear()
    reads.submit([Wanted(50, "key", None, 0, 1)])
    assert answered.wait(60)
    assert opened == [1, 1]
    assert {type(answer) for answer in found} == {CredentialsMissing}
    reads.close()


# --- bytes as they lie ---------------------------------------------------------------------------------------


@needs_s3
@pytest.mark.parametrize("key", ["zipped", "zipped\x0b"])
def test_encoded_objects_are_not_decoded(s3: Gateway, bucket: str, key: str) -> None:
    data = gzip.compress(b"hello" * 1000)
    s3.s3.put_object(Bucket=bucket, Key=key, Body=data, ContentEncoding="gzip")
    store = S3Store(bucket, S3Settings())
    assert store.get(key) == data
    assert store.get(key, offset=3, length=4) == data[3:7]
    assert b"".join(store.stream(key, piece_bytes=11)) == data


# --- where settings come from --------------------------------------------------------------------------------


@needs_s3
def test_settings_win_over_the_environment(
    s3: Gateway, bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")  # variables of other clients
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    store = S3Store(bucket, S3Settings(endpoint_url=s3.endpoint))
    assert store.get("a") == b"hello"
    assert store.head("a").size == 5


def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(UsageError, match="endpoint"):
        S3Store("bucket", S3Settings(endpoint_url="not an endpoint")).get("a")


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/ca.pem")
    with pytest.raises(UsageError, match=r"/nonexistent/ca\.pem"):
        S3Store("bucket", S3Settings(endpoint_url="https://127.0.0.1:9")).get("a")


def place(bucket: str, connection: ClientSetup) -> tuple[str, str]:
    """The host and path that our own client asks for ``a key``."""
    exchange = Exchange(bucket, S3Settings(), connection)
    return exchange._host, exchange._path(Address(bucket, "a key", ""))


def test_where_aws_buckets_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    connection = connect(S3Settings(region="eu-west-1"), Address("bucket", "", ""))
    assert connection.is_aws
    assert place("bucket", connection) == ("bucket.s3.eu-west-1.amazonaws.com", "/a%20key")
    dotted = connect(S3Settings(region="eu-west-1"), Address("a.bucket", "", ""))
    assert place("a.bucket", dotted) == ("s3.eu-west-1.amazonaws.com", "/a.bucket/a%20key")
    assert connection.client.meta.config.request_checksum_calculation == "when_supported"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://lab:9000")
    connection = connect(S3Settings(), Address("bucket", "", ""))
    assert not connection.is_aws
    assert place("bucket", connection) == ("lab:9000", "/bucket/a%20key")
    assert connection.client.meta.config.request_checksum_calculation == "when_required"


@needs_s3
def test_credentials_are_renewed(s3: Gateway, bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By boto3, for both clients, whenever they are about to end."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    answer, program = home / "answer.json", home / "credentials"
    program.write_text(f"#!/bin/sh\ncat {answer}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    config = home / "aws-config"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    def answers(access_key: str, secret_key: str) -> None:
        keys = {"Version": 1, "AccessKeyId": access_key, "SecretAccessKey": secret_key}
        answer.write_text(json.dumps({**keys, "Expiration": "2100-01-01T00:00:00Z"}))

    def end() -> None:
        credentials = store._open()._clients.connection.credentials._current  # type: ignore[union-attr]
        credentials._expiry_time = credentials._time_fetcher()  # type: ignore[attr-defined, union-attr]

    answers(s3.owner.access_key, s3.owner.secret_key)
    store = S3Store(bucket, S3Settings())
    assert store.get("a") == b"hello"
    answers("GONE", "GONE")
    assert store.get("a") == b"hello"
    end()
    for call in (lambda: store.get("a"), lambda: list(store.list(""))):
        with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
            call()
    answers(s3.owner.access_key, s3.owner.secret_key)
    end()
    assert store.get("a") == b"hello"
    for content, words in (('{"Version": 1}', "renewed"), ("nonsense", "JSON")):
        answer.write_text(content)
        end()
        for call in (lambda: store.get("a"), lambda: list(store.list(""))):
            with pytest.raises(AccessDenied, match=words):
                call()


# --- another region ------------------------------------------------------------------------------------------


class Abroad(BaseHTTPRequestHandler):
    """S3 as it answers requests signed for another region than the bucket's; no test server has regions."""

    protocol_version = "HTTP/1.1"
    status: ClassVar[int] = 301
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        at_home = "/eu-west-1/s3/" in self.headers["Authorization"]
        self.asked.append(f"{self.command} {'at home' if at_home else 'abroad'}")
        code = {301: "PermanentRedirect", 400: "AuthorizationHeaderMalformed"}[self.status]
        body = b"hello" if at_home else f"<Error><Code>{code}</Code><Region>eu-west-1</Region></Error>".encode()
        self.send_response(200 if at_home else self.status)
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  (the name http.server looks for)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def abroad() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Abroad) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [301, 400])
def test_a_bucket_in_another_region(abroad: str, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(Abroad, "status", status)
    Abroad.asked.clear()
    store = S3Store("bucket", S3Settings(endpoint_url=abroad))
    assert store.get("a") == b"hello"
    Abroad.asked.clear()
    assert store.get("a") == b"hello"
    assert Abroad.asked == ["GET at home"]


# --- messages ------------------------------------------------------------------------------------------------


def test_passwords_in_an_endpoint_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    settings = S3Settings(endpoint_url="http://user:secret@127.0.0.1:9", connect_timeout_s=0.5, attempts=1)
    for call in (S3Store("bucket", settings).get, S3Store("bucket", settings).head):
        with pytest.raises(RemoteUnavailable) as caught:
            call("a")
        assert "127.0.0.1:9" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_nothing_is_done_before_the_first_call() -> None:
    os.environ.pop("AWS_ACCESS_KEY_ID", None)
    assert S3Store("bucket", S3Settings()).url("a b", "v/1") == "s3://bucket/a%20b?versionId=v%2F1"


def test_descriptions_are_loaded_without_asking_anybody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a credential program nor a server, and a configuration that is wrong hinders nothing."""
    asked = home / "asked"
    config = home / "aws-config"
    config.write_text(f"[default]\ncredential_process = touch {asked}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    load_descriptions()
    monkeypatch.setenv("AWS_PROFILE", "none")
    load_descriptions()
    assert not asked.exists()
