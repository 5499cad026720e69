"""A transform of 20,000 pictures whose driver, then a worker, is killed half way: the repeat does what is missing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fusepkg import Package, PackageBuilder
from fusepkg.api.entry import PackageEntry
from fusepkg.opened.contexts import close_contexts
from tests.rgw import Gateway

COUNT = 20_000
ROOT = Path(__file__).parents[2]


def smaller(entry: PackageEntry) -> bytes:
    """Halve a picture, and say so with the worker's process."""
    with Image.open(io.BytesIO(entry.get_bytes())) as picture:
        small = picture.resize((picture.width // 2, picture.height // 2))
    written = io.BytesIO()
    small.save(written, "PNG")
    os.write(1, f"{entry.logical_key} {os.getpid()}\n".encode())
    return written.getvalue()


def drive(bucket: str, out: str) -> None:
    made = Package(f"{bucket}/pictures:v1").map(smaller, out=f"{bucket}/{out}", executor="processes", jobs=2)
    assert made.failures == ()


@pytest.mark.stress
@pytest.mark.s3
def test_a_killed_transform_ends_as_an_undisturbed_one(s3: Gateway, tmp_path: Path) -> None:
    bucket = s3.bucket()
    (folder := tmp_path / "pictures").mkdir()
    for number in range(COUNT):
        Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(folder / f"{number:05}.png")
    PackageBuilder(f"{bucket}/pictures", quiet=True).add(f"{folder}/", "").push_data_and_manifest(tag="v1")
    close_contexts()

    def start(out: str) -> subprocess.Popen[str]:
        program = f"from tests.stress.test_transform_soak import drive; drive({bucket!r}, {out!r})"
        return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def lines(driver: subprocess.Popen[str], most: int) -> list[str]:
        assert driver.stdout is not None
        return [line for _ in range(most) if (line := driver.stdout.readline())]

    done = []
    with start("out:v1") as driver:
        done += lines(driver, COUNT // 2)
        driver.kill()
        done += lines(driver, COUNT)
    with start("out:v1") as driver:
        done += lines(driver, COUNT // 4)
        os.kill(int(done[-1].split()[1]), signal.SIGKILL)
        done += lines(driver, COUNT)
    assert driver.returncode == 0
    print(f"{len(done) - COUNT:,} of {COUNT:,} calls were made twice")
    assert COUNT <= len(done) < COUNT * 1.1
    with start("undisturbed:v1") as driver:
        assert len(lines(driver, COUNT + 1)) == COUNT
    hashes = {Package(f"{bucket}/{name}:v1").hash for name in ("out", "undisturbed")}
    assert len(hashes) == 1
