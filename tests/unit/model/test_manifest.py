from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fusepkg_cache.digest import CRC_BYTES, Algorithm, compute_digest

from fusepkg.errors import ManifestInvalid, UnsupportedFormat
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import (
    MAX_LINE_BYTES,
    OutOfOrder,
    in_tree_order,
    read_manifest,
    sorted_in_tree_order,
    write_directory,
    write_entry,
    write_header,
)
from fusepkg.model.record import DirectoryRecord, EntryRecord
from fusepkg.model.tophash import hash_object
from tests.manifests import HEADER, file_entry, in_order, manifest_of, symlink_entry

HEAD = b'{"version": "v0", "message": null}\n'
HASH = '{"type": "sha2-256-chunked", "value": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}'


def line(**changes: Any) -> bytes:
    """The line of a good entry, with changed fields; None leaves a field out."""
    fields = {"logical_key": '"a"', "physical_keys": '["s3://b/k"]', "size": "0", "hash": HASH, "meta": "{}"} | changes
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in fields.items() if text is not None) + "}\n").encode()


def records(*lines: bytes, head: bytes = HEAD, allow_file_keys: bool = False) -> list[EntryRecord | DirectoryRecord]:
    return list(read_manifest([head, *lines], allow_file_keys=allow_file_keys).records)


def entries(*lines: bytes, allow_file_keys: bool = False) -> list[Entry]:
    found = records(*lines, allow_file_keys=allow_file_keys)
    return [record.entry() for record in found if isinstance(record, EntryRecord)]


def refusal(data: bytes) -> ManifestInvalid:
    with pytest.raises(ManifestInvalid) as caught:
        list(in_tree_order(read_manifest([data], allow_file_keys=False).records, {}))
    return caught.value


# --- writing -------------------------------------------------------------------------------------------------


def test_lines_are_those_quilt3_writes() -> None:
    written = in_order(
        [
            file_entry("a/b", b"1"),
            file_entry('é/日\n"\\\x7f', b"2", meta={"user_meta": {"z": [1.0, 1e-7, None, "é"], "a": {}}}),
            Entry("s", file_entry("x y+%é").physical_key, 10**15, file_entry("s").digest),
        ]
    )
    header = {"version": "v0", "user_meta": {"é": 1}, "message": None}
    text = manifest_of(written, header)
    with warnings.catch_warnings(action="ignore"):
        from quilt3 import Package
    out = io.StringIO()
    Package.load(io.StringIO(text.decode(), newline="\n")).dump(out)
    assert out.getvalue().encode() == text


def test_what_is_written_can_be_read() -> None:
    written = [file_entry("a", b"1", meta={"user_meta": {"k": "\x00😀"}}), symlink_entry("b", "a")]
    reader = read_manifest([manifest_of(written)], allow_file_keys=False)
    assert reader.header == HEADER
    found = list(reader.records)
    assert [record.line for record in found] == [2, 3]
    assert [record.entry() for record in found if isinstance(record, EntryRecord)] == written


def test_directory_metadata_is_kept() -> None:
    found = records(write_directory("d/é/", {"é": 1}), line(logical_key='"d/é/a"'))
    assert found[0] == DirectoryRecord(2, "d/é/", {"é": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\ud800", "x" * MAX_LINE_BYTES])
def test_metadata_that_could_not_be_read_is_not_written(value: object) -> None:
    with pytest.raises(ManifestInvalid):
        write_entry(file_entry("a", meta={"user_meta": value}))
    with pytest.raises(ManifestInvalid):
        write_header(HEADER | {"user_meta": {"k": value}})


def test_keys_and_headers_that_could_not_be_read_are_not_written() -> None:
    for key in ("../a", "a//b", "/a", "\ud800"):
        with pytest.raises(ManifestInvalid):
            write_entry(file_entry("x").__class__(key, file_entry("x").physical_key, 0, file_entry("x").digest))
    with pytest.raises(ManifestInvalid, match="version"):
        write_header({"version": "v1"})
    assert write_header({"top_hash": "x", "version": "v0"}) == b'{"version": "v0"}\n'


# --- what is accepted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        line(),
        line().replace(b"\n", b"\r\n"),
        line().rstrip(b"\n"),
        json.dumps(json.loads(line()), separators=(",", ":")).encode(),
        json.dumps(dict(reversed(json.loads(line()).items()))).encode(),
        line(meta="null"),
        line(extra="[1, 2]"),
        line(physical_keys='["s3://b/k", "s3://other/k"]'),
        line(logical_key='"\\u0061"'),
        b"  " + line(),
    ],
)
def test_spellings_that_mean_the_same(text: bytes) -> None:
    assert entries(text) == entries(line())
    assert [record.canonical for record in records(text) if isinstance(record, EntryRecord)] == [
        record.canonical for record in records(line()) if isinstance(record, EntryRecord)
    ]


