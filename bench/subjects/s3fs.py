"""s3fs-fuse: a bucket as a directory, with its file cache on."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.memory import own_process
from bench.subjects.subject import Opened, Subject, unmount, wait_for_mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

END_TIMEOUT_S = 20.0


def why_not() -> str:
    """Why s3fs cannot run here; empty where it can."""
    return "" if shutil.which("s3fs") else "s3fs is not installed: apt-get install s3fs"


def version() -> str:
    """The first line of what it says of itself."""
    if why_not():
        return "none"
    done = subprocess.run(["s3fs", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].removeprefix("Amazon Simple Storage Service File System ").strip()


def s3fs(bucket: str, prefix: str, settings: Mapping[str, str]) -> Subject:
    """What lies below a prefix of a bucket, mounted."""

    @contextmanager
    def give(place: Path) -> Iterator[Opened]:
        mountpoint, log = place / "mount", place / "s3fs.log"
        mountpoint.mkdir()
        options = {
            "url": settings["AWS_ENDPOINT_URL_S3"], "endpoint": settings["AWS_REGION"], "use_cache": place / "cache",
            "stat_cache_expire": 86400, "max_stat_cache_size": 1_000_000, "parallel_count": 20,
        }  # fmt: skip
        flags = ["use_path_request_style", "ro", *(f"{name}={value}" for name, value in options.items())]
        command = ["s3fs", f"{bucket}:/{prefix}", str(mountpoint), "-f", "-o", ",".join(flags)]
        environ = {"PATH": os.environ["PATH"], "HOME": str(place), **settings}
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environ, start_new_session=True
            )
        try:
            wait_for_mount(mountpoint, process, log)
            yield Opened(mountpoint, own_process(process.pid))
        finally:
            unmount(mountpoint)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return Subject("s3fs", give, why_not())
