"""Any tree of names survives manifest and index; any bytes are a package or an error with a name."""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from fusepkg_cache.digest import CRC_BYTES, Algorithm, Digest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusepkg import Package
from fusepkg.errors import ManifestInvalid, UnsupportedFormat
from fusepkg.index.build import build_index
from fusepkg.index.opening import check_index, open_index
from fusepkg.model.entry import Entry, EntryKind
from fusepkg.model.manifest import in_tree_order, read_manifest, sorted_in_tree_order
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.record import EntryRecord, FastRecords, parse_record
from fusepkg.model.tophash import TopHash, canonical_entry, hash_object
from fusepkg.registry.layout import manifest_key
from fusepkg.store.directory import DirectoryStore
from tests.manifests import executable_entry, file_entry, in_order, manifest_of, symlink_entry, top_hash_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
) | st.sampled_from(["a", "a!", "a0", "b", "...", ".-", "n" * 255, "é" * 127])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
metas = st.just({}) | st.dictionaries(st.just("user_meta") | texts.filter(lambda key: key != "fusepkg"), json_values)
object_keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
object_versions = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)
physical_keys = st.builds(
    PhysicalKey,
    st.just("s3"),
    st.sampled_from(["bucket", "b.c-d_e"]),
    object_keys,
    st.none() | st.just("null") | object_versions,
)
digests = st.builds(
    Digest, st.sampled_from([Algorithm.SHA2_256, Algorithm.SHA2_256_CHUNKED]), st.binary(min_size=32, max_size=32)
) | st.builds(
    lambda checksum: Digest(Algorithm.CRC64NVME, checksum + bytes(24)),
    st.binary(min_size=CRC_BYTES, max_size=CRC_BYTES),
)
sizes = st.sampled_from([0, 1, 4095, 4096, 4097, 2**32 - 1, 2**32]) | st.integers(0, 2**40)
headers = st.fixed_dictionaries(
    {"version": st.just("v0")},
    optional={
        "message": st.none() | texts,
        "user_meta": st.none() | st.dictionaries(texts, json_values, max_size=3),
        "other": json_values,
    },
)


@st.composite
def packages(draw: st.DrawFn) -> list[Entry]:
    """Entries of a tree, in tree order: no name is a file and a directory."""
    keys: set[tuple[str, ...]] = set()
    for key in draw(st.lists(st.lists(names, min_size=1, max_size=4).map(tuple), max_size=25)):
        parents = {key[:depth] for depth in range(1, len(key))}
        if not parents & keys and not any(other[: len(key)] == key for other in keys):
            keys.add(key)
    entries = []
    for key in sorted(keys):
        path = "/".join(key)
        match draw(st.integers(0, 9)):
            case 0:
                entries.append(executable_entry(path))
            case 1:
                entries.append(symlink_entry(path, draw(names) + "/" + draw(names)))
            case _:
                entries.append(Entry(path, draw(physical_keys), draw(sizes), draw(digests), draw(metas)))
    return in_order(entries)


@given(packages(), headers, st.integers(1, 500))
@example([file_entry("\x7f")], {"version": "v0"}, 100)  # DEL stands as it is in lines, but not in canonical JSON
@settings(deadline=None)
def test_every_package_survives_its_manifest(package: list[Entry], header: dict[str, Any], piece_bytes: int) -> None:
    text = manifest_of(package, header)
    pieces = [text[at : at + piece_bytes] for at in range(0, len(text), piece_bytes)]
    reader = read_manifest(pieces, allow_file_keys=False)
    assert reader.header == header
    records = list(in_tree_order(reader.records, {}))
    assert [record.entry() for record in records] == package
    assert [record.canonical.decode() for record in records] == [canonical_entry(entry) for entry in package]


