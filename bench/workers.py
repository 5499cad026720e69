"""Whether more processes pay: reads of what is cached, the kernel's pages dropped, with 0, 1 and 2 workers.

    .venv/bin/python -m bench.workers [FILES] [READERS]

As root. Files of 10 KB in a package of the embedded registry, 8 readers; the median of three passes, and the folder's
in turn with them. Then a large file, 4 KiB here and there by 4 readers.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PASSES = 3
RANDOM_READS = 2000
LARGE_BYTES = 128 * 1024 * 1024


def fusepkg(*arguments: object) -> None:
    """Run a command."""
    command = [sys.executable, "-m", "fusepkg", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def mounted(engine: str, workers: int, place: Path) -> Iterator[Path]:
    """Mount the package."""
    fusepkg("mount", "--engine", engine, "--workers", workers, "local/bench", place)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def side_by_side(readers: int, read: Callable[[int], None]) -> float:
    """Return how long forked readers take together, in seconds."""
    began = time.perf_counter()
    children = []
    for number in range(readers):
        child = os.fork()
        if child == 0:
            read(number)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return time.perf_counter() - began


def drop_pages() -> None:
    """Make the kernel forget pages, not names."""
    Path("/proc/sys/vm/drop_caches").write_text("1")


def small_files(root: Path, files: int, readers: int) -> float:
    """Return files per second."""
    order = list(range(files))
    random.Random(1).shuffle(order)

    def read(number: int) -> None:
        for one in order[number::readers]:
            descriptor = os.open(root / f"d{one // 200}" / f"f{one}", os.O_RDONLY)
            assert len(os.read(descriptor, 1 << 20)) == 10_000
            os.close(descriptor)

    drop_pages()
    return files / side_by_side(readers, read)


def random_reads(root: Path, readers: int) -> float:
    """Return reads of 4 KiB per second."""

    def read(number: int) -> None:
        where = random.Random(number)
        descriptor = os.open(root / "large", os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(RANDOM_READS):
            os.pread(descriptor, 4096, where.randrange(LARGE_BYTES // 4096) * 4096)
        os.close(descriptor)

    drop_pages()
    return readers * RANDOM_READS / side_by_side(readers, read)


def make_folder(folder: Path, files: int) -> None:
    """Write what is published."""
    for number in range(files):
        directory = folder / f"d{number // 200}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(os.urandom(10_000))
    (folder / "large").write_bytes(os.urandom(LARGE_BYTES))


def main() -> None:
    """Measure, and print a table."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    readers = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    with tempfile.TemporaryDirectory(prefix="fusepkg-bench-") as scratch:
        place = Path(scratch)
        os.environ["FUSEPKG_CACHE_DIR"], os.environ["FUSEPKG_DATA_DIR"] = str(place / "cache"), str(place / "data")
        os.environ["FUSEPKG_COPY_LOCAL"] = "yes"  # else nothing of it is in the cache
        make_folder(place / "folder", files)
        fusepkg("push", place / "folder", "local/bench")
        (place / "mount").mkdir()
        for engine in ("fuse", "erofs"):
            for workers in (0, 1, 2):
                with mounted(engine, workers, place / "mount") as mount:
                    subprocess.run(f"cat {mount}/*/* {mount}/large >/dev/null", shell=True, check=True)
                    time.sleep(1)  # until it is kept
                    rows = [
                        (small_files(place / "folder", files, readers), small_files(mount, files, readers),
                         random_reads(place / "folder", 4), random_reads(mount, 4))
                        for _ in range(PASSES)
                    ]  # fmt: skip
                small = statistics.median(row[1] / row[0] for row in rows)
                reads = statistics.median(row[3] / row[2] for row in rows)
                rates = max(row[1] for row in rows), max(row[3] for row in rows)
                print(  # noqa: T201 - a script
                    f"{engine:6} workers {workers}: small files {rates[0]:8,.0f}/s = {small:.2f} of the folder, "
                    f"4 KiB reads {rates[1]:8,.0f}/s = {reads:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
