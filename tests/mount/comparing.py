"""A program that reads a mount over and over and compares every byte, in a process of its own.

``python -m tests.mount.comparing ROOT VERSION...``: each VERSION is a folder that the mount may show. It goes on until
its standard input ends, and then tells what it has seen, as JSON.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mount.mounting import files_below

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Seen:
    """What programs have seen. ``wrong`` are bytes of no version, ``errors`` are those of reads."""

    files: int
    bytes: int
    wrong: tuple[str, ...]
    errors: tuple[str, ...]


@contextmanager
def comparing(processes: int, root: Path, *versions: Path) -> Iterator[list[Seen]]:
    """Let programs read while the block runs; what they have seen is in the list after it."""
    # They never wait for anything but the mount: with as many cores as programs, they would not hinder its process.
    command = ["nice", sys.executable, "-m", "tests.mount.comparing", root, *versions]
    seen: list[Seen] = []
    running = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(processes)
    ]
    try:
        yield seen
    finally:
        told = [process.communicate()[0] for process in running]
    facts: list[dict[str, Any]] = [json.loads(text) for text in told]
    wrong, errors = (tuple(line for one in facts for line in one[name]) for name in ("wrong", "errors"))
    seen.append(Seen(sum(one["files"] for one in facts), sum(one["bytes"] for one in facts), wrong, errors))


def _has_ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main(root: Path, folders: list[Path]) -> None:
    """Read until standard input ends."""
    versions = [{name: (folder / name).read_bytes() for name in files_below(folder)} for folder in folders]
    names = sorted({name for version in versions for name in version})
    listings = [sorted(os.listdir(folder)) for folder in folders]
    facts: dict[str, Any] = {"files": 0, "bytes": 0, "wrong": [], "errors": []}
    while not _has_ended():
        for name in names:
            _look_at(root, name, [version.get(name) for version in versions], facts)
        try:
            if (listed := sorted(os.listdir(root))) not in listings:
                facts["wrong"].append(f"a listing of no version: {listed}")
        except OSError as exc:
            facts["errors"].append(f"a listing: {exc.strerror}")
    print(json.dumps(facts))


def _look_at(root: Path, name: str, possible: list[bytes | None], facts: dict[str, Any]) -> None:
    try:
        with open(root / name, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            found: bytes | None = file.read()
    except FileNotFoundError:
        found = None
    except OSError as exc:
        facts["errors"].append(f"{name}: {exc.strerror}")
        return
    facts["files"] += 1
    facts["bytes"] += len(found or b"")
    if found not in possible:
        facts["wrong"].append(f"{name}: bytes of no version")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
