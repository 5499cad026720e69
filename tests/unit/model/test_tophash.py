from __future__ import annotations

import io
import json
import warnings

import pytest

from fusepkg.model.entry import Entry
from fusepkg.model.tophash import TopHash, canonical_json
from tests.manifests import file_entry, in_order, manifest_of, top_hash_of


def quilt3_hash(entries: list[Entry], header: dict[str, object]) -> str:
    with warnings.catch_warnings(action="ignore"):
        from quilt3 import Package
    result: str = Package.load(io.StringIO(manifest_of(entries, header).decode(), newline="\n")).top_hash
    return result


def test_the_hash_of_a_header_alone() -> None:
    expected = "2a5a67156ca9238c14d12042db51c5b52260fdd5511b61ea89b58929d6e1769b"
    assert TopHash({"version": "v0", "message": None}).hexdigest() == expected
    assert TopHash({"message": None, "top_hash": "old", "version": "v0"}).hexdigest() == expected


@pytest.mark.parametrize(
    "header",
    [
        {"version": "v0"},
        {"version": "v0", "message": None, "user_meta": None},
        {"version": "v0", "message": "", "user_meta": {}},
        {"version": "v0", "message": "é😀\n\x7f/", "user_meta": {"z": 1, "a": {"😀": [], "ÿ": None}}},
        {"version": "v0", "workflow": {"id": None, "config": "s3://b/c?versionId=1"}, "unknown": [True, False]},
    ],
)
def test_headers_hash_as_in_quilt3(header: dict[str, object]) -> None:
    assert TopHash(header).hexdigest() == quilt3_hash([], header)


def test_entries_hash_as_in_quilt3() -> None:
    floats = [1.0, 1, 1e-7, 1e16, 1e22, 1e15, -0.0, 0.1, 5e-324, 10**40, -3, True, None]
    metas: list[dict[str, object]] = [
        {},
        {"user_meta": {}},
        {"user_meta": {"floats": floats}},
        {"user_meta": {"b": 1, "a": 2, "😀": 3, "ﬀ": 4}, "format": {"name": "json"}},
    ]
    keys = ["a/b", "a b", "a!/x", "a-b", "a.b", "a0", "é/日", "😀", "ﬀ", 'q"\\\n\x01\x7f', "z"]
    entries = [file_entry(key, key.encode(), meta=metas[n % len(metas)]) for n, key in enumerate(keys)]
    assert top_hash_of(entries) == quilt3_hash(entries, {"version": "v0", "message": None})
    assert top_hash_of(entries[::-1]) == top_hash_of(entries)


def test_absent_null_and_empty_are_four_different_hashes() -> None:
    headers: list[dict[str, object]] = [{"version": "v0"}] + [
        {"version": "v0", "user_meta": value} for value in (None, {}, "")
    ]
    assert len({TopHash(header).hexdigest() for header in headers}) == 4


def test_where_bytes_lie_is_no_part_of_the_hash() -> None:
    entry = file_entry("a", b"1")
    elsewhere = Entry("a", file_entry("b").physical_key, entry.size, entry.digest)
    assert top_hash_of([entry]) == top_hash_of([elsewhere])
    assert top_hash_of([entry]) != top_hash_of([file_entry("a", b"2")])


def test_entries_out_of_order_are_a_mistake_of_the_caller() -> None:
    top_hash = TopHash({"version": "v0"})
    for entry in in_order([file_entry("a/b"), file_entry("a!")]):
        top_hash.update(entry)
    for key in ("a!", "a/b"):
        with pytest.raises(ValueError, match="tree order"):
            top_hash.update(file_entry(key))


def test_canonical_json_is_ascii_and_takes_what_hashing_takes() -> None:
    value = {"b": float("inf"), "a": "é😀", "n": float("nan")}
    assert canonical_json(value) == '{"a":"\\u00e9\\ud83d\\ude00","b":Infinity,"n":NaN}'
    assert json.loads(canonical_json(value))["a"] == "é😀"
