from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg.errors import CacheFailure, DigestMismatch, IndexDamaged, ManifestInvalid, RemoteTimeout
from fusepkg.index.build import build_index, rebuild_index
from fusepkg.index.files import ENTRIES, IMAGE, MANIFEST, SEAL
from fusepkg.index.opening import open_index
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import write_directory
from tests.manifests import file_entry, in_order, manifest_of, symlink_entry, top_hash_of

PACKAGE = in_order(file_entry(f"d{number % 7}/é{number}", b"x" * number) for number in range(200))
MANIFEST_BYTES = manifest_of(PACKAGE)
TOP_HASH = top_hash_of(PACKAGE)


def build(source: bytes | Path, root: Path, expected: str | None = None) -> str:
    pieces = [source] if isinstance(source, bytes) else source
    return build_index(pieces, root, expected_top_hash=expected, allow_file_keys=False)


def files_of(root: Path, top_hash: str = TOP_HASH) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "v2" / top_hash).iterdir()}


def left_over(root: Path) -> list[str]:
    return [path.name for path in (root / "v2").iterdir() if path.name != TOP_HASH]


def test_the_index_is_named_by_the_top_hash(tmp_path: Path) -> None:
    assert build(MANIFEST_BYTES, tmp_path) == TOP_HASH
    assert set(files_of(tmp_path)) == {IMAGE, SEAL, ENTRIES, MANIFEST}
    assert left_over(tmp_path) == []
    index = open_index(tmp_path, TOP_HASH)
    assert index is not None
    assert list(index.entries) == PACKAGE


