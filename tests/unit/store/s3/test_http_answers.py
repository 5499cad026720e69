"""What our HTTP client makes of answers, byte by byte: the right bytes or an error, never others, and never more."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from fusepkg.errors import AccessDenied, ObjectTooLarge, RemoteError, RemoteProtocol, RemoteUnavailable
from fusepkg.store.protocol import Wanted
from fusepkg.store.s3 import S3Store
from fusepkg.store.s3.http.answer import ExchangeFailure, Room
from fusepkg.store.s3.http.connection import Connection, Limits
from tests.unit.store.s3.servers import RawListener, a_store, read_async

DATA = bytes(range(256)) * 1000
PART = b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-9/256000\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"
Write = Callable[[socket.socket, bytes], bool]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Write], RawListener]]:
    """Start a server that answers so, as the endpoint."""
    listeners: list[RawListener] = []

    def start(answer: Write) -> RawListener:
        listener = RawListener(answer)
        listeners.append(listener)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", listener.url)
        return listener

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[RawListener, S3Store]]:
    """A server whose ``answer`` a test sets, and a store there: making clients takes longer than these tests."""
    listener = RawListener(saying(b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        store = a_store(endpoint_url=listener.url)
        store._open()
    yield listener, store
    listener.close()


def saying(*pieces: bytes, stays: bool = False) -> Write:
    """Send these pieces, each by itself, then close the connection or not."""

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        return stays

    return answer


# --- the right bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        [PART, b"Content-Length: 5\r\n\r\n", DATA[5:10]],
        [PART + b"Content-Length: 5\r\n\r\n" + DATA[5:8], DATA[8:10]],
        [bytes([byte]) for byte in PART + b"Content-Length: 5\r\n\r\n" + DATA[5:10]],
        [PART + CHUNKED, b"2\r\n", DATA[5:7], b"\r\n3\r\n" + DATA[7:10] + b"\r\n0\r\n\r\n"],
        [PART + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n" + DATA[5:10] + b"\r\n0\r\nTrailer: x\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", PART + b"Content-Length: 5\r\n\r\n" + DATA[5:10]],
        [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PART + b"Content-Length: 5\r\n\r\n" + DATA[5:10]],
        [PART.replace(b"1.1", b"1.0") + b"Content-Length: 5\r\n\r\n" + DATA[5:10]],
        [PART + b"Content-Length: 5\r\n\r\n" + DATA[5:10] + b"surplus"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 256000\r\n\r\n" + DATA],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + DATA[:8]],
        [b"HTTP/1.0 200 OK\r\n\r\n" + DATA],
        [b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"6\r\n" + DATA[:6] + b"\r\n2\r\n" + DATA[6:8] + b"\r\n0\r\n\r\n"],
    ],
    ids=range(13),
)  # fmt: skip
def test_valid_answers_give_their_bytes(shared: tuple[RawListener, S3Store], pieces: list[bytes]) -> None:
    server, store = shared
    server.answer = saying(*pieces)
    whole = b"".join(pieces)
    short = b"Length: 8" in whole or b"\r\n2\r\n" + DATA[6:8] in whole
    assert store.get("key", offset=5, length=5) == (DATA[5:8] if short else DATA[5:10])


def test_bodies_of_all_sizes_around_the_buffers_arrive(serve: Callable[[Write], RawListener]) -> None:
    data = os.urandom(1 << 18)

    def answer(connection: socket.socket, head: bytes) -> bool:
        first, last = map(int, head.partition(b"bytes=")[2].partition(b"\r\n")[0].split(b"-"))
        body = data[first : last + 1]
        told = f"HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{len(data)}\r\n".encode()
        if first % 2:
            connection.sendall(told + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        else:
            connection.sendall(told + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return True

    server = serve(answer)
    store = a_store()
    for size in (1, 2, 65_000, 65_400, 65_535, 65_536, 65_537, 131_072, 200_000):
        for first in (0, 1):
            assert store.get("key", offset=first, length=size) == data[first : first + size]
            found = store.get("key", offset=first, length=size)
            assert type(found) is bytes
    assert len(server.connections) == 1  # kept all the time


# --- no bytes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 206\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        PART + b"Content-Length: 5\r\n\r\nhell",
        PART + b"Content-Length: 4\r\n\r\nhell",
        PART + b"Content-Length: 6\r\n\r\nhello!",
        PART + b"Content-Length: 99999999999999999999\r\n\r\nhello",
        PART + b"Content-Length: -5\r\n\r\nhello",
        PART + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        PART + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PART + b"Content-Range: bytes 6-10/256000\r\nContent-Length: 5\r\n\r\nhello",
        PART + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        PART + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n0\r\n\r\n",
        PART + b"Transfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n",
        PART + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
        PART + b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PART + b"Transfer-Encoding: gzip\r\n\r\nhello",
        PART.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        PART + b"Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 4\r\n\r\nhell",
        b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
        PART + b"\r\nhell",
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 4-8/256000\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-8/256000\r\nContent-Length: 4\r\n\r\nhell",
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 5-10/256000\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 9-5/256000\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 206 P\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 N\r\n\r\n",
        b"HTTP/1.1 201 C\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 299 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_answers_that_are_not_whole_or_not_what_was_asked_are_errors(
    shared: tuple[RawListener, S3Store], answer: bytes
) -> None:
    server, store = shared
    server.answer = saying(answer)
    with pytest.raises((RemoteProtocol, RemoteUnavailable)) as caught:
        store.get("key", offset=5, length=5)
    assert "s3://bucket/key" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
    ],
)
def test_whole_objects_need_their_length(shared: tuple[RawListener, S3Store], answer: bytes) -> None:
    server, store = shared
    server.answer = saying(answer)
    with pytest.raises((RemoteProtocol, RemoteUnavailable)):
        store.get("key")


@pytest.mark.parametrize(
    ("told", "is_whole"), [("5-9/10", True), ("5-9/11", False), ("5-9/*", False), ("4-9/10", False)]
)
def test_the_rest_of_an_object_is_all_of_it(shared: tuple[RawListener, S3Store], told: str, is_whole: bool) -> None:
    server, store = shared
    server.answer = saying(f"HTTP/1.1 206 P\r\nContent-Range: bytes {told}\r\nContent-Length: 5\r\n\r\nhello".encode())
    if is_whole:
        assert store.get("key", offset=5) == b"hello"
    else:
        with pytest.raises(RemoteProtocol):
            store.get("key", offset=5)


# --- never more ----------------------------------------------------------------------------------------------


def endlessly(start: bytes, block: bytes) -> Write:
    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(start)
        while True:
            connection.sendall(block)

    return answer


@pytest.mark.parametrize(
    ("start", "block", "error"),
    [
        (b"HTTP/1.1 403 F\r\nContent-Length: 104857600\r\n\r\n", b"x" * 65536, AccessDenied),
        (b"HTTP/1.1 403 F\r\n" + CHUNKED, CHUNK, AccessDenied),
        (b"HTTP/1.0 403 F\r\n\r\n", b"x" * 65536, AccessDenied),
        (b"HTTP/1.1 200 O\r\n" + CHUNKED, CHUNK, ObjectTooLarge),
        (b"HTTP/1.1 200 O\r\nContent-Length: 104857600\r\n\r\n", b"x" * 65536, ObjectTooLarge),
        (b"HTTP/1.1 200 O\r\nX: ", b"x" * 65536, RemoteProtocol),
        (b"HTTP/1.1 200 O\r\n", b"X: y\r\n" * 10000, RemoteProtocol),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, RemoteProtocol),
        (b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x" * 65536, RemoteProtocol),
        (b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 65536, RemoteProtocol),
    ],
    ids=[
        "error", "error in chunks", "error without a length", "chunks", "length", "header", "headers",
        "interim answers", "chunk extension", "trailer",
    ],
)  # fmt: skip
def test_answers_without_an_end_cost_no_memory(
    shared: tuple[RawListener, S3Store], start: bytes, block: bytes, error: type[RemoteError]
) -> None:
    server, store = shared
    server.answer = endlessly(start, block)
    server.closed = threading.Semaphore(0)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            store.get("key", at_most=1 << 20)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20
    assert server.closed.acquire(timeout=60)  # nothing is read on


def test_an_error_of_a_put_is_bounded_too(serve: Callable[[Write], RawListener]) -> None:
    serve(endlessly(b"HTTP/1.1 403 F\r\nContent-Length: 104857600\r\n\r\n", b"x" * 65536))
    store = a_store()
    bucket = store._open()
    tracemalloc.start()
    try:
        with pytest.raises(AccessDenied):
            bucket._create_small(bucket._address("key"), b"x", {})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20


# --- connections ---------------------------------------------------------------------------------------------

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_connections_are_kept_and_replaced_once_the_server_has_closed_them(
    serve: Callable[[Write], RawListener],
) -> None:
    """A kept connection may be closed at any moment, also after the next request is on its way: no failure."""
    answered: list[int] = []

    def answer(connection: socket.socket, _: bytes) -> bool:
        heads = len(server.connections[-1])
        if heads == 3:
            return False  # closed without a word
        answered.append(heads)
        connection.sendall(HELLO)
        return True

    server = serve(answer)
    store = a_store(attempts=1)
    assert [store.get("key") for _ in range(5)] == [b"hello"] * 5
    assert [len(heads) for heads in server.connections] == [3, 3, 1]


def test_a_new_connection_that_is_closed_is_a_failure(serve: Callable[[Write], RawListener]) -> None:
    server = serve(lambda *_: False)
    with pytest.raises(RemoteUnavailable, match="the connection broke"):
        a_store(attempts=2).get("key")
    assert len(server.connections) == 2


@pytest.mark.parametrize("answer", [HELLO + b"HTTP/1.1 200 OK\r\n", HELLO.replace(b"OK", b"OK\r\nConnection: close")])
def test_a_connection_with_more_on_it_or_told_to_close_is_not_used_again(
    serve: Callable[[Write], RawListener], answer: bytes
) -> None:
    server = serve(saying(answer, stays=True))
    store = a_store()
    assert [store.get("key"), store.get("key")] == [b"hello"] * 2
    assert [len(heads) for heads in server.connections] == [1, 1]


def test_what_comes_unasked_on_a_kept_connection_is_no_answer(serve: Callable[[Write], RawListener]) -> None:
    told = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(HELLO)
        if len(server.connections) == 1:
            told.wait(60)
            connection.sendall(HELLO.replace(b"hello", b"WRONG"))
        return True

    server = serve(answer)
    store = a_store()
    assert store.get("key") == b"hello"
    told.set()
    assert server.closed.acquire(timeout=60)
    assert store.get("key") == b"hello"
    assert len(server.connections) == 2


def test_cancelling_a_read_closes_its_connection(serve: Callable[[Write], RawListener]) -> None:
    asked = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhel")
        asked.set()
        return True  # and waits for another request

    server = serve(answer)
    store = a_store()
    reads = store.open_reads(lambda _: None)
    reads.submit([Wanted(1, "key", None, 0, 1_000_000)])
    assert asked.wait(60)
    reads.cancel([1])
    assert server.closed.acquire(timeout=60)
    reads.close()


def test_connections_are_closed_with_their_store(serve: Callable[[Write], RawListener]) -> None:
    server = serve(saying(HELLO, stays=True))
    store = a_store()
    assert store.get("key") == b"hello"
    del store
    assert server.closed.acquire(timeout=60)


def test_a_server_that_takes_no_bytes_is_given_up(serve: Callable[[Write], RawListener]) -> None:
    """It answered in the middle of an upload: the answer counts, and the connection is not used again."""
    done = threading.Event()

    def answer(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n")
        done.wait(60)
        return False

    serve(answer)
    bucket = a_store()._open()
    with pytest.raises(AccessDenied):
        bucket._create_small(bucket._address("key"), bytes(8 << 20), {})
    done.set()


class Uploading(asyncio.Transport):
    """A transport whose other side takes what was written bit by bit."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 100
        self.aborted = False

    def write(self, data: object) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