def test_headers_may_hold_more() -> None:
    header = b'{"version": "v0", "new": [1], "top_hash": "x", "message": "m", "user_meta": null}\n'
    assert read_manifest([header], allow_file_keys=False).header == {
        "version": "v0",
        "new": [1],
        "message": "m",
        "user_meta": None,
    }


def test_plain_sha256_is_read() -> None:
    (entry,) = entries(line(hash='{"type": "SHA256", "value": "' + "0f" * 32 + '"}'))
    assert entry.digest.hex == "0f" * 32


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 64, 10_000])
def test_pieces_may_be_cut_anywhere(piece_bytes: int) -> None:
    text = manifest_of([file_entry(f"é{n}", b"x") for n in range(9)])
    pieces = [text[at : at + piece_bytes] for at in range(0, len(text), piece_bytes)]
    found = list(read_manifest(pieces, allow_file_keys=False).records)
    assert found == list(read_manifest([text], allow_file_keys=False).records)
    assert len(found) == 9


def test_files_of_this_machine_are_for_local_manifests_only() -> None:
    for text in (line(physical_keys='["file:///a"]'), line(physical_keys='["file:///a"]', extra="1")):
        assert entries(text, allow_file_keys=True)[0].physical_key.key == "/a"
        with pytest.raises(ManifestInvalid, match="file of this machine") as caught:
            entries(text)
        assert caught.value.line == 2


# --- what is refused -----------------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000

