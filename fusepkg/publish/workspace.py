"""A whole workspace as a version: all of it but what is ignored, and what is needed to make it again.

The record is metadata of the package, under the key ``workspace``: the commit of git, the input packages, the command
line. No other push writes it, so that their top hash depends on nothing but what they hold.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FolderUnfit
from fusepkg.publish.folder import Symlinks
from fusepkg.publish.ignoring import Ignoring

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from fusepkg.publish.draft.draft import Draft
    from fusepkg.publish.draft.items import Item

STATE_NAME = "fusepkg-builder.jsonl"
"""The file that keeps a version being made step by step: it changes with each step, so it is no part of any."""

_GIT_TIMEOUT_S = 60
"""Longest ``git status`` of a large work tree on a slow disk."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
"""User and password in a URL."""


def is_workspace(source: str) -> bool:
    """Return whether what a user adds is the working directory itself, all of it."""
    return "://" not in source and bool(source) and os.path.normpath(source) == "."


def add_workspace(
    draft: Draft,
    *,
    logical_key: str = "",
    inputs: Iterable[str] = (),
    command: Sequence[str] | None = None,
    own: Collection[str] = (),
    symlinks: Symlinks = Symlinks.REFUSE,
) -> Item:
    """Add the working directory, and record in the package's metadata how it came about.

    ``inputs`` are references with hashes; ``own`` the logical keys of what is not the user's, such as mounts.

    Raises: FolderUnfit, KeyCollision, UsageError.
    """
    directory = Path.cwd()
    ignoring = Ignoring(directory, {STATE_NAME, *own})
    item = draft.add(".", logical_key, symlinks=symlinks, leave_out=ignoring.leaves_out)
    draft.record = describe(directory, inputs=inputs, command=command)
    return item


def describe(directory: Path, *, inputs: Iterable[str] = (), command: Sequence[str] | None = None) -> dict[str, Any]:
    """The record of a workspace."""
    record: dict[str, Any] = {
        "git": _git(directory),
        "inputs": sorted(set(inputs)),
        "python": platform.python_version(),
    }
    if command is not None:
        record["command"] = [_legible(word) for word in command]
    return record


def _git(directory: Path) -> dict[str, Any] | None:
    """Commit, whether anything differs from it, and where it can be had; None outside git."""
    commit = _ask_git(directory, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _ask_git(directory, "status", "--porcelain", "--", ".", f":(exclude){STATE_NAME}")
    if changes is None:
        raise FolderUnfit(f"git cannot say what has changed in {directory}", hint="Try `git status` there")
    remote = _ask_git(directory, "config", "--get", "remote.origin.url")
    return {
        "commit": commit,
        "dirty": bool(changes),
        "remote": _CREDENTIALS.sub("", remote) if remote else None,
        "directory": _ask_git(directory, "rev-parse", "--show-prefix") or "",
    }


def _ask_git(directory: Path, *words: str) -> str | None:
    """What git says; None where there is no git, no repository, or no answer."""
    try:
        answer = subprocess.run(
            ["git", "-C", os.fspath(directory), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _legible(os.fsdecode(answer.stdout)).strip()


def _legible(text: str) -> str:
    """Text that JSON can hold: bytes that are not UTF-8 are shown as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