@given(packages(), headers)
@settings(max_examples=30, deadline=None)
def test_the_top_hash_is_that_of_quilt3(package: list[Entry], header: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="ignore"):
        from quilt3 import Package
        from quilt3.packages import PackageEntry
        from quilt3.util import PhysicalKey as QuiltKey
    theirs = Package()
    theirs._meta = header
    for entry in package:
        place = QuiltKey.from_url(str(entry.physical_key))
        hashed = hash_object(entry.digest)
        theirs.set(entry.logical_key, PackageEntry(place, entry.size, hashed, entry.meta))
    assert top_hash_of(package, header) == theirs.top_hash
    out = io.StringIO()
    theirs.dump(out)
    assert out.getvalue().encode() == manifest_of(package, header)


@given(packages(), headers, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_every_package_survives_its_index(package: list[Entry], header: dict[str, Any], random: Any) -> None:
    lines = package.copy()
    random.shuffle(lines)
    with tempfile.TemporaryDirectory() as scratch:
        top_hash = build_index(
            [manifest_of(lines, header)], Path(scratch), expected_top_hash=None, allow_file_keys=False
        )
        assert top_hash == top_hash_of(package, header)
        index = open_index(Path(scratch), top_hash)
        assert index is not None
        assert (index.header, list(index.entries)) == (header, package)
        check_index(index)
        shown = set()
        pending = [(0, "")]
        while pending:
            directory, path = pending.pop()
            for name, nid, _, following in index.image.readdir(directory):
                assert index.image.lookup(directory, name) == nid
                assert following > 0
                inode = index.image.inode(nid)
                if name in (b".", b".."):
                    continue
                key = f"{path}{name.decode()}"
                if inode.is_directory:
                    pending.append((nid, f"{key}/"))
                    continue
                shown.add(key)
                assert inode.entry_number is not None
                entry = package[inode.entry_number]
                assert (key, inode.size) == (entry.logical_key, entry.size)
                if entry.kind is EntryKind.SYMLINK:
                    assert index.image.readlink(nid).decode() == entry.meta["fusepkg"]["symlink"]
                elif entry.size:
                    assert index.entries.find(inode.start_block) == inode.entry_number
                    last = inode.start_block + (entry.size - 1) // 4096
                    assert index.entries.find(last) == inode.entry_number
        assert shown == {entry.logical_key for entry in package}


@given(packages(), headers)
@settings(max_examples=30)
def test_every_package_survives_the_api(entries: list[Entry], header: dict[str, Any]) -> None:
    top_hash = top_hash_of(entries, header)
    with tempfile.TemporaryDirectory() as registry:
        DirectoryStore(Path(registry)).create(manifest_key("ns/name", top_hash), manifest_of(entries, header))
        package = Package(f"file://{registry}//ns/name@{top_hash}")
    assert (package.hash, len(package)) == (top_hash, len(entries))
    assert package.meta == (header.get("user_meta") or {})
    assert package.message == (header.get("message") or "")
    assert [found.record for found in package] == entries
    for entry in entries:
        found = package[entry.logical_key]
        assert found.record == entry
        assert (found.physical_keys, found.size) == ([str(entry.physical_key)], entry.size)
        user_meta = entry.meta.get("user_meta")
        assert found.meta == (user_meta if isinstance(user_meta, dict) else {})
        assert package.get_metadata(entry.logical_key) == found.meta
    pending, shown = [""], set()
    while pending:
        for listed in package.ls(pending.pop()):
            if listed.is_dir():
                pending.append(listed.logical_key)
            else:
                shown.add(listed.logical_key)
    assert shown == {entry.logical_key for entry in entries if entry.kind is not EntryKind.EMPTY_DIRECTORY}


# --- bytes from strangers ------------------------------------------------------------------------------------


def read_all(data: bytes) -> None:
    """Read as a mount would; whatever comes is a package or one of the two errors."""
    try:
        reader = read_manifest([data], allow_file_keys=False)
        top_hash = TopHash(reader.header)
        for record in in_tree_order(sorted_in_tree_order(reader.records), {}):
            top_hash.update(record.entry())
    except (ManifestInvalid, UnsupportedFormat):
        pass


HEAD = b'{"version": "v0"}\n'


@given(st.binary(max_size=300))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf{}")
@example(b'{"version": "v0"}\r\n')
def test_any_bytes_are_a_package_or_an_error(data: bytes) -> None:
    read_all(data)
    read_all(HEAD + data)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


ANY_KEY = st.text(max_size=8) | st.sampled_from(["a", "a/", "a/b", "../a"]) | ANY_JSON
ANY_URLS = st.lists(st.sampled_from(["s3://b/k", "file:///k", "s3://", "x"]) | ANY_JSON, max_size=2) | ANY_JSON
ANY_TYPE = st.sampled_from(["SHA256", "sha2-256-chunked", "CRC64NVME", "md5"]) | ANY_JSON
ANY_VALUE = st.sampled_from(["00" * 32, "A" * 43 + "=", "A" * 11 + "="]) | ANY_JSON
ANY_HASH = st.fixed_dictionaries({"type": ANY_TYPE, "value": ANY_VALUE}) | ANY_JSON
ANY_META = (
    st.dictionaries(st.sampled_from(["user_meta", "fusepkg"]), ANY_JSON)
    | st.fixed_dictionaries({"fusepkg": st.dictionaries(st.sampled_from(["symlink", "executable"]), ANY_JSON)})
    | ANY_JSON
)
ANY_RECORD = st.fixed_dictionaries(
    {},
    optional={
        "logical_key": ANY_KEY,
        "physical_keys": ANY_URLS,
        "size": st.integers(-1, 2**64) | ANY_JSON,
        "hash": ANY_HASH,
        "meta": ANY_META,
    },
)


@given(st.lists(ANY_RECORD, max_size=4))
def test_any_records_are_a_package_or_an_error(records: list[dict[str, Any]]) -> None:
    read_all(HEAD + b"".join(json.dumps(record).encode() + b"\n" for record in records))


SPLINTERS = [b"", b"\n", b'"', b"\\", b"{", b"}", b"/", b"..", b"1", b"\xff", b", "]


@given(packages(), st.data())
def test_a_changed_manifest_is_a_package_or_an_error(package: list[Entry], data: st.DataObject) -> None:
    text = bytearray(manifest_of(package))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        text[at : at + cut] = data.draw(st.sampled_from(SPLINTERS))
    read_all(bytes(text))


@given(packages(), st.data())
@settings(max_examples=50)
@example([file_entry("a", size=2**63 - 1), file_entry("b", size=2**63 - 1)], None)
@example([file_entry("/".join(["n"] * 2000))], None)
def test_a_changed_manifest_is_an_index_or_an_error(package: list[Entry], data: st.DataObject | None) -> None:
    text = bytearray(manifest_of(package))
    if data is not None:
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(SPLINTERS))
    with tempfile.TemporaryDirectory() as scratch:
        try:
            top_hash = build_index([bytes(text)], Path(scratch), expected_top_hash=None, allow_file_keys=False)
        except (ManifestInvalid, UnsupportedFormat):
            assert list(Path(scratch).glob("*/*")) == []
            return
        index = open_index(Path(scratch), top_hash)
        assert index is not None
        check_index(index)


@given(packages(), st.sampled_from([b"\n", b"\r\n"]))
def test_the_fast_path_reads_what_the_strict_one_reads(package: list[Entry], end: bytes) -> None:
    fast = FastRecords(allow_file_keys=False)
    for line in manifest_of(package).split(b"\n")[1:-1]:
        found = fast.parse(line + end.rstrip(b"\n"), 7)
        strict = parse_record(line, 7, allow_file_keys=False)
        assert isinstance(strict, EntryRecord)
        if found is not None:
            assert found._replace(meta=b"") == strict._replace(meta=b"")
            assert found.entry() == strict.entry()


def test_lines_as_quilt3_writes_them_take_the_fast_path() -> None:
    fast = FastRecords(allow_file_keys=True)
    keys = [PhysicalKey("s3", "b.c", "é a/k", "v.1_~-"), PhysicalKey("file", "", "/a b/é")]
    digest = Digest(Algorithm.SHA2_256, bytes(32))
    for key in keys:
        for meta in ({}, {"user_meta": {"é": [1.5, "x\n"]}}):
            (line,) = manifest_of([Entry("é/ a", key, 5, digest, meta)]).split(b"\n")[1:-1]
            assert fast.parse(line, 2) is not None
