"""What a pack is: which entries it spans, its name, where each blob lies."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256

from fusepkg_cache.digest import Algorithm, Digest, compute_digest, verified
from fusepkg_cache.segment_format import HEADER_BYTES, parse_header
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.packs.pack import BELOW_BYTES, LEAST_BYTES, MOST_BYTES, cut, holds, is_small, pack_of, segment_of


@dataclass(frozen=True)
class Content:
    size: int
    digest: Digest


def content(data: bytes) -> Content:
    return Content(len(data), compute_digest(Algorithm.SHA2_256_CHUNKED, data))


def made_up(name: object, size: int = 10_000) -> Content:
    return Content(size, Digest(Algorithm.SHA2_256_CHUNKED, sha256(str(name).encode()).digest()))


def names(contents: list[Content]) -> list[str]:
    return [pack_of(contents[span.first : span.first + span.entries]).name for span in cut(contents)]


@given(st.lists(st.binary(max_size=3000), max_size=30))
def test_each_blob_lies_where_the_manifest_says(blobs: list[bytes]) -> None:
    """Without reading the pack: its bytes follow from sizes and hashes."""
    pack = pack_of([content(blob) for blob in blobs])
    by_digest = {content(blob).digest: blob for blob in blobs}
    data = b"".join(segment_of(verified(member.digest, by_digest[member.digest]) for member in pack.members))
    assert len(data) == pack.size
    assert {data[member.offset : member.end] for member in pack.members} == {blob for blob in blobs if blob}
    for member in pack.members:
        header = parse_header(data[member.offset - HEADER_BYTES : member.offset])
        assert header is not None
        assert (header.key[1:], header.length) == (member.digest.value, member.size)
    assert holds(pack, data)


@given(st.lists(st.binary(min_size=1, max_size=500), min_size=1, max_size=9, unique=True), st.data())
def test_any_damage_of_a_blob_is_seen(blobs: list[bytes], data: st.DataObject) -> None:
    pack = pack_of([content(blob) for blob in blobs])
    whole = bytearray(b"".join(segment_of(verified(content(blob).digest, blob) for blob in blobs)))
    member = data.draw(st.sampled_from(pack.members))
    whole[data.draw(st.integers(member.offset, member.end - 1))] ^= 1
    assert not holds(pack, bytes(whole))
    assert not holds(pack, bytes(whole[:-1]))


def test_large_empty_and_weakly_named_blobs_stay_out() -> None:
    weak = Digest(Algorithm.CRC64NVME, bytes(32))
    assert not is_small(made_up(1, BELOW_BYTES))
    assert not is_small(made_up(1, 0))
    assert not is_small(Content(10, weak))
    assert is_small(made_up(1, BELOW_BYTES - 1))


def test_spans_cover_every_small_blob_once_and_are_no_longer_than_allowed() -> None:
    sizes = random.Random(1)
    contents = [made_up(number, sizes.choice((0, 100, 10_000, 200_000, 10**9))) for number in range(6_000)]
    spans = list(cut(contents))
    covered = [number for span in spans for number in range(span.first, span.first + span.entries)]
    assert covered == sorted(set(covered))
    assert not [number for number in set(range(6_000)) - set(covered) if is_small(contents[number])]
    packs = [pack_of(contents[span.first : span.first + span.entries]) for span in spans]
    assert all(pack.size <= MOST_BYTES for pack in packs)
    assert all(pack.size >= LEAST_BYTES // 2 for pack in packs[:-1])  # blobs of 100 bytes count for 1 KiB
    assert 3 < len(packs) < 100


def test_a_changed_file_changes_one_pack_or_its_neighbour() -> None:
    before = [made_up(number, 50_000) for number in range(4_000)]
    old = names(before)
    for at in (3, 1_700, 3_998):
        changed = [*before[:at], made_up("changed", 50_000), *before[at + 1 :]]
        inserted = [*before[:at], made_up("new", 50_000), *before[at:]]
        for after in (changed, inserted):
            assert len(set(names(after)) - set(old)) <= 3
    assert len(old) > 6


def test_the_same_blob_is_in_a_pack_once() -> None:
    pack = pack_of([content(b"a"), content(b"b"), content(b"a")])
    assert [member.size for member in pack.members] == [1, 1]
    assert pack == pack_of([content(b"a"), content(b"b")])


def test_a_pack_is_named_by_its_blobs_in_order() -> None:
    one, other = content(b"a"), content(b"b")
    assert pack_of([one, other]).name != pack_of([other, one]).name
    assert pack_of([one, content(b"")]).name == pack_of([one]).name
