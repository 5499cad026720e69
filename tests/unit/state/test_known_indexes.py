"""Whose indexes lie on this machine: the small file that says so, and what is made of one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg.index.files import LAYOUT
from fusepkg.model.reference import parse_reference
from fusepkg.state.known_indexes import known_packages, note_package

HASH = "0123456789abcdef" * 4


def test_packages_are_known_by_name_with_their_versions(tmp_path: Path):
    assert known_packages(tmp_path / "none") == []
    for place, ref in (
        ("b" * 16, "my-bucket/name"),
        ("a" * 16, "file:///some/where//name/space"),
        ("c" * 16, "local/x"),
    ):
        note_package(tmp_path / place, parse_reference(ref))
    for place in ("a", "b"):
        (tmp_path / (place * 16) / LAYOUT / HASH).mkdir(parents=True)
        (tmp_path / (place * 16) / LAYOUT / ".building-1").mkdir()
    found = known_packages(tmp_path)
    assert [str(package) for package in found] == ["file:///some/where//name/space", "my-bucket/name"]
    assert [package.top_hashes for package in found] == [(HASH,), (HASH,)]
    assert found[1].directory(HASH) == tmp_path / ("b" * 16) / LAYOUT / HASH


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"bucket": "gs://x", "name": "n"}', b"[" * 5000])
def test_what_is_damaged_is_nobody_s_until_it_is_opened_again(tmp_path: Path, content: bytes | None):
    root = tmp_path / ("a" * 16)
    (root / LAYOUT / HASH).mkdir(parents=True)
    if content is not None:
        (root / "package.json").write_bytes(content)
    (package,) = known_packages(tmp_path)
    assert (package.bucket, package.top_hashes) == (None, (HASH,))
    assert str(package) == f"unknown ({root.name})"
    note_package(root, parse_reference("my-bucket/name"))
    (package,) = known_packages(tmp_path)
    assert str(package) == "my-bucket/name"


def test_a_directory_that_cannot_be_written_to_is_no_error(tmp_path: Path):
    (tmp_path / "file").touch()
    note_package(tmp_path / "file" / "root", parse_reference("my-bucket/name"))
