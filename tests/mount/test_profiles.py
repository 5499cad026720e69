"""Access profiles, recorded at one mount and replayed by another; see docs/reference/semantics.md."""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.mount.conftest import ENGINES, require_engine
from tests.mount.mounting import KEEP_TIMEOUT_S, POLL_S, mounted
from tests.mount.places import Bucket, surroundings
from tests.trees import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.command import Fusepkg
    from tests.mount.mounting import Mount

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

FILES = 300
READ = [f"f/{number:03}" for number in random.Random(0).sample(range(FILES), 100)]
"""What the recorded program reads, and then the second of the large file's chunks."""


@pytest.fixture(scope="module")
def folder(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files and a large one, published as ``profiled:v1``, and as ``:v2`` without some of them."""
    folder = tmp_path_factory.mktemp("profiled")
    (folder / "f").mkdir()
    for number in range(FILES):
        (folder / "f" / f"{number:03}").write_bytes(random.Random(number).randbytes(5_000))
    (folder / "large").write_bytes(random.Random("large").randbytes(CHUNK_BYTES + 100_000))
    with surroundings(tmp_path_factory.mktemp("publisher"), bucket.settings):
        bucket.publish(folder, "profiled:v1")
        for name in READ[:10]:
            (folder / name).rename(folder / f"{name}-away")
        bucket.publish(folder, "profiled:v2")
        for name in READ[:10]:
            (folder / f"{name}-away").rename(folder / name)
    return folder


@pytest.fixture(autouse=True)
def _at_the_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    yield
    bucket.proxy.heal()


def read_as_recorded(mount: Mount, folder: Path, names: list[str]) -> None:
    for name in names:
        assert (mount / name).read_bytes() == (folder / name).read_bytes()
    with (mount / "large").open("rb") as file:
        wanted = os.pread(file.fileno(), 4096, CHUNK_BYTES + 50_000)
    assert wanted == (folder / "large").read_bytes()[CHUNK_BYTES + 50_000 :][:4096]


def wait_until_replayed(mount: Mount) -> dict[str, Any]:
    deadline = time.monotonic() + KEEP_TIMEOUT_S
    while True:
        replay = mount.status()["profile"]["replay"]
        if replay is not None and (replay["error"] or replay["is_done"]):
            return dict(replay)
        assert time.monotonic() < deadline, "the replay does not end"
        time.sleep(POLL_S)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_recorded_order_is_fetched_by_the_next_mount(
    engine: str,
    bucket: Bucket,
    folder: Path,
    fusepkg: Fusepkg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`mount --replay NAME` fetches what was read at another mount; reading the same then asks the bucket nothing."""
    require_engine(engine)
    reference = f"{bucket.bucket}/profiled"
    with mounted(f"{reference}:v1", tmp_path / "m", engine) as mount:
        fusepkg("profile", "record", mount.root, "--name", "train")
        assert fusepkg("profile", "record", mount.root, check=False).returncode != 0
        read_as_recorded(mount, folder, READ)
        assert "Recording: the access profile train, " in fusepkg("status", mount.root).stdout
        said = json.loads(fusepkg("profile", "stop", mount.root, "--json").stdout)
        assert (said["name"], said["is_cut"]) == ("train", False)
        assert len(READ) + 1 <= said["reads"] <= len(READ) + 2  # the kernel may read a little around
    shown = json.loads(fusepkg("profile", "show", f"{reference}:v2", "--name", "train", "--json").stdout)
    assert [read["path"] for read in shown["first_reads"]][: len(READ)] == READ
    assert shown["missing"] == 10

    monkeypatch.setenv("FUSEPKG_CACHE_DIR", str(tmp_path / "another-machine"))
    bucket.proxy.forget()
    with mounted(f"{reference}:v2", tmp_path / "m", engine, "--replay", "train") as mount:
        replay = wait_until_replayed(mount)
        assert (replay["error"], replay["skipped_files"], replay["files"]) == (None, 10, said["reads"])
        mount.wait_until_kept("large")
        assert len(bucket.data_requests()) < 12, "neighbours in a pack come together"
        asked = len(bucket.proxy.requests)
        read_as_recorded(mount, folder, READ[10:])
        assert bucket.proxy.requests[asked:] == []
        assert "Replaying: the access profile train, " in fusepkg("status", mount.root).stdout


def test_a_profile_that_cannot_be_used_costs_a_warning(
    bucket: Bucket, folder: Path, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """A profile that is missing, cut off, or claims too much costs a mount nothing; `status` and the log say why."""
    require_engine("fuse")
    key = ".quilt/profiles/profiled/broken.jsonl"
    header = '{"fusepkg_profile":1,"top_hash":"' + "0" * 64 + '","recorded_s":1,"seconds":1,"reads":%d}\n'
    bodies = {
        "has no access profile": None,
        "2 reads were written, and 1 lines are there": header % 2 + '{"at":1,"path":"f/000"}\n',
        "claims 1,000,000,000 reads": header % 10**9,
        "line 2": header % 1 + '{"at":1,"path":7}\n',
    }
    for said, body in bodies.items():
        if body is not None:
            bucket.put_registry(key, body.encode())
        with mounted(f"{bucket.bucket}/profiled:v1", tmp_path / "m", "fuse", "--replay", "broken") as mount:
            assert said in wait_until_replayed(mount)["error"]["message"]
            assert (mount / "f/000").read_bytes() == (folder / "f/000").read_bytes()
    bucket.put_registry(
        key, (header % 2 + '{"at":1,"path":"../../etc"}\n{"at":1,"path":"large","offset":9999999999}\n').encode()
    )
    with mounted(f"{bucket.bucket}/profiled:v1", tmp_path / "m", "fuse", "--replay", "broken") as mount:
        replay = wait_until_replayed(mount)
        assert (replay["skipped_files"], replay["fetched_bytes"], replay["error"]) == (2, 0, None)
    refused = fusepkg("profile", "show", f"{bucket.bucket}/profiled:v1", "--name", "none", check=False)
    assert "There are: broken" in refused.stderr
