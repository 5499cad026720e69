"""Mounts of a disk image, between whose readers and the disk no process stands; see docs/reference/semantics.md."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon.mount_table import mounted_at
from tests.mount.conftest import require_engine
from tests.mount.mounting import end, ended, files_below, forget_pages, mounted
from tests.mount.places import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command import Fusepkg
    from tests.mount.conftest import Originals

pytestmark = [pytest.mark.fuse, pytest.mark.s3]

OPTIONS = ("--local-image", "--allow-other")


@pytest.fixture(autouse=True)
def _at_the_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    require_engine("erofs")
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    yield
    bucket.proxy.heal()


def read_all(root: Path, original: Path) -> None:
    assert files_below(root) == files_below(original)
    for name in files_below(original):
        forget_pages(root / name)
        assert (root / name).read_bytes() == (original / name).read_bytes()


def test_nothing_is_asked_of_any_process(
    bucket: Bucket, originals: Originals, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """`mount --local-image` fetches all first; then the kernel reads one file, also when our process is killed."""
    root = tmp_path / "m"
    with mounted(f"{bucket.bucket}/small:v1", root, "auto", *OPTIONS) as mount:
        bucket.proxy.forget()
        read_all(root, originals.small)
        assert bucket.proxy.requests == []
        assert mount.counters["served_bytes"] == 0
        assert mount.record.engine == "image"
        assert "image engine" in fusepkg("status", root).stdout
        os.kill(mount.record.pid, signal.SIGKILL)
        assert ended(mount.record.pid)
        read_all(root, originals.small)
        assert "reads go on" in fusepkg("mounts").stdout
        fusepkg("umount", root)
        assert not mounted_at(root)
        assert str(root) not in fusepkg("mounts").stdout


def test_a_switch_makes_the_next_image(bucket: Bucket, originals: Originals, fusepkg: Fusepkg, tmp_path: Path) -> None:
    """`switch` makes the image of the other version and shows it; what is open is read to its end as it was."""
    root = tmp_path / "m"
    with mounted(f"{bucket.bucket}/small:v1", root, "auto", *OPTIONS) as mount:
        with (root / "train/class0/0.bin").open("rb") as gone, (root / "README.md").open("rb") as changed:
            assert "Switched" in fusepkg("switch", root, "v2").stdout
            assert gone.read() == (originals.small / "train/class0/0.bin").read_bytes()
            assert changed.read() == (originals.small / "README.md").read_bytes()
        read_all(root, originals.later)
        fusepkg("umount", root)
        assert ended(mount.record.pid)


def test_a_damaged_image_is_made_again(
    bucket: Bucket, originals: Originals, fusepkg: Fusepkg, home: Path, tmp_path: Path
) -> None:
    """An image that is there is compared with the version when it is mounted; a damaged one is written again."""
    root = tmp_path / "m"
    root.mkdir()
    reference = f"{bucket.bucket}/small:v1"
    fusepkg("mount", *OPTIONS, reference, root)
    fusepkg("umount", root)
    (image,) = (home / "fusepkg-cache" / "images").iterdir()
    data = bytearray(image.read_bytes())
    data[data.rindex((originals.small / "train/class1/3.bin").read_bytes()) + 100] ^= 1
    image.write_bytes(data)
    try:
        fusepkg("mount", *OPTIONS, reference, root)
        read_all(root, originals.small)
    finally:
        end(root)
    fusepkg("cache", "clear")
    assert list((home / "fusepkg-cache" / "images").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Say so with --allow-other"),
        (("--allow-other", "--supervise"), "--supervise is for a mount that a process serves"),
        (("--allow-other", "--engine", "fuse"), "--engine fuse is for a mount that a process serves"),
    ],
)
def test_what_such_a_mount_cannot_be(
    options: tuple[str, ...], said: str, bucket: Bucket, fusepkg: Fusepkg, tmp_path: Path
) -> None:
    """Options of a mount that a process serves are refused with --local-image, and so is hiding it from other users."""
    refused = fusepkg("mount", "--local-image", *options, f"{bucket.bucket}/small:v1", tmp_path / "m", check=False)
    assert refused.returncode == 2
    assert said in refused.stderr
