"""A package as a value: what it says of itself, what it holds, what it reads."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fusepkg
from fusepkg import Package
from fusepkg.api.entry import PackageDirectory, PackageEntry
from fusepkg.errors import EntryNotFound, HashNotFound, InvalidReference, TagNotFound, UsageError

FILES = 17


def test_it_prints_itself_as_the_use_cases_show(package: Package, published: Path) -> None:
    shown = repr(package).replace(package.hash, "<hash>").replace(str(published), "").replace(package.hash[:2], "<h>")
    at = "file:///data/local"
    assert shown.splitlines()[:7] == [
        "Package(",
        '  name: "local/small:v1",',
        '  tophash: "<hash>",',
        f'  manifest: "{at}/.quilt/PACKAGE=small/HASH_PREFIX=<h>/<hash>.jsonl",',
        "  contents: [",
        f'    "README.md"     -> "{at}/small/README.md"',
        f'    "a b/"          -> "{at}/small/a b/..."',
    ]
    assert shown.splitlines()[-2:] == ["  ]", ")"]


def test_names_tags_and_hashes(package: Package) -> None:
    assert package.name == "local/small:v1"
    assert re.fullmatch("[0-9a-f]{64}", package.hash)
    by_hash = Package("local/small", hash=package.hash)
    assert (by_hash.name, by_hash.tag, by_hash == package) == ("local/small", None, True)
    assert Package(f"local/small@{package.hash[:8]}").hash == package.hash
    assert Package("local/small", tag="v1") == package
    assert Package("local/small", "v2") != package
    assert hash(by_hash) == hash(package)
    with pytest.raises(UsageError, match="another tag"):
        Package("local/small:v1", tag="v2")
    with pytest.raises(TagNotFound):
        Package("local/small")
    with pytest.raises(HashNotFound):
        Package("local/small", hash="0" * 64)
    with pytest.raises(InvalidReference):
        Package("small")


def test_it_has_no_setters(package: Package) -> None:
    for name in ("set", "add", "set_meta", "move_dir_contents", "delete", "push_manifest"):
        assert not hasattr(package, name)
        with pytest.raises(AttributeError, match=rf"^Package has no method {name}\(\)\."):
            getattr(package, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018
    with pytest.raises(AttributeError):
        package.hash = "0"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        package.anything = "0"  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        package["README.md"] = b""  # type: ignore[index]


def test_entries(package: Package, folder: Path) -> None:
    entries = list(package)
    assert len(entries) == len(package) == FILES
    assert [entry.logical_key for entry in entries] == sorted(
        (entry.logical_key for entry in entries), key=lambda key: key.split("/")
    )
    entry = package["train/class1/1.bin"]
    assert entry in entries
    assert entry.get_bytes() == (folder / "train/class1/1.bin").read_bytes()
    assert entry.size == 1001
    assert entry.hash.startswith("sha2-256-chunked:")
    assert [entry.physical_key] == entry.physical_keys
    assert entry.physical_key.endswith("/local/small/same.bin")  # the same bytes are one object
    assert entry.meta == entry.metadata == {}
    assert entry.is_file()
    assert [entry.logical_key for entry in entries if not entry.is_file()] == [
        "link",
        "nothing-here/.fusepkg-empty-directory",
    ]
    assert repr(entry) == "PackageEntry('train/class1/1.bin')"


def test_names_it_has_and_has_not(package: Package) -> None:
    assert "README.md" in package
    assert "train" in package
    assert "train/" in package
    assert "nothing-here" in package
    assert "missing" not in package
    assert "README.md/x" not in package
    assert 1 not in package
    assert package["/train//class1/./1.bin"] == package["train/class1/1.bin"]
    assert repr(package.ls("//train//class0")) == repr(package.ls("train/class0/"))
    for wrong in ("missing", "train/", "", "n" * 300, "a\0b"):
        with pytest.raises(EntryNotFound):
            package.get_entry(wrong)


def test_listings(package: Package) -> None:
    listing = package.ls()
    assert repr(listing).splitlines() == [
        "README.md", "a b/", "annotations/", "empty", "large.bin", "link", "nothing-here/", "run.sh", "same.bin",
        "test/", "train/",
    ]  # fmt: skip
    assert repr(package.ls("train/")) == "train/class0/\ntrain/class1/"
    assert [item.logical_key for item in package.ls("train/class0") if item.is_file()] == [
        "train/class0/0.bin",
        "train/class0/2.bin",
    ]
    assert isinstance(listing[0], PackageEntry)
    assert isinstance(listing[-1], PackageDirectory)
    assert [item.logical_key for item in listing[1:3]] == ["a b/", "annotations/"]
    assert len(listing) == 11
    with pytest.raises(IndexError):
        listing[11]
    assert repr(package.ls("run.sh")) == "run.sh"
    assert repr(package.ls("nothing-here")) == ""
    assert not package.ls("nothing-here")
    with pytest.raises(EntryNotFound):
        package.ls("missing")
    directory = package.ls()[1]
    assert isinstance(directory, PackageDirectory)
    assert (directory.is_dir(), directory.is_file(), directory.meta) == (True, False, {})
    assert repr(directory.ls()) == "a b/ü+%#.txt"


def test_metadata_readme_and_message(package: Package) -> None:
    assert package.meta == package.get_metadata() == {"made": "for tests"}
    assert package.message == "As v1"
    assert package.get_metadata("train/class1/1.bin") == package.get_metadata("train") == {}
    with pytest.raises(EntryNotFound):
        package.get_metadata("missing")
    assert package.readme() == "# A dataset\n"
    assert repr(package.readme()) == "# A dataset\n"


def test_an_entry_opens_as_bytes_or_text(package: Package) -> None:
    entry = package.get_entry("README.md")
    with entry.open() as file, entry.open("rb") as same, entry.open("r") as text:
        assert (file.read(), same.read(), text.read()) == (b"# A dataset\n", b"# A dataset\n", "# A dataset\n")
    with entry.open("rt", encoding="utf-16", errors="replace") as text:
        assert text.encoding == "utf-16"
    with pytest.raises(UsageError, match="only read"):
        entry.open("w")  # type: ignore[call-overload]  # what a program may do


def test_an_entry_that_is_not_there_is_a_key_error(package: Package) -> None:
    with pytest.raises(KeyError) as caught:
        package["missing"]
    assert "missing" in str(caught.value)
    assert not str(caught.value).startswith(("'", '"'))  # KeyError shows its message as a literal


def test_bytes(package: Package, folder: Path) -> None:
    large = (folder / "large.bin").read_bytes()
    assert package.get("large.bin") == package.get_contents("large.bin") == large
    assert package.get("empty") == b""
    assert package.get("link") == b"train/class1/1.bin"
    assert package.size == sum(entry.size for entry in package)


def test_a_file_object_seeks_and_reads_like_any_other(package: Package, folder: Path) -> None:
    large = (folder / "large.bin").read_bytes()
    with package.open("large.bin") as file, (folder / "large.bin").open("rb") as real:
        for offset, whence, length in [
            (0, 0, 10),
            (-10, 2, 100),
            (8 << 20, 0, 5000),
            (5, 1, 0),
            (10**9, 0, 1),
            (3, 0, -1),
        ]:
            assert file.seek(offset, whence) == real.seek(offset, whence)
            assert file.read(length) == real.read(length)
            assert file.tell() == real.tell()
        with pytest.raises(ValueError):
            file.seek(-1)
        assert file.readable()
        assert not file.writable()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        buffer = bytearray(5)
        file.seek(1)
        assert file.readinto(buffer) == 5
        assert buffer == large[1:6]
    with pytest.raises(ValueError):
        file.read()
    assert list(io.TextIOWrapper(package.open("README.md"))) == ["# A dataset\n"]


def test_json_entries_have_items(package: Package) -> None:
    annotations = package.get_entry("annotations/train.json")
    assert annotations["images"][0]["path"] == "1.jpg"
    assert list(annotations) == ["images", "annotations"]
    assert annotations.json() is annotations.json()
    with pytest.raises(UsageError, match="is not JSON"):
        package["README.md"]["a"]


def test_differences_and_filters(package: Package) -> None:
    later = Package("local/small:v2")
    differences = package.diff(later)
    assert (differences.added, differences.removed, differences.modified) == (["new.txt"], ["same.bin"], ["README.md"])
    assert repr(differences) == "modified README.md\nadded new.txt\nremoved same.bin"
    assert len(differences) == 3
    assert not package.diff(package)
    assert repr(package.diff(package)) == "No differences"
    chosen = package.filter(lambda entry: entry.logical_key.endswith("0.bin"))
    assert [entry.logical_key for entry in chosen] == ["test/class0/0.bin", "train/class0/0.bin"]


def test_it_pickles_by_its_name_and_hash(package: Package) -> None:
    pickled = pickle.dumps((package, list(package)))
    assert len(pickled) < 2000
    again, entries = pickle.loads(pickled)
    assert (again, again.name, again.tag) == (package, package.name, "v1")
    assert entries == list(package)
    assert [entry.get_bytes() for entry in entries] == [entry.get_bytes() for entry in package]


def test_the_cache_is_filled_and_emptied(package: Package, published: Path) -> None:
    package.cache("train/")
    package["large.bin"].cache()
    away = published / "data-away"
    (published / "data").rename(away)
    try:
        assert len(package.get("train/class1/1.bin")) == 1001
        assert package.open("large.bin").read(10)
        with pytest.raises(Exception, match="2\\.bin"):
            package.get("test/class0/2.bin")
        package.clear_cache("train/class1")
        with pytest.raises(Exception, match="3\\.bin"):
            package.get("train/class1/3.bin")
        assert package.get("train/class0/2.bin")
        package.clear_cache()
        with pytest.raises(Exception, match="2\\.bin"):
            package.get("train/class0/2.bin")
    finally:
        away.rename(published / "data")
    package.cache()


def test_a_package_is_known_without_a_word_of_the_command_line() -> None:
    assert fusepkg.__all__ == ["Package", "PackageBuilder", "__version__", "configure"]
    with pytest.raises(AttributeError):
        fusepkg.nothing  # noqa: B018
    code = "import sys, fusepkg.cli.main; sys.exit(any(name.startswith('fusepkg.api') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
