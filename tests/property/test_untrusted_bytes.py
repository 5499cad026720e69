"""Whatever a bucket, a server or another program of the user says: a value that makes sense, or an error with a name.

Manifests are in test_manifest.py, the cache's files in test_cache_damage.py. Bytes are valid ones in which something
was changed, cut off or put in, as well as any others.
"""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest
from fusepkg_cache.digest import Algorithm, Digest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusepkg.daemon.records import MountRecord
from fusepkg.errors import DigestMismatch, FusepkgError, PackTableInvalid, UnsupportedFormat
from fusepkg.packs.pack import EntrySpan
from fusepkg.packs.table import PackedSpan, read_table, write_table
from fusepkg.registry.layout import chunk_list_key
from fusepkg.registry.manifests import get_chunk_list
from fusepkg.registry.tags import _parse_move
from fusepkg.store.memory import MemoryStore
from tests.unit.store.s3.servers import RawListener, a_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.store.s3 import S3Store

TOP_HASH = "ab" * 32
TABLE = write_table(TOP_HASH, [PackedSpan("cd" * 32, EntrySpan(0, 3)), PackedSpan("ef" * 32, EntrySpan(5, 2))])
MOVE_KEY = ".quilt/tags/p/v1/9999999998.json"
MOVE = (
    b'{"hash": "' + TOP_HASH.encode() + b'", "previous": null, "time": "2026-01-01T00:00:00Z", "message": "m", '
    b'"publisher": "p"}'
)
CHUNKS = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
CHUNKED = Digest(Algorithm.SHA2_256_CHUNKED, hashlib.sha256(b"".join(CHUNKS)).digest())
ANSWER = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/100\r\nContent-Length: 5\r\nETag: x\r\n\r\nhello"


@st.composite
def like(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes that are almost those, or any."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        data[start:end] = draw(st.binary(max_size=8) | st.sampled_from([b"-1", b"9" * 30, b"[" * 50, b"null", b"\xff"]))
    return bytes(data)


@given(like(TABLE))
def test_a_table_of_packs(data: bytes) -> None:
    try:
        found = read_table(data, TOP_HASH, 7)
    except PackTableInvalid:
        return
    end = 0
    for packed in found:
        assert packed.span.first >= end
        end = packed.span.first + packed.span.entries
        assert end <= 7
        assert len(bytes.fromhex(packed.pack)) == 32


@given(like(MOVE))
def test_the_move_of_a_tag(data: bytes) -> None:
    try:
        move = _parse_move(MOVE_KEY, data)
    except UnsupportedFormat:
        return
    assert len(bytes.fromhex(move.top_hash)) == 32


@given(like(b"".join(CHUNKS)))
def test_a_list_of_chunks(data: bytes) -> None:
    store = MemoryStore()
    store.create(chunk_list_key(CHUNKED), data)
    try:
        assert get_chunk_list(store, CHUNKED) == CHUNKS
    except DigestMismatch:
        assert data != b"".join(CHUNKS)


@given(st.text(max_size=80))
def test_a_key_that_is_no_move(key: str) -> None:
    with pytest.raises(UnsupportedFormat):
        _parse_move(key, MOVE)


@given(st.binary(max_size=100))
def test_a_record_of_a_mount(data: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):  # which read_records passes over
        msgspec.json.decode(data, type=MountRecord)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[RawListener, S3Store]]:
    listener = RawListener(lambda _connection, _request: False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "x")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        store = a_store(endpoint_url=listener.url)
        store._open()
    yield listener, store
    listener.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=like(ANSWER))
def test_an_answer_over_http(server: tuple[RawListener, S3Store], answer: bytes) -> None:
    listener, store = server

    def say(connection: socket.socket, _request: bytes) -> bool:
        connection.sendall(answer)
        return False

    listener.answer = say
    try:
        found = store.get("key", offset=5, length=5)
    except FusepkgError:
        return
    assert len(found) <= 5