BROKEN_RECORDS = {
    "not JSON": (b"hello\n", "not JSON"),
    "not UTF-8": (b'{"logical_key": "\xff"}\n', "not UTF-8"),
    "not UTF-8 in a standard line": (line().replace(b'"a"', b'"\xff"'), "not UTF-8"),
    "a surrogate in UTF-8": (line().replace(b'"a"', b'"\xed\xa0\x80"'), "not UTF-8"),
    "an array": (b"[]\n", "object"),
    "a number": (b"1\n", "object"),
    "too deep": (line(meta='{"a": ' + DEEP + "}"), "nested"),
    "too long": (line(meta='{"a": "' + "x" * MAX_LINE_BYTES + '"}'), "longer"),
    "blank": (b"\n", "blank"),
    "spaces only": (b" \t\r\n", "blank"),
    "control character": (line(logical_key='"a\tb"'), "not JSON"),
    "NaN": (line(meta='{"a": NaN}'), "not JSON"),
    "a number of 5000 digits": (line(size="1" * 5000), "not JSON"),
    "no logical_key": (line(logical_key=None), "logical_key"),
    "no size": (line(size=None), "size"),
    "no hash": (line(hash=None), "hash"),
    "no meta": (line(meta=None), "meta"),
    "no physical_keys": (line(physical_keys=None), "physical_keys"),
    "empty physical_keys": (line(physical_keys="[]"), "physical_keys"),
    "key no text": (line(logical_key="1"), "type"),
    "physical_keys a text": (line(physical_keys='"s3://b/k"'), "type"),
    "physical_keys no texts": (line(physical_keys="[1]"), "text"),
    "no object": (line(physical_keys='["s3://b"]'), "does not name"),
    "other scheme": (line(physical_keys='["http://b/k"]'), "scheme"),
    "a bucket with a space": (line(physical_keys='["s3://a b/k"]'), "for a bucket"),
    "an absurd bucket": (line(physical_keys='["s3://' + "b" * 300 + '/k"]'), "for a bucket"),
    "an absurd key": (line(physical_keys='["s3://b/' + "k" * 4097 + '"]'), "4096"),
    "a key that is not UTF-8": (line(physical_keys='["s3://b/%ff"]'), "not UTF-8"),
    "a NUL in a key": (line(physical_keys='["s3://b/k%00"]'), "NUL"),
    "a line feed in a version": (line(physical_keys='["s3://b/k?versionId=%0a"]'), "for a version"),
    "size a text": (line(size='"1"'), "type"),
    "size a float": (line(size="1.0"), "type"),
    "size a bool": (line(size="true"), "type"),
    "size null": (line(size="null"), "type"),
    "size negative": (line(size="-1"), "between"),
    "size 2**63": (line(size=str(2**63)), "between"),
    "meta a list": (line(meta="[]"), "type"),
    "hash null": (line(hash="null"), "type"),
    "hash a text": (line(hash='"x"'), "type"),
    "hash without value": (line(hash='{"type": "SHA256"}'), "value"),
    "hash with more": (line(hash=HASH[:-1] + ', "x": 1}'), "besides"),
    "base64 of 31 bytes": (line(hash=HASH.replace("47DE", "")), "is not a"),
    "base64 with other last bits": (line(hash=HASH.replace("FU=", "FV=")), "is not a"),
    "base64 with a line feed": (line(hash=HASH.replace("47DE", "47DE\\n")), "is not a"),
    "hex in capitals": (line(hash='{"type": "SHA256", "value": "' + "0F" * 32 + '"}'), "is not a"),
    "hex with spaces": (line(hash='{"type": "SHA256", "value": "' + "0f " * 32 + '"}'), "is not a"),
    "duplicate key": (line(size='0, "size": 0'), "twice"),
    "duplicate key in meta": (line(meta='{"a": 1, "a": 1}'), "twice"),
    "duplicate key after meta": (line(meta='{}, "size": 5, "x": {}'), "twice"),
    "empty part": (line(logical_key='"a//b"'), "part ''"),
    "trailing slash": (line(logical_key='"a/"'), "part ''"),
    "dot": (line(logical_key='"."'), "part '.'"),
    "dots": (line(logical_key='"a/../b"'), "part '..'"),
    "dots at the end": (line(logical_key='"a/.."'), "part '..'"),
    "absolute": (line(logical_key='"/a"'), "absolute"),
    "NUL": (line(logical_key='"a\\u0000"'), "NUL"),
    "long name": (line(logical_key='"d/' + "n" * 256 + '"'), "255"),
    "long directory": (line(logical_key='"' + "n" * 256 + '/d"'), "255"),
    "long path": (line(logical_key='"' + "d/" * 2048 + 'd"'), "4095"),
    "surrogate in the key": (line(logical_key='"\\ud800"'), "surrogate"),
    "surrogate in meta": (line(meta='{"user_meta": {"\\udfff": 1}}'), "surrogate"),
    "directory record up": (b'{"logical_key": "../", "meta": {}}\n', "part '..'"),
    "directory record of the root": (b'{"logical_key": "/", "meta": {}}\n', "part ''"),
    "directory record without meta": (b'{"logical_key": "a/"}\n', "meta"),
}


