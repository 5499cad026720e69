"""Millions of opens of a mount's files, and what its process holds meanwhile: memory, descriptors, threads.

``python -m bench.open_soak --engine fuse --workers 1 --csv fuse.csv --plot soak.png``: mounts a small package of
the embedded registry and lets processes open, read and close its files. With ``--csv`` of earlier runs alone, it draws.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from bench.plots import COLOURS, DPI

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

OPENS = 10_000_000
READERS = 4
FILES = 500
SAMPLE_S = 1.0
DAY_S = 86400.0

FIRST_SHARE = 0.1
"""The start of a run, in which pools of threads and allocators come to their size: growth is counted from its end."""

_TOLD_AFTER = 500
_FORGOTTEN_AFTER = 50
"""One open of so many makes the kernel drop the file's pages, so that the mount's process answers the read."""

_READER = f"""
import os, sys
root = sys.argv[1]
paths = [os.path.join(root, name) for name in sorted(os.listdir(root))]
number = 0
while True:
    file = os.open(paths[number % len(paths)], os.O_RDONLY)
    if number % {_FORGOTTEN_AFTER} == 0:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    if not os.read(file, 4096):
        raise SystemExit("an empty file")
    os.close(file)
    number += 1
    if number % {_TOLD_AFTER} == 0:
        os.write(1, b".")
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at a mount's process, so many seconds and opens after the start."""

    seconds: float
    opens: int
    rss_mib: float
    descriptors: int
    threads: int


def publish(folder: Path, reference: str) -> None:
    """Push a package of small files, each of other bytes."""
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:04}.bin").write_bytes(os.urandom(1000 + 37 * number))
    subprocess.run([sys.executable, "-m", "fusepkg", "push", folder, reference], check=True, stdout=subprocess.DEVNULL)


def watch(root: Path, pids: list[int], opens: int, most_s: float = DAY_S, readers: int = READERS) -> list[Sample]:
    """Open files below ``root`` so often in all, for so long at most, and look at the mount's processes meanwhile.

    Raises RuntimeError if a reader ends.
    """
    started, done, samples = time.monotonic(), 0, [_sample(pids, 0, 0)]
    with _reading(root, readers) as running:
        while done < opens and time.monotonic() - started < most_s:
            time.sleep(SAMPLE_S)
            for reader in running:
                assert reader.stdout is not None
                with suppress(BlockingIOError):
                    done += _TOLD_AFTER * len(os.read(reader.stdout.fileno(), 1 << 16))
                if reader.poll() is not None:
                    raise RuntimeError(f"a reader has ended with {reader.returncode}, after {done:,} opens of all")
            samples.append(_sample(pids, time.monotonic() - started, done))
    return samples


@contextmanager
def _reading(root: Path, readers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(readers):
            running.append(subprocess.Popen([sys.executable, "-c", _READER, root], stdout=subprocess.PIPE))
            _unblock(running[-1].stdout)
        yield running
    finally:
        for reader in running:
            reader.kill()
            reader.communicate()


def _unblock(stream: IO[bytes] | None) -> None:
    assert stream is not None
    os.set_blocking(stream.fileno(), False)


def _sample(pids: list[int], seconds: float, opens: int) -> Sample:
    """Look at the mount's processes: the sums of what they have."""
    rss_kib, descriptors, threads = 0, 0, 0
    for pid in pids:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        rss_kib += int(status["VmRSS"].split()[0])
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        threads += int(status["Threads"])
    return Sample(round(seconds, 1), opens, round(rss_kib / 1024, 1), descriptors, threads)


def settled(samples: list[Sample]) -> list[Sample]:
    """Return the samples after the first tenth of the opens."""
    return [one for one in samples if one.opens >= FIRST_SHARE * samples[-1].opens]


def write_samples(samples: list[Sample], path: Path) -> None:
    """Write one line for each sample."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(one) for one in samples)


def read_samples(path: Path) -> list[Sample]:
    """Read what ``write_samples`` has written."""
    with path.open(newline="") as file:
        return [
            Sample(float(row["seconds"]), int(row["opens"]), float(row["rss_mib"]), int(row["descriptors"]),
                   int(row["threads"]))
            for row in csv.DictReader(file)
        ]  # fmt: skip


def draw(runs: dict[str, list[Sample]], path: Path) -> None:
    """Draw memory, descriptors and threads over the opens, a line for each engine."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(7, 6), dpi=DPI, sharex=True, layout="constrained")
    for engine, samples in runs.items():
        opens = [one.opens / 1e6 for one in samples]
        for field, one in zip(("rss_mib", "descriptors", "threads"), axes, strict=True):
            one.plot(opens, [getattr(sample, field) for sample in samples], label=engine, color=COLOURS[engine])
    for one, label in zip(axes, ("memory (RSS), MiB", "descriptors", "threads"), strict=True):
        one.set_ylabel(label)
        one.set_ylim(bottom=0, top=one.get_ylim()[1] * 1.2)
        one.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    axes[0].set_title("The process of a mount while its files are opened, read and closed")
    axes[-1].set_xlabel("millions of opens")
    figure.savefig(path)
    pyplot.close(figure)


def _soak(engine: str, workers: int, opens: int, most_s: float) -> list[Sample]:
    """Mount, watch, unmount, with everything in a scratch directory."""
    with tempfile.TemporaryDirectory(prefix="fusepkg-soak-") as scratch:
        root = Path(scratch, "m")
        root.mkdir()
        for name in ("CACHE", "DATA"):
            os.environ[f"FUSEPKG_{name}_DIR"] = str(Path(scratch, name.lower()))
        publish(Path(scratch, "folder"), "local/soak:v1")
        fusepkg = [sys.executable, "-m", "fusepkg"]
        options = ["--engine", engine, *(("--workers", str(workers)) if workers else ())]
        subprocess.run([*fusepkg, "mount", *options, "local/soak:v1", root], check=True)
        try:
            return watch(root, _pids_of(root), opens, most_s)
        finally:
            subprocess.run([*fusepkg, "umount", root], check=True)


def _pids_of(root: Path) -> list[int]:
    from fusepkg.daemon import control, records

    record = records.find_record(root)[0]
    return [record.pid, *control.ask(Path(record.socket), control.Question("status"))["workers"]]


def main() -> None:
    """Run one soak, or draw those that were run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("fuse", "erofs"))
    parser.add_argument("--workers", type=int, default=0, help="processes beside the one that fetches")
    parser.add_argument("--opens", type=int, default=OPENS)
    parser.add_argument("--most-seconds", type=float, default=DAY_S)
    parser.add_argument("--csv", type=Path, nargs="+", required=True, help="ENGINE.csv, one for each engine")
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    if wanted.engine:
        samples = _soak(wanted.engine, wanted.workers, wanted.opens, wanted.most_seconds)
        write_samples(samples, wanted.csv[0])
        sys.stdout.write(f"{wanted.engine}: {samples[-1].opens:,} opens in {samples[-1].seconds:.0f} s\n")
        sys.stdout.writelines(f"{one}\n" for one in (samples[0], settled(samples)[0], samples[-1]))
    if wanted.plot:
        draw({path.stem: read_samples(path) for path in wanted.csv}, wanted.plot)


if __name__ == "__main__":
    main()
