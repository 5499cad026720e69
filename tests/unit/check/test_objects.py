"""Objects are checked by the checksums their server keeps, and read only where it keeps none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest
from fusepkg_cache.digest import Algorithm, Digest, compute_digest

from fusepkg.check.directory import DifferenceKind
from fusepkg.check.objects import Checked, check_objects
from fusepkg.errors import AccessDenied, ObjectTooLarge, RemoteUnavailable
from fusepkg.model.checksums import Checksums
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.registry import manifests
from fusepkg.store.faulty import Fault, FaultyStore
from fusepkg.store.memory import MemoryStore
from fusepkg.store.protocol import ObjectInfo

DATA = b"some bytes"


class WithChecksums(FaultyStore):
    """Tells of each object the checksums it was given, true or not."""

    told: dict[str, Checksums]

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        return replace(super().head(key, version=version), checksums=self.told.get(key))


def with_checksums(**told: Checksums) -> WithChecksums:
    store = WithChecksums(MemoryStore("bucket", versioned=True))
    store.told = told
    return store


def entry(
    store: FaultyStore,
    key: str,
    data: bytes = DATA,
    algorithm: Algorithm = Algorithm.SHA2_256_CHUNKED,
    **change: object,
) -> Entry:
    info = store.inner.create(key, data)
    place = parse_physical_key(store.url(key, info.version))
    return replace(Entry(f"logical/{key}", place, len(data), compute_digest(algorithm, data)), **change)  # type: ignore[arg-type]


def check(store: FaultyStore, *entries: Entry) -> Checked:
    return check_objects(entries, lambda place: (store, place.key), count=len(entries), total_bytes=0)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_has_no_checksum_is_read(algorithm: Algorithm) -> None:
    store = with_checksums()
    checked = check(store, entry(store, "a", algorithm=algorithm), entry(store, "b", b"", algorithm=algorithm))
    assert checked == Checked([], by_checksum=1, by_checksum_bytes=0, read=1, read_bytes=len(DATA))
    assert store.count("stream") == 1


SHA = hashlib.sha256(DATA).digest()
CRC = compute_digest(Algorithm.CRC64NVME, DATA).computed


@pytest.mark.parametrize(
    ("algorithm", "checksums"),
    [
        (Algorithm.SHA2_256, Checksums(sha256=SHA)),
        (Algorithm.SHA2_256_CHUNKED, Checksums(sha256=SHA)),
        (Algorithm.SHA2_256_CHUNKED, Checksums(sha256=hashlib.sha256(SHA).digest(), parts=1)),
        (Algorithm.CRC64NVME, Checksums(crc64nvme=CRC)),
        (Algorithm.SHA2_256, Checksums(sha256=SHA, crc64nvme=bytes(8))),
    ],
)
def test_what_has_a_checksum_is_not_read(algorithm: Algorithm, checksums: Checksums) -> None:
    store = with_checksums(a=checksums)
    assert check(store, entry(store, "a", algorithm=algorithm)) == Checked([], 1, len(DATA), 0, 0)
    assert store.count("stream") == 0


def test_a_checksum_that_says_nothing_of_the_digest_is_none() -> None:
    store = with_checksums(a=Checksums(sha256=SHA, parts=2), b=Checksums(crc64nvme=CRC), c=Checksums(sha256=SHA))
    wanted = [entry(store, "a"), entry(store, "b"), entry(store, "c", algorithm=Algorithm.CRC64NVME)]
    assert check(store, *wanted) == Checked([], 0, 0, 3, 3 * len(DATA))


def test_a_wrong_checksum_is_a_difference() -> None:
    store = with_checksums(a=Checksums(sha256=bytes(32)), b=Checksums(crc64nvme=bytes(8)))
    checked = check(store, entry(store, "a"), entry(store, "b", algorithm=Algorithm.CRC64NVME))
    assert [found.logical_key for found in checked.differences] == ["logical/a", "logical/b"]
    assert all("other contents" in found.reason for found in checked.differences)
    assert (checked.by_checksum, checked.read) == (2, 0)
    assert store.count("stream") == 0


def test_wrong_sizes_and_bytes_and_objects_that_are_gone() -> None:
    store = with_checksums()
    wrong = Digest(Algorithm.SHA2_256_CHUNKED, bytes(32))
    longer, other, gone, denied = (
        entry(store, "longer", size=3),
        entry(store, "other", digest=wrong),
        replace(entry(store, "gone"), physical_key=parse_physical_key("s3://bucket/gone?versionId=never")),
        entry(store, "denied"),
    )
    store.add(Fault("stream", key="denied", error=AccessDenied("not yours")))
    checked = check(store, longer, other, gone, denied)
    assert [(found.entry, found.kind, found.reason) for found in checked.differences] == [
        (denied, DifferenceKind.CHANGED, "cannot be read: not yours"),
        (gone, DifferenceKind.MISSING, "is missing: s3://bucket/gone?versionId=never"),
        (longer, DifferenceKind.CHANGED, f"has 10 bytes instead of 3: {longer.physical_key}"),
        (other, DifferenceKind.CHANGED, f"has other contents than the manifest says: {other.physical_key}"),
    ]


def test_a_bucket_that_does_not_answer_is_no_difference() -> None:
    store = with_checksums()
    wanted = entry(store, "a")
    store.add(Fault("head", error=RemoteUnavailable("down")))
    with pytest.raises(RemoteUnavailable):
        check(store, wanted)


class Endless(MemoryStore):
    """A bucket whose answers have no end."""

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        return repeat(bytes(piece_bytes))


def test_an_object_without_an_end_is_read_no_further_than_its_size() -> None:
    store = FaultyStore(Endless("bucket"))
    (difference,) = check(store, entry(store, "a")).differences
    assert "has other contents" in difference.reason


def test_a_manifest_without_an_end_is_read_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_MANIFEST_BYTES", 5 << 20)
    with pytest.raises(ObjectTooLarge):
        manifests.fetch_manifest(Endless("bucket"), "ns/data", "0" * 64, tmp_path / "manifest")
    assert not (tmp_path / "manifest").exists()
