"""What quilt3 published is found by fusepkg under every name it has, checked, and mounted byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fusepkg_cache.digest import Algorithm, compute_digest

from fusepkg import Package
from fusepkg.publish.push import folder_hash
from fusepkg.registry.quilt3 import pointer_time
from fusepkg.registry.tags import time_text
from tests.command import Fusepkg
from tests.interop.places import META, Place, contents_of
from tests.interop.quilt import FIRST_PUSH_S, PUBLISH, run_quilt3
from tests.mount.mounting import mounted


def publish(place: Place, folder: Path, name: str = "ns/data", **options: Any) -> str:
    top_hash: str = run_quilt3(PUBLISH, name=name, registry=place.registry, folder=folder, **options)
    return top_hash


def listed(fusepkg: Fusepkg, reference: str) -> dict[str, dict[str, Any]]:
    found = json.loads(fusepkg("ls", "--recursive", "--json", reference).stdout)
    return {entry["logical_key"]: entry for entry in found if "size" in entry}


@pytest.mark.fuse
def test_a_package_is_mounted_listed_and_verified(place: Place, folder: Path, fusepkg: Fusepkg, tmp_path: Path) -> None:
    top_hash = publish(place, folder, meta=META, message="Größe 😀")
    reference = place.reference("ns/data")
    assert fusepkg("hash", reference).stdout.strip() == top_hash
    assert folder_hash(folder, message="Größe 😀", user_meta=META) == top_hash
    expected = contents_of(folder)
    found = listed(fusepkg, reference)
    assert {key: entry["size"] for key, entry in found.items()} == {key: len(data) for key, data in expected.items()}
    fusepkg("verify", reference)
    with mounted(reference, tmp_path / "m", "fuse") as mount:
        assert contents_of(mount.root) == expected
        assert fusepkg("hash", mount.root).stdout.strip() == top_hash
        fusepkg("verify", mount.root)


def test_two_revisions_by_every_name(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    versions = {}
    for number, (content, message) in enumerate({"first\n": "One", "second\n": None}.items()):
        (folder / "a.txt").write_text(content)
        if place.is_local:  # a build names the files where they are: give each version its own
            folder = folder.rename(tmp_path / f"folder-{number}")
        versions[publish(place, folder, message=message, now=FIRST_PUSH_S + number)] = content
        if place.is_local:
            folder = tmp_path / "folder"
            folder.mkdir()
    old, new = versions
    seconds = [str(FIRST_PUSH_S), str(FIRST_PUSH_S + 1)]
    names = {"": new, ":latest": new, f":{seconds[0]}": old, f":{seconds[1]}": new}
    names |= {f"@{old}": old, f"@{new}": new, f"@{old[:6]}": old, f"@{new[:63]}": new}
    for rest, top_hash in names.items():
        reference = place.reference("ns/data", rest)
        assert fusepkg("hash", reference).stdout.strip() == top_hash, rest
    for top_hash, content in versions.items():
        assert fusepkg("cat", place.reference("ns/data", f"@{top_hash}"), "a.txt").stdout == content
        assert fusepkg("verify", place.reference("ns/data", f"@{top_hash}"))
    history = json.loads(fusepkg("log", "--json", place.reference("ns/data")).stdout)
    times = [time_text(pointer_time(second)) for second in seconds]
    assert [(one["hash"], one["time"], one["message"]) for one in history] == [
        (new, times[1], None),
        (old, times[0], "One"),
    ]
    (tag,) = json.loads(fusepkg("tags", "--json", place.reference("ns/data")).stdout)
    assert (tag["tag"], tag["hash"], tag["time"]) == ("latest", new, times[1])


@pytest.mark.parametrize("place", [pytest.param("unversioned", marks=pytest.mark.s3)], indirect=True)
def test_an_object_that_a_later_push_overwrote_is_noticed(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    hashes = []
    for number, content in enumerate(("first\n", "later\n")):
        (folder / "a.txt").write_text(content)
        hashes.append(publish(place, folder, now=FIRST_PUSH_S + number))
    assert fusepkg("cat", place.reference("ns/data", f"@{hashes[1]}"), "a.txt").stdout == "later\n"
    done = fusepkg("cat", place.reference("ns/data", f"@{hashes[0]}"), "a.txt", check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert fusepkg("verify", place.reference("ns/data", f"@{hashes[0]}"), check=False).returncode == 1


def test_packages_are_listed_once_and_near_names_are_told(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (small / "a.txt").write_text("a\n")
    for name in ("ns/data", "ns/other", "é/日"):
        publish(place, small, name=name)
    publish(place, small, name="ns/data", message="again", now=FIRST_PUSH_S + 5)
    fusepkg("push", small, place.reference("ns/data", ":v1"))
    fusepkg("push", small, place.reference("ours"))
    hiding = fusepkg("push", small, place.reference("ns/other"), "--message", "by fusepkg")
    assert "ns/other:latest was quilt3's tag" in hiding.stderr
    assert "quilt3's tag" not in fusepkg("push", small, place.reference("ns/other"), "--message", "again").stderr
    assert fusepkg("list", place.bucket).stdout.split() == ["ns/data", "ns/other", "ours", "é/日"]
    missing = fusepkg("ls", place.reference("ns/othre"), check=False)
    assert missing.returncode == 3
    assert "ns/other" in missing.stderr
    no_tag = fusepkg("ls", place.reference("ns/data", ":v2"), check=False)
    assert no_tag.returncode == 3
    assert "v1, latest" in no_tag.stderr
    # fusepkg's own tag beside quilt3's: each program follows its own where there are two
    assert fusepkg("hash", place.reference("ns/data")).stdout != fusepkg("hash", place.reference("ns/data:v1")).stdout


def test_a_tag_of_ours_may_name_what_quilt3_published(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    top_hash = publish(place, folder)
    fusepkg("tag", place.reference("ns/data"), "stable")
    assert fusepkg("hash", place.reference("ns/data", ":stable")).stdout.strip() == top_hash
    assert fusepkg("cat", place.reference("ns/data", ":stable"), "a.txt").stdout == "a\n"


def test_metadata_of_directories_and_files(place: Place, fusepkg: Fusepkg, folder: Path) -> None:
    files = {"sizes/empty": {"é": [1.0, "😀"]}, "names/a b": {}}
    publish(place, folder, directories={"names": META}, files=files)
    found = listed(fusepkg, place.reference("ns/data"))
    metas = {key: entry["meta"] for key, entry in found.items() if entry["meta"]}
    assert metas == {key: {"user_meta": meta} for key, meta in files.items()}
    package = Package(place.reference("ns/data"))
    assert {key: package.get_metadata(key) for key in files} == files
    # a push of quilt3's makes the package anew from its entries, and drops what directories have
    assert package.get_metadata("names") == (META if place.is_local else {})
    fusepkg("verify", place.reference("ns/data"))


@pytest.mark.fuse
def test_the_three_kinds_of_hashes(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    hashes = {}
    for name, size in {"empty": 0, "small": 5, "large": 8 * 1024 * 1024 + 3}.items():
        data = name.encode().ljust(size, b".")[:size]
        for kind in ("SHA256", "CRC64NVME", "sha2-256-chunked"):
            (folder / f"{kind}-{name}").write_bytes(data)
        hashes[f"SHA256-{name}"] = {"type": "SHA256", "value": hashlib.sha256(data).hexdigest()}
        checksum = compute_digest(Algorithm.CRC64NVME, data).base64
        hashes[f"CRC64NVME-{name}"] = {"type": "CRC64NVME", "value": checksum}
    assert base64.b64decode(hashes["CRC64NVME-empty"]["value"]) == bytes(8)
    top_hash = publish(place, folder, hashes=hashes)
    reference = place.reference("ns/data")
    assert fusepkg("hash", reference).stdout.strip() == top_hash
    fusepkg("verify", reference)
    with mounted(reference, tmp_path / "m", "fuse") as mount:
        assert contents_of(mount.root) == contents_of(folder)
        fusepkg("verify", mount.root)
    if place.is_local:
        (folder / "CRC64NVME-small").write_bytes(b"Small")
        done = fusepkg("verify", reference, check=False)
        assert done.returncode == 1
        assert "CRC64NVME-small has other contents" in done.stdout


@pytest.mark.fuse
def test_a_registry_of_version_2(place: Place, folder: Path, fusepkg: Fusepkg, tmp_path: Path) -> None:
    top_hash = publish(place, folder, meta=META, version=2)
    reference = place.reference("ns/data")
    assert fusepkg("list", place.bucket).stdout.split() == ["ns/data"]
    for rest in ("", ":latest", f"@{top_hash}", f"@{top_hash[:7]}"):
        assert fusepkg("hash", place.reference("ns/data", rest)).stdout.strip() == top_hash
    fusepkg("verify", reference)
    with mounted(reference, tmp_path / "m", "fuse") as mount:
        assert contents_of(mount.root) == contents_of(folder)


def test_a_manifest_under_a_false_name_is_refused(place: Place, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    top_hash = publish(place, folder)
    other = publish(place, folder, message="another")
    place.store.overwrite(f".quilt/packages/{top_hash}", place.store.get(f".quilt/packages/{other}"))
    done = fusepkg("ls", place.reference("ns/data", f"@{top_hash}"), check=False)
    assert done.returncode == 6
    assert top_hash in done.stderr
    assert other in done.stderr