def test_a_file_gives_the_same_index_as_pieces(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_bytes(MANIFEST_BYTES)
    build(manifest, tmp_path / "1", TOP_HASH)
    build(MANIFEST_BYTES, tmp_path / "2", TOP_HASH)
    first, second = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert first.pop(SEAL) != second.pop(SEAL), "each cache has its own secret"
    assert first == second


def test_a_manifest_under_a_false_name_is_refused(tmp_path: Path) -> None:
    for wrong in (MANIFEST_BYTES + manifest_of([file_entry("z")]).split(b"\n", 1)[1], manifest_of([])):
        with pytest.raises(DigestMismatch, match=TOP_HASH):
            build(wrong, tmp_path, TOP_HASH)
        assert os.listdir(tmp_path / "v2") == []


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    build(MANIFEST_BYTES, tmp_path)
    assert build(b"never looked at", tmp_path, TOP_HASH) == TOP_HASH


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    shuffled: list[Entry] = PACKAGE.copy()
    random.Random(1).shuffle(shuffled)
    header, _, lines = manifest_of(shuffled).partition(b"\n")
    records = [header + b"\n", write_directory("d2/", {"a": 2}), lines, write_directory("d1/", {"a": 1})]
    text = b"".join(records)
    pieces = [text[at : at + 1000] for at in range(0, len(text), 1000)]
    build_index(pieces, tmp_path / "1", expected_top_hash=TOP_HASH, allow_file_keys=False)
    build(MANIFEST_BYTES, tmp_path / "2", TOP_HASH)
    first, second = files_of(tmp_path / "1"), files_of(tmp_path / "2")
    assert first[IMAGE] == second[IMAGE]
    index = open_index(tmp_path / "1", TOP_HASH)
    assert index is not None
    assert list(index.entries) == PACKAGE
    assert index.entries.directory_meta() == {"d1/": {"a": 1}, "d2/": {"a": 2}}


@pytest.mark.parametrize("key", ["d0/é0", "d0", "d3/é3/below"])
def test_a_manifest_out_of_order_keeps_the_line_of_its_faults(tmp_path: Path, key: str) -> None:
    manifest = manifest_of([*PACKAGE, file_entry(key)])
    with pytest.raises(ManifestInvalid, match=r"twice|one name") as caught:
        build(manifest, tmp_path)
    assert caught.value.line > 1
    assert os.listdir(tmp_path / "v2") == []


def test_a_fault_late_in_a_manifest_out_of_order_is_found(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="line 202: is blank"):
        build(manifest_of([PACKAGE[1], PACKAGE[0], *PACKAGE[2:]]) + b"\n{}\n", tmp_path)


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield MANIFEST_BYTES[:1000]
        raise RemoteTimeout("no answer")

    with pytest.raises(RemoteTimeout):
        build_index(failing(), tmp_path, expected_top_hash=TOP_HASH, allow_file_keys=False)
    assert os.listdir(tmp_path / "v2") == []


def test_a_place_that_cannot_be_written_is_a_cache_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheFailure, match="cannot be written"):
        build(MANIFEST_BYTES, tmp_path / "file")
    with pytest.raises(CacheFailure, match="no-manifest"):
        build(tmp_path / "no-manifest", tmp_path)


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    manifest = tmp_path / "manifest"
    manifest.write_bytes(MANIFEST_BYTES)
    build_index(
        manifest,
        tmp_path,
        expected_top_hash=None,
        allow_file_keys=False,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard[-1] == (len(MANIFEST_BYTES), len(MANIFEST_BYTES))
    heard.clear()
    build_index(
        [MANIFEST_BYTES[:99], MANIFEST_BYTES[99:]],
        tmp_path / "2",
        expected_top_hash=None,
        allow_file_keys=False,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard == [(99, 0), (len(MANIFEST_BYTES), 0)]


# --- several builders ----------------------------------------------------------------------------------------

BUILDER = """
import sys
from pathlib import Path
from fusepkg.index.build import build_index

def pieces():
    yield b'{"version": "v0"}\\n'
    print("building", flush=True)
    sys.stdin.buffer.read()

build_index(pieces(), Path(sys.argv[1]), expected_top_hash=None, allow_file_keys=False)
"""


def test_what_a_killed_builder_left_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"building\n"
        build(MANIFEST_BYTES, tmp_path)
        assert len(left_over(tmp_path)) == 1, "the other builder's directory was taken away under it"
        builder.kill()
        builder.wait()
    assert len(left_over(tmp_path)) == 1, "a killed builder leaves its directory"
    build(manifest_of([]), tmp_path)
    assert [name for name in left_over(tmp_path) if name.startswith(".")] == []


def test_losing_the_race_to_another_builder_is_fine(tmp_path: Path) -> None:
    def slow() -> Iterator[bytes]:
        yield MANIFEST_BYTES
        build(MANIFEST_BYTES, tmp_path)

    assert build_index(slow(), tmp_path, expected_top_hash=TOP_HASH, allow_file_keys=False) == TOP_HASH
    assert left_over(tmp_path) == []
    assert open_index(tmp_path, TOP_HASH) is not None


def test_a_damaged_index_is_replaced_and_its_readers_keep_theirs(tmp_path: Path) -> None:
    build(MANIFEST_BYTES, tmp_path)
    index = open_index(tmp_path, TOP_HASH)
    assert index is not None
    good = files_of(tmp_path)
    (index.directory / SEAL).write_bytes(b"")
    build(MANIFEST_BYTES, tmp_path, TOP_HASH)
    assert files_of(tmp_path) == good
    assert left_over(tmp_path) == []
    assert list(index.entries) == PACKAGE


def test_an_index_is_built_anew_from_its_own_manifest(tmp_path: Path) -> None:
    build(MANIFEST_BYTES, tmp_path)
    good = files_of(tmp_path)
    for name in (IMAGE, SEAL, ENTRIES):
        (tmp_path / "v2" / TOP_HASH / name).unlink()
    rebuild_index(tmp_path, TOP_HASH, tmp_path / "v2" / TOP_HASH / MANIFEST)
    assert files_of(tmp_path) == good
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "cut off", "changed", "another"])
def test_a_kept_manifest_that_is_damaged_is_not_used(tmp_path: Path, damage: str) -> None:
    build(MANIFEST_BYTES, tmp_path)
    kept = tmp_path / "v2" / TOP_HASH / MANIFEST
    data = kept.read_bytes()
    if damage == "missing":
        kept.unlink()
    elif damage == "cut off":
        kept.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        kept.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    else:
        other = build(manifest_of([]), tmp_path)
        kept.write_bytes((tmp_path / "v2" / other / MANIFEST).read_bytes())
    with pytest.raises(IndexDamaged):
        rebuild_index(tmp_path, TOP_HASH, tmp_path / "v2" / TOP_HASH / MANIFEST)
    assert [name for name in os.listdir(tmp_path / "v2") if name.startswith(".")] == []


def test_links_that_lead_out_through_other_links_are_refused(tmp_path: Path) -> None:
    links = (symlink_entry("deep/a/b/l", "../../../top"), symlink_entry("readme", "deep/a/b/l/../../../outside"))
    with pytest.raises(ManifestInvalid, match=r"'readme' to 'deep/a/b/l/../../../outside'"):
        build_index([manifest_of(in_order(links))], tmp_path, expected_top_hash=None, allow_file_keys=True)
