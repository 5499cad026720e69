"""fusepkg itself, through its command line as a user has it, with either engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.failed import SubjectFailed
from bench.memory import processes_of_mount
from bench.subjects.subject import Opened, Subject, is_mounted, unmount
from fusepkg.engines.kernel import why_no_erofs, why_no_fuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENGINES = ("erofs", "fuse")
COMMAND = str(Path(sys.executable).with_name("fusepkg"))
COMMAND_TIMEOUT_S = 600.0
"""Longest command: publishing the workload takes half a minute, on a busy disk some."""


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of our command: nothing of the user's but the path; ``settings`` are added."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    return {**kept, "HOME": str(home), "FUSEPKG_CACHE_DIR": str(home / "cache"), **settings}


def run(environ: Mapping[str, str], *arguments: object) -> str:
    """Run one command to its end and give what it printed. Raises SubjectFailed."""
    command = [COMMAND, *map(str, arguments)]
    done = subprocess.run(
        command, env=dict(environ), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise SubjectFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def why_not(engine: str) -> str:
    """Why an engine cannot run here; empty where it can."""
    return (why_no_erofs() if engine == "erofs" else why_no_fuse()) or ""


def fusepkg(engine: str, reference: str, settings: Mapping[str, str]) -> Subject:
    """A package mounted with one engine; each opening has a cache of its own, empty, without an index."""

    @contextmanager
    def give(place: Path) -> Iterator[Opened]:
        with mounted(engine, reference, place / "mount", environment(place, settings)) as opened:
            yield opened

    return Subject(engine, give, why_not(engine))


@contextmanager
def mounted(engine: str, reference: str, mountpoint: Path, environ: Mapping[str, str]) -> Iterator[Opened]:
    """Mount a package, and unmount it at the end, whatever happened."""
    mountpoint.mkdir(exist_ok=True)
    try:
        start = time.monotonic()
        run(environ, "mount", "--engine", engine, reference, mountpoint)
        mount_s = time.monotonic() - start
        records = json.loads(run(environ, "mounts", "--json"))
        daemon = next(record["pid"] for record in records if record["mountpoint"] == str(mountpoint))
        ours = f"FUSEPKG_CACHE_DIR={environ['FUSEPKG_CACHE_DIR']}"
        yield Opened(mountpoint, lambda: processes_of_mount(daemon, ours), mount_s)
        run(environ, "umount", mountpoint)
    finally:
        if is_mounted(mountpoint):
            unmount(mountpoint)
