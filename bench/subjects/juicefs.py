"""JuiceFS over the same server, its metadata in SQLite on this disk.

The file system is written once, then mounted read-only with an empty cache for each opening.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.failed import SubjectFailed
from bench.memory import processes_of_session
from bench.subjects.subject import Opened, Subject, unmount, wait_for_mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = str(Path(sys.executable).with_name("juicefs"))
END_TIMEOUT_S = 30.0
WRITERS = 16
OPTIONS = (
    "--attr-cache=86400",
    "--entry-cache=86400",
    "--dir-entry-cache=86400",
    "--no-usage-report",
    "--backup-meta=0",
)
"""Those that help it with data that never change."""


def why_not() -> str:
    """Why JuiceFS cannot run here; empty where it can."""
    return "" if shutil.which(COMMAND) else "juicefs is not installed: scripts/setup.sh bench"


def version() -> str:
    """What it says of itself."""
    if why_not():
        return "none"
    done = subprocess.run([COMMAND, "version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write_file_system(meta: Path, source: Path, bucket_url: str, settings: Mapping[str, str]) -> None:
    """Make a file system whose objects lie at ``bucket_url``, and copy a folder into it. Raises SubjectFailed."""
    environ = _environment(meta.parent, settings)
    command = [
        COMMAND, "format", "--storage=s3", f"--bucket={bucket_url}", "--trash-days=0", f"sqlite3://{meta}", "bench",
    ]  # fmt: skip
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SubjectFailed(f"juicefs format ended with {done.returncode}: {done.stderr[-1000:]}")
    place = meta.parent / "juicefs-write"
    place.mkdir()
    with _mounted(meta, bucket_url, place, environ) as opened:
        _copy(source, opened.directory)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, many files at a time: each waits for its PUT."""
    for directory, _, _ in os.walk(source):
        (target / os.path.relpath(directory, source)).mkdir(exist_ok=True)
    paths = [path for path in source.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(lambda path: shutil.copyfile(path, target / path.relative_to(source)), paths))


def juicefs(meta: Path, bucket_url: str, settings: Mapping[str, str]) -> Subject:
    """The file system of ``write_file_system``; ``bucket_url`` is the way to its objects."""

    @contextmanager
    def give(place: Path) -> Iterator[Opened]:
        with _mounted(meta, bucket_url, place, _environment(place, settings), "--read-only") as opened:
            yield opened

    return Subject("juicefs", give, why_not())


def _environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    keys = {"ACCESS_KEY": settings["AWS_ACCESS_KEY_ID"], "SECRET_KEY": settings["AWS_SECRET_ACCESS_KEY"]}
    return {"PATH": os.environ["PATH"], "HOME": str(home), **settings, **keys}


@contextmanager
def _mounted(meta: Path, bucket_url: str, place: Path, environ: Mapping[str, str], *options: str) -> Iterator[Opened]:
    mountpoint, log = place / "mount", place / "juicefs.log"
    mountpoint.mkdir()
    command = [
        COMMAND, "mount", f"--cache-dir={place / 'cache'}", f"--bucket={bucket_url}", *OPTIONS, *options,
        f"sqlite3://{meta}", str(mountpoint),
    ]  # fmt: skip
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=dict(environ), start_new_session=True
        )
    try:
        wait_for_mount(mountpoint, process, log)
        yield Opened(mountpoint, lambda: processes_of_session(process.pid))
    finally:
        subprocess.run([COMMAND, "umount", str(mountpoint)], env=dict(environ), capture_output=True, check=False)
        unmount(mountpoint)
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
