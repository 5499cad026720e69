"""This machine: what it is, its kernel's caches, and who else uses it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")

PAGES, ALL = 1, 3
"""What ``drop_caches`` drops: pages of files, or directory entries and inodes besides."""


def why_no_drop() -> str:
    """Why this process cannot drop the kernel's caches; empty where it can."""
    return "" if os.access(_DROP, os.W_OK) else "dropping the kernel's caches needs root"


def drop_caches(what: int) -> None:
    """Drop the caches of the whole machine; what is dirty is written first, or it would stay."""
    os.sync()
    _DROP.write_text(str(what))


def load() -> float:
    """Processes that wanted to run, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def describe(scratch: Path) -> dict[str, str]:
    """The machine, for whoever reads the results elsewhere."""
    memory = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "kernel": platform.release(),
        "processor": processor[1] if processor else platform.machine(),
        "processors": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "unknown",
        "disk": _said("findmnt", "-no", "SOURCE,FSTYPE", "-T", str(scratch)),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
    }


def versions(checkout: Path) -> dict[str, str]:
    """Return what runs here, ours and others'. Ours is the last commit that changed the code, not the docs."""
    code = ("--", "fusepkg", "cache", "bench")
    commit = _said("git", "-C", str(checkout), "log", "-1", "--format=%h", *code)
    if _said("git", "-C", str(checkout), "status", "--porcelain", *code):
        commit += "-dirty"
    return {
        "fusepkg": f"{version('fusepkg')} ({commit})",
        "python": platform.python_version(),
        **{name: version(name) for name in ("pyfuse3", "trio", "httptools", "boto3")},
    }


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return " ".join(done.stdout.split())