def test_an_upload_that_goes_on_is_no_silence() -> None:
    async def upload() -> None:
        connection = Connection(Limits(1, 30, 60), memoryview(bytearray(10)))
        transport = Uploading()
        connection.connection_made(transport)
        answer = connection.ask(b"head", b"body", lambda _: Room(0))
        for transport.unsent in range(90, 0, -10):
            connection._heard_at -= 1000
            connection._watch()
            assert not transport.aborted
        connection._heard_at -= 1000
        connection._watch()
        assert transport.aborted
        with pytest.raises(ExchangeFailure, match="silence"):
            await answer

    asyncio.run(upload())


# --- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a\udc80", "\ud800"])
def test_keys_that_no_object_can_have(serve: Callable[[Write], RawListener], key: str) -> None:
    server = serve(saying(HELLO))
    with pytest.raises(RemoteProtocol, match="no object can have the key"):
        a_store().get(key)
    assert isinstance(read_async(a_store(), key), RemoteProtocol)
    assert server.connections == []


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_credentials_with_line_breaks_add_no_headers(
    serve: Callable[[Write], RawListener], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "x\r\nX-Evil: y")
    server = serve(saying(HELLO))
    with pytest.raises(AccessDenied, match="line breaks"):
        a_store().get("key")
    assert server.connections == []
