"""Pushes of very many small files: time, CPU and the most memory.

``python -m bench.pushes --files 1000000 --tree DIR --home DIR`` makes that many files of some 20 bytes, 1,000 to a
directory, pushes them to ``local``, and pushes them again with nothing changed and with one file changed. Each push is
a process of its own, as a user starts it. ``--source DIR`` runs the fusepkg of another tree, to see what a change cost.
On a disk most of the time goes into fsync; for that of fusepkg take a tmpfs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

PER_DIRECTORY = 1_000
HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    """Make the files, and push them three times."""
    parser = argparse.ArgumentParser(prog="python -m bench.pushes", description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--tree", type=Path, default=Path("/var/tmp/fusepkg-pushes/tree"), help="made if missing")
    parser.add_argument("--home", type=Path, default=Path("/var/tmp/fusepkg-pushes/home"), help="registry; removed")
    parser.add_argument("--source", type=Path, default=HERE, help="the tree whose fusepkg is run")
    chosen = parser.parse_args()
    _make_files(chosen.tree, chosen.files)
    for what in ("new", "nothing changed", "one file changed"):
        if what == "one file changed":
            (chosen.tree / "d0000" / "f0000.txt").write_text(f"changed at {time.time_ns()}")
        _push(f"{chosen.files:,} files, {what}", chosen.tree, chosen.home, chosen.source)
    shutil.rmtree(chosen.home)


def _make_files(tree: Path, files: int) -> None:
    for first in range(0, files, PER_DIRECTORY):
        directory = tree / f"d{first // PER_DIRECTORY:04}"
        if directory.exists():  # of an earlier run
            continue
        directory.mkdir(parents=True)
        for number in range(first, min(first + PER_DIRECTORY, files)):
            (directory / f"f{number - first:04}.txt").write_text(f"this is file {number}\n")


def _push(what: str, tree: Path, home: Path, source: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": f"{source}:{source / 'cache'}",
        "FUSEPKG_CACHE_DIR": str(home / "cache"),
        "FUSEPKG_DATA_DIR": str(home / "data"),
    }
    arguments = [sys.executable, "-P", "-m", "fusepkg", "push", str(tree), "local/many-files"]
    began = time.perf_counter()
    process = os.posix_spawn(sys.executable, arguments, environment)
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"the push failed: {os.waitstatus_to_exitcode(status)}")
    peak_mib, cpu = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    sys.stdout.write(
        f"{what}: {seconds:.1f} s, {cpu:.1f} s CPU ({used.ru_utime:.1f} user), {peak_mib:.0f} MiB at most\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
