"""What a mount asks of the bucket, and when; see docs/reference/semantics.md."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fusepkg.fetch.slots import SMALL_SLOTS
from tests.mount.mounting import end, files_below, forget_pages
from tests.mount.places import Bucket
from tests.proxy import Stall
from tests.trees import CHUNK_BYTES, LARGE_BYTES, MIB

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

    MountFactory = Callable[..., AbstractContextManager[Mount]]

pytestmark = pytest.mark.fuse

SMALL_FILE = "many/class07/img_000007.jpg"
LARGE_FILE = "sizes/large.bin"
MOUNTING = ["GetObject", "GetObject"]
"""What a mount gets before anything is read: the tag and the manifest."""


def asked(place: Place) -> list[str]:
    """The requests since last asked: operation and key. Nothing is known of a folder, so nothing is said of one."""
    if not isinstance(place, Bucket):
        return []
    requests = [f"{request.operation} {request.key}".strip() for request in place.proxy.requests]
    place.proxy.forget()
    return requests


def test_mounting_listing_and_stat_fetch_no_data(place: Place, mount: MountFactory, fusepkg: Fusepkg) -> None:
    """Mounting fetches the tag and the manifest, and no data; listing and stat(2) fetch nothing at all."""
    with mount("big:v1") as mounted:
        if isinstance(place, Bucket):
            listing, tag, manifest = asked(place)
            assert [line.split()[0] for line in (tag, manifest)] == MOUNTING
            assert listing == "ListObjects"
            assert tag.startswith("GetObject .quilt/tags/big/v1/")
            assert manifest.startswith("GetObject .quilt/PACKAGE=big/HASH_PREFIX=")
        listed = subprocess.run(["ls", "-lR", mounted.root], check=True, capture_output=True).stdout
        assert listed.count(b"img_") == 1000
        found = subprocess.run(["find", mounted.root, "-size", "+1M", "-newermt", "1979-01-01"], check=True)
        assert found.returncode == 0
        status = json.loads(fusepkg("status", mounted.root, "--json").stdout)
        assert status["counters"] == dict.fromkeys(status["counters"], 0)
        assert asked(place) == []


def test_a_small_file_is_one_request(place: Place, mount: MountFactory, originals: Originals) -> None:
    """The first read of a file up to 8 MiB is exactly one GET of its object; later reads ask nothing."""
    with mount("big:v1") as mounted:
        asked(place)
        data = (originals.big / SMALL_FILE).read_bytes()
        assert (mounted / SMALL_FILE).read_bytes() == data
        if isinstance(place, Bucket):
            assert asked(place) == [f"GetObject big/{SMALL_FILE}"]
        forget_pages(mounted / SMALL_FILE)
        assert (mounted / SMALL_FILE).read_bytes() == data
        assert asked(place) == []
        counters = mounted.counters
        assert (counters["fetched_objects"], counters["fetched_bytes"]) == (1, len(data))
        assert counters["chunk_lists"] == 0


def test_empty_files_and_links_are_no_request(place: Place, mount: MountFactory) -> None:
    """Empty files and symbolic links are read without a request."""
    with mount("small:v1") as mounted:
        asked(place)
        assert (mounted / "empty").read_bytes() == b""
        assert os.readlink(mounted / "link") == "train/class1/1.bin"
        assert os.listdir(mounted / "nothing-here") == []
        assert asked(place) == []
        assert mounted.counters["fetched_objects"] == 0


def test_a_part_of_a_large_file(place: Place, mount: MountFactory, originals: Originals) -> None:
    """Of a file above 8 MiB only the 8 MiB chunks that are read are fetched, and once the list of their hashes."""
    with mount("big:v1") as mounted:
        asked(place)
        middle = LARGE_BYTES // 2
        with (mounted / LARGE_FILE).open("rb") as ours, (originals.big / LARGE_FILE).open("rb") as theirs:
            theirs.seek(middle)
            assert os.pread(ours.fileno(), MIB, middle) == theirs.read(MIB)
        counters = mounted.counters
        assert 1 <= counters["fetched_objects"] <= 2
        assert counters["fetched_bytes"] == counters["fetched_objects"] * CHUNK_BYTES
        assert counters["chunk_lists"] == 1
        if isinstance(place, Bucket):
            requests = asked(place)
            assert len(requests) == 1 + counters["fetched_objects"]
            assert requests[0].startswith("GetObject .quilt/chunks/")
            assert all(request.startswith("GetObject big/sizes/large.bin") for request in requests[1:])


def test_small_reads_of_a_large_file_with_block_hashes(
    place: Place, mount: MountFactory, originals: Originals, tmp_path: Path
) -> None:
    """Of a file that was pushed with block hashes a small read here or there fetches 64 KiB."""
    (tmp_path / "folder").mkdir()
    os.link(originals.big / LARGE_FILE, tmp_path / "folder" / "large.bin")
    place.publish(tmp_path / "folder", "blocks:v1", "--block-hashes")
    with mount("blocks:v1") as mounted:
        with (mounted / "large.bin").open("rb") as ours, (originals.big / LARGE_FILE).open("rb") as theirs:
            for offset in (LARGE_BYTES // 2, 4096, LARGE_BYTES - 5000):
                os.posix_fadvise(ours.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
                assert os.pread(ours.fileno(), 4096, offset) == os.pread(theirs.fileno(), 4096, offset)
        counters = mounted.counters
        assert counters["fetched_bytes"] <= 6 * 64 * 1024, "each may touch two blocks"
        assert counters["chunk_lists"] <= 4, "the head of the list, and three parts"


def read_at_once(path: Path, places: list[int], length: int, release: Callable[[], object]) -> list[bytes]:
    """Read ``length`` bytes from each place, each in a process of its own; all have opened before ``release``."""
    script = 'exec 3<"$1"; echo; exec dd bs=65536 iflag=skip_bytes,count_bytes skip=$2 count=$3 <&3 2>/dev/null'
    readers = [
        subprocess.Popen(
            ["sh", "-c", script, "sh", path, str(at), str(length)], stdout=subprocess.PIPE
        )
        for at in places
    ]  # fmt: skip
    found = []
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.read(1) == b"\n"
        release()
        for reader in readers:
            assert reader.stdout is not None
            found.append(reader.stdout.read())
    finally:
        release()
        for reader in readers:
            reader.communicate(timeout=60)
    return found


def test_sixteen_readers_of_one_cold_file(place: Place, mount: MountFactory, originals: Originals) -> None:
    """However many programs read the same cold bytes at once, they are fetched once."""
    with mount("big:v1") as mounted:
        asked(place)
        release: Callable[[], object] = lambda: None  # noqa: E731 - the one of a folder
        if isinstance(place, Bucket):
            place.proxy.fail(Stall(), key=f"big/{SMALL_FILE}")
            release = place.proxy.heal
        data = (originals.big / SMALL_FILE).read_bytes()
        assert read_at_once(mounted / SMALL_FILE, [0] * 16, len(data), release) == [data] * 16
        if isinstance(place, Bucket):
            assert asked(place) == [f"GetObject big/{SMALL_FILE}"]
        assert mounted.counters["fetched_objects"] == 1


def test_eight_readers_of_one_cold_chunk(place: Place, mount: MountFactory, originals: Originals) -> None:
    """However many programs read the same cold bytes at once, they are fetched once."""
    with mount("big:v1") as mounted:
        asked(place)
        release: Callable[[], object] = lambda: None  # noqa: E731 - the one of a folder
        if isinstance(place, Bucket):
            place.proxy.fail(Stall(), when=lambda request: request.key.startswith("big/sizes/large"))
            release = place.proxy.heal
        data = (originals.big / LARGE_FILE).read_bytes()
        places = [2 * CHUNK_BYTES + MIB * number // 2 for number in range(8)]
        wanted = [data[at : at + 10_000] for at in places]
        assert read_at_once(mounted / LARGE_FILE, places, 10_000, release) == wanted
        counters = mounted.counters
        assert (counters["fetched_objects"], counters["chunk_lists"]) == (1, 1)
        if isinstance(place, Bucket):
            assert len(place.data_requests()) == 1
            assert len(asked(place)) == 2


@pytest.mark.s3
@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_small_files_are_fetched_side_by_side(place: Place, engine: str, mount: MountFactory) -> None:
    """Programs that read many cold files at once wait side by side: 64 small objects are fetched at a time."""
    assert isinstance(place, Bucket)
    if engine == "erofs" and not os.path.ismount("/sys/fs/fuse/connections"):
        pytest.skip("fusectl is not mounted, so the kernel keeps to its 12 background requests")
    with mount("big:v1") as mounted:
        place.proxy.fail(Stall(), operation="GetObject", times=None)
        files = [mounted / f"many/class{number % 10:02}/img_{number:06}.jpg" for number in range(SMALL_SLOTS + 8)]
        readers = [subprocess.Popen(["cat", file], stdout=subprocess.DEVNULL) for file in files]
        try:
            place.proxy.wait_for(SMALL_SLOTS + len(MOUNTING), operation="GetObject")
        finally:
            place.proxy.heal()
            assert [reader.wait(60) for reader in readers] == [0] * len(readers)


def test_two_mounts_share_what_is_fetched(place: Place, mount: MountFactory, originals: Originals) -> None:
    """All mounts of a user share one cache: the same package at two places fetches each blob once in all."""
    files = files_below(originals.small)
    with mount("small:v1", at="one") as one, mount("small:v1", at="other") as other:
        asked(place)
        for first, second, some in ((one, other, files[::2]), (other, one, files[1::2])):
            for reader in (first, second):
                for name in some:
                    assert (reader / name).read_bytes() == (originals.small / name).read_bytes()
                reader.wait_until_kept(*some, wholly=True)
        blobs = {(originals.small / name).read_bytes() for name in files} - {b""}
        fetched = one.counters["fetched_objects"] + other.counters["fetched_objects"]
        assert fetched == len(blobs) + 1  # the large file has two chunks
        assert one.counters["chunk_lists"] + other.counters["chunk_lists"] == 1
        if isinstance(place, Bucket):
            assert len(place.data_requests()) == fetched


def test_two_versions_at_once(place: Place, mount: MountFactory, originals: Originals) -> None:
    """Several versions can be mounted at once, each with its own files; what they have in common is fetched once."""
    with mount("small:v1", at="one") as one, mount("small:v2", at="two") as two:
        assert files_below(one.root) == files_below(originals.small)
        assert files_below(two.root) == files_below(originals.later) != files_below(originals.small)
        assert (one / "README.md").read_text() == "# A dataset\n"
        assert (two / "README.md").read_text() == "# A later dataset\n"
        for mounted in (one, two):
            assert (mounted / "large.bin").read_bytes() == (originals.small / "large.bin").read_bytes()
            mounted.wait_until_kept("large.bin", wholly=True)
        assert two.counters["fetched_objects"] == 1
        assert one.record.top_hash != two.record.top_hash


def test_a_tag_that_moves(place: Place, engine: str, mount: MountFactory, originals: Originals) -> None:
    """A tag that moves changes no mount; the next mount of the tag shows the version it names then."""
    package = f"moving-{engine}"
    place.publish(originals.small / "test", package)
    with mount(package, at="before") as before:
        place.publish(originals.small / "train", package)
        with mount(package, at="after") as after:
            assert before.record.top_hash != after.record.top_hash
            for mounted, folder in ((before, "test"), (after, "train")):
                for name in files_below(originals.small / folder):
                    assert (mounted / name).read_bytes() == (originals.small / folder / name).read_bytes()


READ_BEFORE = [f"many/class03/img_{number:06}.jpg" for number in range(3, 1000, 40)]
READ_BEFORE += ["names/files/日本語", LARGE_FILE, "sizes/00000000.bin"]


@pytest.fixture
def read_before(mount: MountFactory) -> Mount:
    """A mount that has read some files and is gone."""
    with mount("big:v1") as mounted:
        for name in READ_BEFORE:
            (mounted / name).read_bytes()
        mounted.wait_until_kept(*READ_BEFORE, wholly=True)
        assert mounted.counters["fetched_objects"] == len(READ_BEFORE) - 2 + -(-LARGE_BYTES // CHUNK_BYTES)
    return mounted


def check_read_again(mounted: Mount, originals: Originals) -> None:
    for name in READ_BEFORE:
        assert (mounted / name).read_bytes() == (originals.big / name).read_bytes()
    assert mounted.counters["fetched_objects"] == 0
    with pytest.raises(OSError):
        (mounted / "many/class04/img_000004.jpg").read_bytes()
    assert len(files_below(mounted.root)) == len(files_below(originals.big))


def test_without_the_bucket_by_hash(
    place: Place, mount: MountFactory, read_before: Mount, originals: Originals
) -> None:
    """What was read once can be mounted and read again while the bucket cannot be reached."""
    with place.gone(), mount(f"big@{read_before.record.top_hash}") as mounted:
        check_read_again(mounted, originals)
        assert mounted.record.offline_since_s is None  # a whole hash leaves nothing open


def test_without_the_bucket_by_tag(
    place: Place, engine: str, mount: MountFactory, read_before: Mount, originals: Originals,
    fusepkg: Fusepkg, tmp_path: Path,
) -> None:  # fmt: skip
    """A tag then names the version it was last seen to name, and a warning says so."""
    with place.gone():
        try:
            said = fusepkg("mount", "--engine", engine, place.reference("big:v1"), tmp_path / "m").stderr
        finally:
            end(tmp_path / "m")
        assert "Warning: the bucket cannot be reached" in said
        with mount("big:v1") as mounted:
            assert mounted.record.top_hash == read_before.record.top_hash
            assert mounted.record.offline_since_s is not None
            assert "Offline" in fusepkg("status", mounted.root).stdout
            check_read_again(mounted, originals)
