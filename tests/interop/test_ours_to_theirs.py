"""What fusepkg publishes in quilt3's format the real quilt3 browses, installs and verifies, with the same top hash."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.model.entry import Entry
from fusepkg.model.manifest import write_directory, write_entry, write_header
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.registry.quilt3 import put_quilt3_package
from tests.command import Fusepkg
from tests.interop.places import META, Place, contents_of
from tests.interop.quilt import ADD_FILE, FIRST_PUSH_S, PUBLISH, READ, run_quilt3
from tests.manifests import file_entry, in_order, top_hash_of


def push(fusepkg: Fusepkg, folder: Path, place: Place, *options: str) -> str:
    done = fusepkg("push", "--registry-format", "quilt3", "--json", *options, folder, place.reference("ns/data"))
    top_hash: str = json.loads(done.stdout)["top_hash"]
    return top_hash


def read(place: Place, into: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = run_quilt3(READ, name="ns/data", registry=place.registry, into=into, **options)
    return found


@pytest.mark.parametrize(
    "place",
    ["local", *(pytest.param(kind, marks=pytest.mark.s3) for kind in ("unversioned", "versioned"))],
    indirect=True,
)
def test_a_package_is_browsed_installed_and_verified(
    place: Place, folder: Path, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    top_hash = push(fusepkg, folder, place, "--message", "Größe 😀", "--meta", json.dumps(META))
    found = read(place, tmp_path / "into")
    assert (found["top_hash"], found["message"], found["meta"]) == (top_hash, "Größe 😀", META)
    assert found["verified"] is True
    assert contents_of(tmp_path / "into") == contents_of(folder)
    assert found["packages"] == ["ns/data"]
    assert set(found["versions"].values()) == {top_hash}
    assert "latest" in found["versions"]
    assert all(found["version_ids"]) == place.versioned
    assert [info.key for info in place.store.list(".quilt/") if not info.key.startswith(".quilt/chunks/")] == [
        *(f".quilt/named_packages/ns/data/{pointer}" for pointer in sorted(found["versions"])),
        f".quilt/packages/{top_hash}",
    ]
    # and the registry of this machine in which quilt3 noted what it installed
    installed = f"file://{os.environ['XDG_DATA_HOME']}/Quilt/packages//ns/data"
    for reference in (place.reference("ns/data"), installed):
        assert fusepkg("hash", reference).stdout.strip() == top_hash
        fusepkg("verify", reference)


def test_two_revisions_and_one_of_theirs_between(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("first\n")
    (folder / "b.txt").write_text("the same\n")
    first = push(fusepkg, folder, place)
    assert push(fusepkg, folder, place) == first
    (tmp_path / "theirs.txt").write_text("theirs\n")
    later = FIRST_PUSH_S + 10**9  # after those of today
    second = run_quilt3(ADD_FILE, name="ns/data", registry=place.registry, file=tmp_path / "theirs.txt", now=later)
    assert fusepkg("hash", place.reference("ns/data")).stdout.strip() == second
    assert fusepkg("cat", place.reference("ns/data"), "theirs.txt").stdout == "theirs\n"
    (folder / "a.txt").write_text("third\n")
    (folder / "theirs.txt").write_text("theirs\n")
    third = push(fusepkg, folder, place, "--message", "Third")
    for top_hash, expected in {
        first: {"a.txt": b"first\n", "b.txt": b"the same\n"},
        third: contents_of(folder),
    }.items():
        found = read(place, tmp_path / top_hash, top_hash=top_hash)
        assert (found["top_hash"], found["verified"]) == (top_hash, True)
        assert contents_of(tmp_path / top_hash) == expected
        assert set(found["versions"].values()) == {first, second, third}
        assert found["versions"]["latest"] == third
        assert len(found["versions"]) == 4
    assert read(place, tmp_path / "latest")["top_hash"] == third
    history = json.loads(fusepkg("log", "--json", place.reference("ns/data")).stdout)
    assert {one["hash"] for one in history} == {first, second, third}


def test_metadata_of_files_and_directories(place: Place, tmp_path: Path) -> None:
    metas: dict[str, Any] = {"a": {}, "d/b": {"user_meta": META}, "d/é😀": {"user_meta": {}, "format": {"name": "x"}}}
    entries = []
    for key, meta in metas.items():
        data = key.encode()
        info = place.store.create(f"ns/data/{key}", data)
        found = file_entry(key, data, meta=meta)
        physical_key = parse_physical_key(place.store.url(info.key, info.version))
        entries.append(Entry(key, physical_key, found.size, found.digest, found.meta))
    header = {"version": "v0", "user_meta": META, "message": "with metadata"}
    lines = [write_header(header), write_directory("d/", META), *map(write_entry, in_order(entries))]
    (tmp_path / "manifest").write_bytes(b"".join(lines))
    top_hash = top_hash_of(entries, header)
    put_quilt3_package(place.store, "ns/data", top_hash, tmp_path / "manifest", None)
    assert Package(place.reference("ns/data")).get_metadata("d") == META
    read_by_theirs = read(place, tmp_path / "into", directories=["d"])
    assert read_by_theirs["top_hash"] == top_hash
    assert read_by_theirs["directories"] == {"d": META}
    assert read_by_theirs["files"] == {
        key: meta.get("user_meta", {}) for key, meta in metas.items() if meta.get("user_meta")
    }
    assert read_by_theirs["verified"] is True


def test_a_package_made_step_by_step(place: Place, folder: Path, tmp_path: Path) -> None:
    builder = PackageBuilder(place.reference("ns/data"), quiet=True)
    builder.add(folder / "names", "names/").set_meta("names/", META).set_meta("names/a b", {"k": [1.0]})
    builder.set_meta("", META).message = "step by step"
    ours = builder.push_data_and_manifest(tag="latest", registry_format="quilt3")
    for package in (ours, Package(place.reference("ns/data", f"@{ours.hash}"))):
        assert package.manifest.endswith(f".quilt/packages/{ours.hash}")
    found = read(place, tmp_path / "into", directories=["names"])
    assert (found["top_hash"], found["message"], found["meta"]) == (ours.hash, "step by step", META)
    assert (found["directories"], found["files"]) == ({"names": META}, {"names/a b": {"k": [1.0]}})
    assert found["verified"] is True
    assert contents_of(tmp_path / "into" / "names") == contents_of(folder / "names")
    # what quilt3 makes of the same files, metadata and message is the same version
    theirs = {"meta": META, "message": "step by step", "files": {"names/a b": {"k": [1.0]}}}
    (tmp_path / "again").mkdir()
    shutil.copytree(folder / "names", tmp_path / "again" / "names")
    publish = {"name": "ns/theirs", "registry": place.registry, "folder": tmp_path / "again"}
    assert run_quilt3(PUBLISH, **publish, **theirs) == ours.hash
    # and from theirs on: the next version, with all that was there
    builder = Package(place.reference("ns/theirs")).as_package_builder()
    builder.delete("names/a b").message = "one less"
    smaller = builder.push_data_and_manifest(tag="latest", registry_format="quilt3")
    found = run_quilt3(READ, name="ns/theirs", registry=place.registry, into=tmp_path / "smaller")
    assert (found["top_hash"], found["verified"], found["meta"]) == (smaller.hash, True, META)
    expected = contents_of(folder / "names")
    del expected["a b"]
    assert contents_of(tmp_path / "smaller" / "names") == expected


def test_what_quilt3_would_not_find_is_refused(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a\n")
    for name in ("data", "ns/with.dot", "ns/data:v1"):
        options = ("--registry-format", "quilt3", tmp_path / "folder", place.reference(name))
        done = fusepkg("push", *options, check=False)
        assert done.returncode == 2, name
        assert "quilt3" in done.stderr
    assert list(place.store.list("")) == []