@pytest.mark.parametrize(("text", "why"), BROKEN_RECORDS.values(), ids=BROKEN_RECORDS)
def test_a_broken_record_is_named_by_its_line(text: bytes, why: str) -> None:
    error = refusal(HEAD + line(logical_key='"A"') + text + line(logical_key='"z"'))
    assert why in str(error)
    assert error.line == 3
    assert str(error).startswith("manifest line 3: ")
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty"),
        (b"\n", "blank"),
        (b"\xef\xbb\xbf" + HEAD, "byte order mark"),
        (HEAD.decode().encode("utf-16"), "not UTF-8"),
        (b"[]\n", "object"),
        (b"{}\n", "version"),
        (b'{"version": 0}\n', "version"),
        (b'{"version": "v1"}\n', "version"),
        (b'{"version": "v0", "version": "v0"}\n', "twice"),
        (b'{"version": "v0", "message": 1}\n', "message"),
        (b'{"version": "v0", "user_meta": []}\n', "user_meta"),
        (b'{"version": "v0", "message": nul', "cut off"),
        (b'{"version": "v0", "m": "' + b"x" * MAX_LINE_BYTES, "longer"),
    ],
)
def test_a_broken_header_is_line_one(text: bytes, why: str) -> None:
    error = refusal(text)
    assert why in str(error)
    assert error.line == 1


def test_a_last_line_cut_off_is_called_so() -> None:
    whole = HEAD + line(meta='{"user_meta": {}}').rstrip(b"\n")
    for cut in range(len(HEAD) + 1, len(whole)):
        error = refusal(whole[:cut])
        assert "is cut off" in str(error)
        assert error.line == 2


def test_a_line_without_end_is_not_collected() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield HEAD
        while True:
            taken += 1
            yield b"x" * 10_000

    with pytest.raises(ManifestInvalid, match="longer"):
        next(read_manifest(endless(), allow_file_keys=False).records)
    assert taken <= MAX_LINE_BYTES // 10_000 + 1


def test_checksums_of_s3_are_taken_for_hashes() -> None:
    # the value S3 itself gives for "123456789"
    (record,) = records(line(hash='{"type": "CRC64NVME", "value": "rosUhgp5mIg="}', size="9"))
    assert isinstance(record, EntryRecord)
    digest = record.entry().digest
    assert digest == compute_digest(Algorithm.CRC64NVME, b"123456789")
    assert digest.value[CRC_BYTES:] == bytes(24)
    assert hash_object(digest) == {"type": "CRC64NVME", "value": "rosUhgp5mIg="}


@pytest.mark.parametrize(
    "value", ["", "AAAAAAAAAAA", "AAAAAAAAAAB=", "rosUhgp5mIg=\\n", "AAAAAAAAAAAA", "A" * 43 + "="]
)
def test_a_checksum_has_one_spelling(value: str) -> None:
    with pytest.raises(ManifestInvalid, match="not a CRC64NVME value"):
        records(line(hash=f'{{"type": "CRC64NVME", "value": "{value}"}}'))


@pytest.mark.parametrize("kind", ["crc64nvme", "md5", ""])
def test_other_hashes_are_not_supported(kind: str) -> None:
    with pytest.raises(UnsupportedFormat, match="line 2.*" + kind):
        records(line(hash=f'{{"type": "{kind}", "value": "AAAAAAAAAAA="}}'))


# --- links and empty directories -----------------------------------------------------------------------------


def link_line(key: str, target: str) -> bytes:
    entry = symlink_entry(key, target)
    return write_entry(entry)


@pytest.mark.parametrize(
    ("key", "target"),
    [("l", "a"), ("l", "."), ("d/l", ".."), ("d/l", "../a/../é"), ("l", "./x//y/"), ("l", "a" * 4095)],
)
def test_links_that_stay_inside_are_taken(key: str, target: str) -> None:
    (record,) = records(link_line(key, target))
    assert isinstance(record, EntryRecord)
    assert record.symlink_target == target.encode()


