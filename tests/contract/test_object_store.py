"""What every ObjectStore does, whatever is behind it."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from fusepkg.errors import BucketNotFound, ObjectExists, ObjectMissing, ObjectTooLarge, RemoteError
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.store.directory import DirectoryStore
from fusepkg.store.opening import StoreSet
from fusepkg.store.s3 import S3Settings, S3Store
from tests.contract.stores import ODD_KEYS, in_threads, keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.store.protocol import ObjectStore
    from tests.contract.stores import Subject

S3 = pytest.mark.s3


# --- get -----------------------------------------------------------------------------------------------------


def test_whole_object(store: ObjectStore) -> None:
    store.create("a/b.txt", b"hello")
    assert store.get("a/b.txt") == b"hello"
    assert type(store.get("a/b.txt")) is bytes


@pytest.mark.parametrize(
    ("offset", "length", "found"),
    [
        (0, 10, b"0123456789"),
        (0, 3, b"012"),
        (3, 4, b"3456"),
        (9, 1, b"9"),
        (3, None, b"3456789"),
        (0, 0, b""),
        (5, 0, b""),
        (8, 10, b"89"),
        (0, 1000, b"0123456789"),
        (10, 1, b""),
        (10, None, b""),
        (500, 10, b""),
        (500, None, b""),
    ],
)
def test_ranges_give_what_is_there(store: ObjectStore, offset: int, length: int | None, found: bytes) -> None:
    store.create("digits", b"0123456789")
    assert store.get("digits", offset=offset, length=length) == found


def test_empty_object(store: ObjectStore) -> None:
    store.create("empty", b"")
    assert store.get("empty") == b""
    assert store.get("empty", offset=0, length=10) == b""
    assert store.head("empty").size == 0
    assert list(store.stream("empty", piece_bytes=10)) == []


def test_more_than_is_accepted_is_refused(store: ObjectStore) -> None:
    store.create("a", bytes(1000))
    assert store.get("a", at_most=1000) == bytes(1000)
    assert store.get("a", at_most=900, offset=100) == bytes(900)
    assert store.get("a", at_most=1, length=1000) == bytes(1000)
    for offset, at_most in ((0, 999), (0, 0), (100, 899)):
        with pytest.raises(ObjectTooLarge, match=f"a is larger than the {at_most} bytes"):
            store.get("a", at_most=at_most, offset=offset)


def test_missing_object(store: ObjectStore) -> None:
    store.create("there/file", b"x")
    for key in ("missing", "there", "there/file/below", "there/fil"):
        with pytest.raises(ObjectMissing, match=key.rpartition("/")[2]):
            store.get(key)
        with pytest.raises(ObjectMissing):
            store.get(key, offset=3, length=5)
        with pytest.raises(ObjectMissing):
            store.head(key)
        with pytest.raises(ObjectMissing):
            list(store.stream(key, piece_bytes=10))


def test_missing_version(store: ObjectStore) -> None:
    store.create("a", b"x")
    with pytest.raises(ObjectMissing):
        store.get("a", version="2lAX2KawhMcttJrMOYfyeW-AJ.HZB-Q")


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 1000, 1001])
def test_stream_in_exact_pieces(store: ObjectStore, piece_bytes: int) -> None:
    data = bytes(range(250)) * 4
    store.create("a", data)
    pieces = list(store.stream("a", piece_bytes=piece_bytes))
    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[:-1]} <= {piece_bytes}
    assert 0 < len(pieces[-1]) <= piece_bytes


def test_an_abandoned_stream_leaves_the_store_usable(store: ObjectStore) -> None:
    store.create("a", os.urandom(3_000_000))
    stream = store.stream("a", piece_bytes=1000)
    assert len(next(iter(stream))) == 1000
    stream.close()  # type: ignore[attr-defined]
    assert len(store.get("a", length=5)) == 5


# --- odd keys ------------------------------------------------------------------------------------------------

NO_PATHS = ["/a", "a/", "a//b", "./a", "a/.", "../a", "a/../b", "/", "..", "//"]
"""Keys that S3 has and directories have not."""


def test_odd_keys_round_trip(store: ObjectStore) -> None:
    for number, key in enumerate(ODD_KEYS):
        store.create(key, b"%d" % number)
    for number, key in enumerate(ODD_KEYS):
        assert store.get(key) == b"%d" % number, key
        assert store.get(key, offset=0, length=100) == b"%d" % number, key
        assert b"".join(store.stream(key, piece_bytes=10)) == b"%d" % number, key
        assert store.head(key).key == key
        assert keys(store, key)[0] == key
    assert keys(store, "") == sorted(ODD_KEYS, key=str.encode)


def test_keys_that_are_no_paths_round_trip_or_are_refused(subject: Subject) -> None:
    for key in NO_PATHS:
        if subject.kind == "directory":
            with pytest.raises(RemoteError, match="cannot be written"):
                subject.store.create(key, b"x")
            with pytest.raises((ObjectMissing, BucketNotFound)):
                subject.store.get(key)
        else:
            subject.store.create(key, key.encode())
    if subject.kind == "directory":
        return
    for key in NO_PATHS:
        assert subject.store.get(key) == key.encode()
        assert subject.store.get(key, offset=0, length=1) == key[:1].encode()
        assert subject.store.head(key).size == len(key)
    assert keys(subject.store, "") == sorted(NO_PATHS)


def test_url_is_the_physical_key(subject: Subject, tmp_path: Path) -> None:
    keys = [key for key in ODD_KEYS if len(key) < 100]
    infos = [subject.store.create(key, b"at " + key.encode()) for key in keys]
    stores = StoreSet(S3Settings(), tmp_path)
    for info in infos:
        physical_key = parse_physical_key(subject.store.url(info.key, info.version))
        assert physical_key.version == info.version
        if "s3" in subject.kind or subject.kind == "directory":
            found, key = stores.for_key(physical_key)
            assert found.get(key, version=physical_key.version) == b"at " + info.key.encode()


def test_a_signed_url_is_enough(subject: Subject) -> None:
    info = subject.store.create("a b/ü+%20?x=1&y#.txt", b"secret")
    for version in {None, info.version}:
        url = subject.store.sign_url(info.key, version=version, expires_s=60)
        if url.startswith("http"):
            with urlopen(url) as answer:
                assert answer.read() == b"secret"
        else:
            assert url == subject.store.url(info.key, version)


def test_a_name_may_be_file_and_directory(store: ObjectStore) -> None:
    store.create("a", b"file first")
    store.create("a/b", b"then below it")
    store.create("c/d", b"below it first")
    store.create("c", b"then the file")
    with pytest.raises(ObjectExists):
        store.create("c", b"again")
    with pytest.raises(ObjectExists):
        store.create("a/b", b"again")
    assert [(key, store.get(key)) for key in keys(store, "")] == [
        ("a", b"file first"),
        ("a/b", b"then below it"),
        ("c", b"then the file"),
        ("c/d", b"below it first"),
    ]
    store.overwrite("c", b"new")
    store.overwrite("a/b", b"newer")
    assert (store.get("c"), store.get("c/d"), store.get("a"), store.get("a/b")) == (
        b"new",
        b"below it first",
        b"file first",
        b"newer",
    )


# --- list ----------------------------------------------------------------------------------------------------


def test_list_in_byte_order_with_prefix_and_limit(store: ObjectStore) -> None:
    names = ["a", "a-", "a/b", "a/b/c", "a0", "ab", "b", "\u00e9", "\uffee", "\U0001f600", "Z", "a/B", "a.b/c", "a/b.c"]
    for name in names:
        store.create(name, name.encode())
    ordered = sorted(names, key=str.encode)
    assert keys(store, "") == ordered
    for prefix in ("a", "a/", "a/b", "a/b/", "a.", "\u00e9", "nothing", "a/b/c", "a/b/c/"):
        assert keys(store, prefix) == [name for name in ordered if name.startswith(prefix)], prefix
    assert keys(store, "a", 3) == ["a", "a-", "a.b/c"]
    assert keys(store, "a", 0) == []
    assert {info.key: info.size for info in store.list("a/b")} == {"a/b": 3, "a/b.c": 5, "a/b/c": 5}


def test_list_of_more_than_a_page(store: ObjectStore, small_pages: int) -> None:
    names = [f"page/{number:04}" for number in range(2 * small_pages + 10)]
    in_threads(8, lambda name: store.overwrite(name, b""), names)
    store.create("page0", b"")
    assert keys(store, "page/") == names
    assert keys(store, "page/", small_pages + 5) == names[: small_pages + 5]
    assert len(keys(store, "")) == len(names) + 1


def test_directories_are_listed_once_each(store: ObjectStore) -> None:
    for name in ("a/b/c", "a/b/d/e", "a/b", "a-/x", "ab/y", "c", "\u00e9/z", "a b+%/x", "n" * 300 + "/x"):
        store.create(name, b"")
    expected = {
        "": ["a b+%/", "a-/", "a/", "ab/", "n" * 300 + "/", "\u00e9/"],
        "a": ["a b+%/", "a-/", "a/", "ab/"],
        "a/": ["a/b/"],
        "a/b": ["a/b/"],
        "a/b/": ["a/b/d/"],
        "a/b/d/": [],
        "c": [],
        "nothing/": [],
    }
    assert {prefix: list(store.list_directories(prefix)) for prefix in expected} == expected


def test_directories_of_more_than_a_page(store: ObjectStore, small_pages: int) -> None:
    names = [f"page/{number:04}/x" for number in range(2 * small_pages + 10)]
    in_threads(8, lambda name: store.overwrite(name, b""), names)
    assert list(store.list_directories("page/")) == [name[:-1] for name in names]


def test_list_with_a_prefix_no_answer_can_repeat(store: ObjectStore) -> None:
    store.create("below/a", b"")
    assert keys(store, "below/\x01") == []
    assert list(store.list_directories("below/\x01")) == []


# --- create and overwrite ------------------------------------------------------------------------------------


def test_create_keeps_what_is_there(store: ObjectStore) -> None:
    first = store.create("a", b"first", metadata={"who": "one"})
    for _ in range(2):
        with pytest.raises(ObjectExists, match="a"):
            store.create("a", b"second", metadata={"who": "two"})
    assert store.get("a") == b"first"
    assert store.head("a") == first
    assert first.metadata == {"who": "one"}


def test_one_of_many_creators_wins(store: ObjectStore) -> None:
    racers = 8
    barrier = Barrier(racers)

    def race(key: str, number: int) -> int | None:
        barrier.wait()
        try:
            store.create(key, b"%d" % number)
        except ObjectExists:
            return None
        return number

    for key in ("race/1", "race/2", "race/3"):
        won = [number for number in in_threads(racers, race, [key] * racers, range(racers)) if number is not None]
        assert len(won) == 1
        assert store.get(key) == b"%d" % won[0]


def test_overwrite(store: ObjectStore) -> None:
    first = store.overwrite("a", b"first", metadata={"n": "1"})
    second = store.overwrite("a", b"second!")
    assert (first.size, second.size) == (5, 7)
    assert store.get("a") == b"second!"
    assert store.head("a") == second
    assert second.metadata == {}


def test_overwrite_with_a_large_file(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(1_000_003) * 18
    source = tmp_path / "source"
    source.write_bytes(data)
    info = store.overwrite("large", source, metadata={"name": "value"})
    assert info.size == len(data)
    assert store.get("large", version=info.version, at_most=len(data)) == data
    assert store.get("large", offset=8_388_600, length=20) == data[8_388_600:8_388_620]
    assert b"".join(store.stream("large", piece_bytes=5_000_000)) == data
    assert store.head("large") == info


def test_create_from_a_file(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(9_000_000)
    source = tmp_path / "source"
    source.write_bytes(data)
    assert store.create("file", source).size == len(data)
    assert store.get("file") == data
    source.write_bytes(b"small")
    store.create("small", source)
    assert store.get("small") == b"small"
    with pytest.raises(FileNotFoundError):
        store.create("none", tmp_path / "none")


def test_create_from_a_large_file(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(1_000_003) * 18
    source = tmp_path / "source"
    source.write_bytes(data)
    assert store.create("large", source).size == len(data)
    assert store.get("large", offset=17_000_000, length=100) == data[17_000_000:17_000_100]
    with pytest.raises(ObjectExists):
        store.create("large", source)


def test_versions(subject: Subject) -> None:
    store = subject.store
    first, second = store.overwrite("a", b"first"), store.overwrite("a", b"second")
    if not subject.versioned:
        assert first.version is None
        assert second.version is None
        return
    assert first.version
    assert second.version
    assert first.version != second.version
    assert store.get("a") == b"second"
    assert store.get("a", version=first.version) == b"first"
    assert store.get("a", version=first.version, offset=1, length=3) == b"irs"
    assert b"".join(store.stream("a", version=first.version, piece_bytes=4)) == b"first"
    assert store.head("a", version=first.version) == first
    assert [info.key for info in store.list("")] == ["a"]


def test_metadata_round_trip(store: ObjectStore) -> None:
    metadata = {
        "plain": "value",
        "with-dash": "a; b, c=\"d\" 'e'",
        "unicode": "Gr\u00fc\u00dfe \u65e5\u672c \U0001f600",
        "percent": "50%20 100%",
        "blanks": "  both ends ",
        "control": "line\nbreak\tand tab",
        "empty": "",
    }
    assert store.create("a", b"x", metadata=metadata).metadata == metadata
    assert store.head("a").metadata == metadata
    assert store.overwrite("b", b"x", metadata=metadata).metadata == metadata
    assert store.head("b").metadata == metadata
    assert [dict(info.metadata) for info in store.list("")] == [{}, {}]


# --- buckets that are not there ------------------------------------------------------------------------------


@pytest.fixture(params=["directory", pytest.param("s3", marks=S3)])
def missing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "missing")
    else:
        request.getfixturevalue("s3")
        yield S3Store("no-such-bucket-anywhere", S3Settings())


def test_reading_from_no_bucket(missing: ObjectStore) -> None:
    with pytest.raises(BucketNotFound):
        missing.get("a")
    with pytest.raises(BucketNotFound):
        list(missing.list(""))
    with pytest.raises(BucketNotFound):
        list(missing.stream("a", piece_bytes=5))
