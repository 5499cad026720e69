"""The index files of one package, byte for byte: whoever changes them changes the layout, and names it ``v3``.

``python -m tests.golden.test_index`` writes the expected files anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest

from fusepkg.index.build import build_index
from fusepkg.index.files import ENTRIES, IMAGE, SEAL, index_directory
from fusepkg.index.opening import check_index, open_index
from fusepkg.index.seal import KEY
from fusepkg.model.manifest import write_directory
from tests.manifests import (
    empty_directory_entry,
    executable_entry,
    file_entry,
    in_order,
    manifest_of,
    symlink_entry,
)

EXPECTED = Path(__file__).parent / "index-v2"
TOP_HASH = "cca93e51a210b36b8b98d57d862eb86abc5f7362dc18f23e3768ce9a5a4911ca"
PACKAGE = in_order(
    [
        file_entry("README.md", b"# Example\n", meta={"user_meta": {"é": [1.0, None]}}),
        executable_entry("bin/run"),
        file_entry("data/é/😀\n", bytes(4097)),
        file_entry("data/.-before the dots", b"1"),
        file_entry("data/empty"),
        file_entry("data/large", size=5 << 30),
        symlink_entry("latest", "data/large"),
        symlink_entry("long", "./" * 2040 + "README.md"),
        empty_directory_entry("nothing"),
    ]
)


def manifest() -> bytes:
    header = {"version": "v0", "message": "golden", "user_meta": {"n": 1}}
    first, _, rest = manifest_of(PACKAGE, header).partition(b"\n")
    return first + b"\n" + write_directory("data/", {"about": "é"}) + rest


def with_key(root: Path) -> None:
    """A secret that is always the same, so that seals are."""
    (root / KEY).write_bytes(bytes(range(32)))
    (root / KEY).chmod(0o600)


def build(root: Path) -> Path:
    with_key(root)
    return index_directory(root, build_index([manifest()], root, expected_top_hash=None, allow_file_keys=False))


def test_the_top_hash(tmp_path: Path) -> None:
    assert build(tmp_path).name == TOP_HASH


@pytest.mark.parametrize("name", [IMAGE, SEAL, ENTRIES])
def test_files_are_what_they_were(tmp_path: Path, name: str) -> None:
    made, expected = (build(tmp_path) / name).read_bytes(), (EXPECTED / name).read_bytes()
    assert hashlib.sha256(made).hexdigest() == hashlib.sha256(expected).hexdigest()


def test_files_of_old_can_be_read(tmp_path: Path) -> None:
    directory = index_directory(tmp_path, TOP_HASH)
    directory.mkdir(parents=True)
    with_key(tmp_path)
    for name in (IMAGE, SEAL, ENTRIES):
        (directory / name).write_bytes((EXPECTED / name).read_bytes())
    index = open_index(tmp_path, TOP_HASH)
    assert index is not None
    check_index(index)
    assert list(index.entries) == PACKAGE


if __name__ == "__main__":
    EXPECTED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        built = build(Path(scratch))
        print(built.name)
        for name in (IMAGE, SEAL, ENTRIES):
            (EXPECTED / name).write_bytes((built / name).read_bytes())