@pytest.mark.parametrize(
    ("key", "target", "why"),
    [
        ("l", "", "empty"),
        ("l", "a\0", "NUL"),
        ("l", "a" * 4096, "long"),
        ("l", "/etc/passwd", "leaves"),
        ("l", "..", "leaves"),
        ("d/l", "../..", "leaves"),
        ("d/l", "a/../../../d", "leaves"),
    ],
)
def test_links_that_lead_out_are_refused(key: str, target: str, why: str) -> None:
    with pytest.raises(ManifestInvalid, match=why) as caught:
        records(link_line(key, target))
    assert caught.value.line == 2


def test_the_bytes_of_a_link_are_its_target() -> None:
    good = symlink_entry("l", "target")
    for digest, size in ((file_entry("x", b"other!").digest, 6), (good.digest, 7)):
        with pytest.raises(ManifestInvalid, match="size and hash"):
            records(write_entry(Entry("l", good.physical_key, size, digest, good.meta)))


@pytest.mark.parametrize(("key", "size"), [("d/other", 0), ("d/.fusepkg-empty-directory", 1)])
def test_markers_of_empty_directories_are_what_they_say(key: str, size: int) -> None:
    meta = {"fusepkg": {"empty_directory": True}}
    with pytest.raises(ManifestInvalid, match="marker"):
        records(write_entry(file_entry(key, size=size, meta=meta)))


# --- between lines -------------------------------------------------------------------------------------------


def ordered(*lines: bytes) -> list[str]:
    return [record.key.decode() for record in in_tree_order(records(*lines), {})]


def keyed(key: str) -> bytes:
    return line(logical_key=json.dumps(key))


def directory(key: str) -> bytes:
    return write_directory(key, {"k": key})


def test_tree_order_is_told_from_others() -> None:
    keys = ["a/b", "a b", "a!/x", "a!/x!", "a-b", "b"]
    assert ordered(*map(keyed, keys)) == keys
    for swap in range(len(keys) - 1):
        swapped = [*keys[:swap], keys[swap + 1], keys[swap], *keys[swap + 2 :]]
        with pytest.raises(OutOfOrder):
            ordered(*map(keyed, swapped))
        again = sorted_in_tree_order(records(*map(keyed, swapped)))
        assert [record.key.decode() for record in in_tree_order(again, {})] == keys


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([keyed("a"), keyed("a")], "twice"),
        ([keyed("a"), keyed("a/b")], "one name"),
        ([keyed("d/a"), keyed("d/a/b/c")], "one name"),
        ([directory("a/"), directory("a/")], "twice"),
        ([directory("a/"), keyed("a")], "one name"),
        ([directory("a/b/c/"), keyed("a/b")], "one name"),
    ],
)
def test_one_name_is_one_thing(lines: list[bytes], why: str) -> None:
    error = refusal(HEAD + b"".join(lines))
    assert why in str(error)
    assert error.line == 3


def test_directory_records_come_first_or_are_sorted_first() -> None:
    with pytest.raises(OutOfOrder):
        ordered(keyed("a"), directory("d/"))
    found: dict[str, dict[str, Any]] = {}
    late = records(keyed("d/a"), directory("d/"), directory("c/"))
    assert len(list(in_tree_order(sorted_in_tree_order(late), found))) == 1
    assert list(found) == ["c/", "d/"]


@pytest.mark.parametrize("kind", ["MD5", "MD5-dos2unix"])
def test_md5_is_no_hash_but_in_what_was_made_here_of_a_dvc_repository(kind: str) -> None:
    hash_object = {"type": kind, "value": "0" * 32}
    record = {"logical_key": "a", "physical_keys": ["s3://b/a"], "size": 1, "hash": hash_object, "meta": {}}
    lines = [b'{"version": "v0"}\n', json.dumps(record).encode() + b"\n"]
    with pytest.raises(UnsupportedFormat, match="MD5"):
        list(read_manifest(lines, allow_file_keys=True).records)
    (found,) = read_manifest(lines, allow_file_keys=True, allow_md5=True).records
    assert isinstance(found, EntryRecord)
    assert write_entry(found.entry()) == lines[1]
