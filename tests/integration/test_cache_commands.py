"""cache info, clear, gc, verify, pin, export: what a user sees and what is there afterwards, with live mounts."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from fusepkg.cli.application import application
from fusepkg.daemon import control, records
from tests import trees
from tests.command import Fusepkg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proxy import Proxy
    from tests.rgw import Gateway

CHUNK = 8 * 1024 * 1024
LARGE_BYTES = 2 * CHUNK + 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files in two tiers, one of them of three chunks; text, which a terminal can take."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, size in (("small.csv", 10_000), ("middle.bin", 300_000), ("large.bin", LARGE_BYTES)):
        (folder / name).write_text(trees.content(name, size // 2).hex())
    return folder


@pytest.fixture
def told() -> Any:
    """What `fusepkg cache COMMAND --json` tells; asked in this process, which is quicker."""

    def tell(*arguments: object) -> Any:
        command = ["cache", *map(str, arguments), "--json"]
        done = CliRunner().invoke(application(), command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return tell


@contextmanager
def mounted(fusepkg: Fusepkg, reference: str, root: Path, *options: str) -> Iterator[Path]:
    root.mkdir(exist_ok=True)
    fusepkg("mount", "--engine", "fuse", *options, reference, root)
    try:
        yield root
    finally:
        fusepkg("umount", root)


def fetched(root: Path) -> int:
    record, _ = records.find_record(root)
    counters: dict[str, int] = control.ask(Path(record.socket), control.Question("status"))["counters"]
    return counters["fetched_objects"]


def read_all(root: Path) -> dict[str, bytes]:
    for path in root.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.mark.fuse
def test_what_is_told_of_a_cache_in_use(folder: Path, tmp_path: Path, fusepkg: Fusepkg, told: Any) -> None:
    fusepkg("push", folder, "local/some:v1")
    fusepkg("ls", "local/some:v1")
    empty = told("info")
    assert (empty["blobs"], empty["bytes"], empty["max_bytes"]) == (0, 0, None)
    (package,) = empty["packages"]
    assert (package["reference"], package["files_here"], package["files"]) == ("local/some", 0, 3)
    with mounted(fusepkg, "local/some:v1", tmp_path / "m") as root:
        assert (root / "small.csv").read_bytes() == (folder / "small.csv").read_bytes()
        with (root / "large.bin").open("rb") as large:
            large.seek(CHUNK)
            large.read(1)
        for _ in range(1000):  # what is read is kept a moment later
            told_now = told("info", "--cache-size", "50%", "--cache-free", "1MiB")
            if told_now["blobs"] >= 3:
                break
        of_the_mount = json.loads(fusepkg("status", root, "--json").stdout)
    assert of_the_mount["cache"]["max_bytes"] is None
    assert of_the_mount["cache"]["directory"] == told_now["directory"]
    assert (of_the_mount["cache_refusal"], of_the_mount["counters"]["lower_objects"]) == ("", 0)
    assert told_now["small_blobs"] == 2  # the file, and the list of chunks
    assert told_now["large_blobs"] >= 1
    assert told_now["max_bytes"] > 0
    assert told_now["min_free_bytes"] == 1024 * 1024
    assert of_the_mount["cache"]["misses"] > 0
    (package,) = told_now["packages"]
    assert (package["files_here"], package["bytes"]) == (1, 310_000 + LARGE_BYTES)
    assert 10_000 + CHUNK <= package["bytes_here"] < 310_000 + LARGE_BYTES
    shown = fusepkg("cache", "info", "--cache-size", "20GiB", "--cache-free", "1MiB").stdout
    assert "Bound: 20.0 GiB, as long as 1.0 MiB of its disk stay free" in shown
    assert "local/some" in shown
    assert "1 of 3" in shown


def test_clearing_by_age_and_by_package(folder: Path, fusepkg: Fusepkg, told: Any) -> None:
    fusepkg("push", folder, "local/some:v1")
    for name in ("small.csv", "middle.bin", "large.bin"):
        fusepkg("cat", "local/some:v1", name)
    everything = told("info")["blobs"]
    assert everything == 2 + 1 + 3
    assert "Dropped 0 blobs" in fusepkg("cache", "clear", "--older-than", "1h").stderr
    assert "Dropped 0 blobs" in fusepkg("cache", "clear", "local/some:v1", "--older-than", "1h").stderr
    fusepkg("cache", "pin", "local/some:v1")
    time.sleep(1.1)  # times in the cache are seconds
    assert "Dropped 0 blobs" in fusepkg("cache", "clear", "--older-than", "1s").stderr, "it is pinned"
    fusepkg("cache", "unpin", "local/some:v1")
    assert f"Dropped {everything} blobs" in fusepkg("cache", "clear", "--older-than", "1s").stderr
    fusepkg("cat", "local/some:v1", "large.bin")
    assert "Dropped 4 blobs" in fusepkg("cache", "clear", "local/some:v1").stderr
    for wrong in ("7", "1y", "-1d", "d"):
        said = fusepkg("cache", "clear", f"--older-than={wrong}", check=False)
        assert said.returncode == 2
        assert f"{wrong!r} is not an age" in said.stderr


@pytest.mark.fuse
@pytest.mark.s3
def test_what_no_tag_mount_or_pin_names_is_collected(
    folder: Path, tmp_path: Path, fusepkg: Fusepkg, told: Any, s3: Gateway
) -> None:
    """Four versions: one tagged, one mounted, one pinned, one that nothing names."""
    registry = s3.bucket()
    hashes = {}
    for name in ("lost", "mounted", "pinned", "tagged"):
        (folder / "small.csv").write_text(name * 1000)
        hashes[name] = json.loads(fusepkg("push", folder, f"{registry}/some:v1", "--json").stdout)["top_hash"]
        fusepkg("cat", f"{registry}/some:v1", "small.csv")
    fusepkg("cat", f"{registry}/some:v1", "large.bin")
    fusepkg("cache", "pin", f"{registry}/some@{hashes['pinned']}")
    before = told("info")
    assert len(before["packages"]) == 4
    with mounted(fusepkg, f"{registry}/some@{hashes['mounted']}", tmp_path / "m") as root:
        lost = f"{registry}/some@{hashes['lost']}"
        planned = told("gc", "--dry-run")
        assert (planned["versions"], planned["blobs"], planned["bytes"]) == ([lost], 1, 4000)
        assert told("info")["blobs"] == before["blobs"], "nothing was dropped"
        collected = told("gc")
        assert collected == planned | {"dry_run": False}
        again = fusepkg("cache", "gc")
        assert again.stderr == "Dropped 0 versions, 0 blobs, 0 bytes\n"
        fetched_before = fetched(root)
        assert read_all(root)["small.csv"] == b"mounted" * 1000
        assert fetched(root) == fetched_before + 1, "of this version nothing but the middle file was missing"
    after = told("info")
    assert {one["hash"] for one in after["packages"]} == set(hashes.values()) - {hashes["lost"]}


@pytest.mark.s3
def test_a_bucket_that_does_not_answer_keeps_its_packages(
    folder: Path, proxy: Proxy, s3: Gateway, fusepkg: Fusepkg, told: Any
) -> None:
    bucket = s3.bucket()
    fusepkg("push", folder, f"{bucket}/some:v1")
    fusepkg("cat", f"{bucket}/some:v1", "small.csv")
    proxy.unreachable()
    collected = told("gc")
    assert (collected["blobs"], collected["versions"]) == (0, [])
    assert [one["package"] for one in collected["not_asked"]] == [f"{bucket}/some"]
    assert f"Kept all of {bucket}/some: " in fusepkg("cache", "gc").stderr
    assert told("info")["blobs"] == 1


def test_damage_is_found_and_repaired(folder: Path, home: Path, fusepkg: Fusepkg, told: Any) -> None:
    fusepkg("push", folder, "local/some:v1")
    fusepkg("cat", "local/some:v1", "middle.bin")
    assert told("verify")["blobs"] == 1
    assert "verified" in fusepkg("cache", "verify").stderr
    (blob,) = (home / "fusepkg-cache" / "blobs").glob("v2/blobs/*/*/*")
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(70_000)
        file.write(b"\xff\x00\xff")
    found = fusepkg("cache", "verify", check=False)
    assert found.returncode == 1
    assert f"{blob.name} is damaged" in found.stdout
    repaired = fusepkg("cache", "verify", "--repair", "--json", check=False)
    assert repaired.returncode == 1
    assert json.loads(repaired.stdout)["damaged"] == [f"sha2-256-chunked:{blob.name}"]
    assert told("verify")["blobs"] == 0
    assert fusepkg("cat", "local/some:v1", "middle.bin").returncode == 0


@pytest.mark.fuse
def test_what_is_pinned_stays_when_room_is_made(folder: Path, tmp_path: Path, fusepkg: Fusepkg, told: Any) -> None:
    """Also what comes after the pin, and the chunks of a large file, which the pin fetches the list of."""
    registry = "local"
    other = tmp_path / "other"
    other.mkdir()
    for number in range(40):
        (other / f"{number}.bin").write_bytes(trees.content(f"other {number}", 500_000))
    fusepkg("push", folder, f"{registry}/some:v1")
    fusepkg("push", other, f"{registry}/other:v1")
    pinned = told("pin", f"{registry}/some:v1")
    assert pinned["name"] == f"{registry}/some@{pinned['hash']}"
    assert (pinned["files_here"], pinned["files"]) == (0, 3)
    (pin,) = told("pins")
    assert (pin["name"], pin["blobs"]) == (pinned["name"], 3 + 1 + 3)
    with mounted(fusepkg, f"{registry}/some:v1", tmp_path / "some") as root:
        assert len(read_all(root)) == 3
    with mounted(fusepkg, f"{registry}/other:v1", tmp_path / "m", "--cache-size", "25MB") as root:
        assert len(read_all(root)) == 40
    shares = {one["reference"]: one for one in told("info")["packages"]}
    assert shares[f"{registry}/some"]["files_here"] == 3
    assert shares[f"{registry}/other"]["files_here"] < 40
    assert told("info")["evictions"] > 0


def test_unpinning(folder: Path, fusepkg: Fusepkg, told: Any) -> None:
    fusepkg("push", folder, "local/some:v1")
    first = told("pin", "local/some:v1")["hash"]
    (folder / "small.csv").write_text("second")
    fusepkg("push", folder, "local/some:v1")
    second = told("pin", "local/some:v1")["hash"]
    assert {pin["name"] for pin in told("pins")} == {f"local/some@{first}", f"local/some@{second}"}
    assert fusepkg("cache", "unpin", f"local/some@{first[:8]}").stdout == f"Unpinned local/some@{first[:9]}\n"
    gone = fusepkg("cache", "unpin", f"local/some@{first}", check=False)
    assert gone.returncode == 2
    assert f"Pinned are local/some@{second[:9]}\n" in gone.stderr
    fusepkg("cache", "unpin", "local/some:v1")
    assert told("pins") == []
    assert "cache pins" in fusepkg("cache", "unpin", "local/none:v1", check=False).stderr


@pytest.mark.fuse
def test_an_export_serves_as_a_lower_cache(
    folder: Path, tmp_path: Path, fusepkg: Fusepkg, home: Path, told: Any
) -> None:
    """Plain files named by their hashes; the bucket's data is not asked for again, damage in it is passed over."""
    fusepkg("push", folder, "local/some:v1")
    shared = tmp_path / "shared"
    written = told("export", "local/some:v1", shared)
    assert (written["files"], written["bytes"]) == (2 + 3 + 1, 310_000 + LARGE_BYTES + 3 * 32)
    files = [path for path in (shared / "v2" / "blobs").rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        if path.parts[-3] == "sha2-256":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert "all is there already" in fusepkg("cache", "export", "local/some:v1", shared).stderr
    fusepkg("cache", "clear")
    with mounted(fusepkg, "local/some:v1", tmp_path / "m", "--cache-lower", str(shared)):
        assert read_all(tmp_path / "m") == {path.name: path.read_bytes() for path in folder.iterdir()}
        assert fetched(tmp_path / "m") == 0
        status = fusepkg("status", tmp_path / "m").stdout
        assert "Taken from the lower cache: " in status
        assert f"Lower cache: {shared}" in fusepkg("cache", "info", "--cache-lower", shared).stdout
        victim = max(files, key=lambda path: path.stat().st_size)
        victim.chmod(0o600)
        victim.write_bytes(bytes(victim.stat().st_size))
        fusepkg("cache", "clear")
        assert read_all(tmp_path / "m") == {path.name: path.read_bytes() for path in folder.iterdir()}
        assert fetched(tmp_path / "m") == 1


def test_exports_that_cannot_be_written(folder: Path, tmp_path: Path, fusepkg: Fusepkg) -> None:
    fusepkg("push", folder, "local/some:v1")
    for place in (folder / "small.csv", folder / "small.csv" / "below"):
        said = fusepkg("cache", "export", "local/some:v1", place, check=False)
        assert said.returncode == 11
        assert str(place) in said.stderr


def test_a_wrong_bound_names_its_source(fusepkg: Fusepkg) -> None:
    said = fusepkg("cache", "info", "--cache-size", "lots", check=False)
    assert (said.returncode, "--cache-size is 'lots'" in said.stderr) == (2, True)
    said = fusepkg("cache", "info", check=False, env={"FUSEPKG_CACHE_FREE": "120%"})
    assert (said.returncode, "FUSEPKG_CACHE_FREE is '120%'" in said.stderr) == (2, True)
