"""The code of a job: a commit of git, what differs from it, and what git does not know."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.errors import FolderUnfit, InstallError

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 600
"""Longest call of git: a clone over a slow line."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
"""User and password in a URL."""

_PROTOCOLS = "file:git:http:https:ssh"
"""What a clone may use: a snapshot comes from a bucket, and git knows addresses that run programs."""


@dataclass(frozen=True, slots=True)
class Code:
    """``root`` is the work tree, ``prefix`` the job's directory below it. ``bundle`` is True where no remote branch is
    known to have the commit, so that it has to come with the snapshot. ``untracked`` are paths below the root."""

    root: Path
    prefix: str
    commit: str
    remote: str | None
    patch: bytes
    bundle: bool
    untracked: tuple[str, ...]


def look_at_code(directory: Path) -> Code | None:
    """Return the code of a job; None outside git. Raises FolderUnfit where git fails."""
    commit = _ask(directory, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    root = _must(directory, "rev-parse", "--show-toplevel").strip()
    remote = _ask(directory, "config", "--get", "remote.origin.url")
    on_remote = _ask(directory, "branch", "--remotes", "--contains", commit.strip()) or ""
    others = _bytes(directory, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ":/")
    return Code(
        root=directory.__class__(root),
        prefix=_must(directory, "rev-parse", "--show-prefix").strip().rstrip("/"),
        commit=commit.strip(),
        remote=_CREDENTIALS.sub("", remote.strip()) if remote else None,
        patch=_bytes(directory, "diff", "--binary", "--no-ext-diff", "--no-color", "HEAD", "--", ":/"),
        bundle=not (remote and on_remote.strip()),
        untracked=tuple(os.fsdecode(name) for name in others.split(b"\0") if name),
    )


def write_bundle(code: Code, into: Path) -> None:
    """Write the commit and its history to a file. Raises FolderUnfit."""
    _bytes(code.root, "bundle", "create", "--quiet", os.fspath(into), "HEAD")


def check_out(source: str, commit: str, patch: Path | None, into: Path) -> None:
    """Clone ``source`` (an address, or a bundle), check a commit out, and apply a patch. Raises InstallError."""
    _git_or_fail("clone", "--quiet", "--no-checkout", "--", source, os.fspath(into))
    _git_or_fail("-C", os.fspath(into), "checkout", "--quiet", "--detach", commit, "--")
    if patch is not None:
        _git_or_fail("-C", os.fspath(into), "apply", "--binary", "--whitespace=nowarn", "--", os.fspath(patch))


def _git_or_fail(*words: str) -> None:
    try:
        subprocess.run(
            ["git", *words],
            env={**os.environ, "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except FileNotFoundError as exc:
        raise InstallError("git is not installed, and the job's code lies in git") from exc
    except subprocess.CalledProcessError as exc:
        said = exc.stderr.decode(errors="replace").strip().splitlines()
        raise InstallError(
            f"git cannot bring the job's code: {_CREDENTIALS.sub('', said[-1]) if said else exc.returncode}",
            hint="Look whether its repository can be reached, and still has the commit",
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise InstallError(f"git took more than {_TIMEOUT_S} s for the job's code") from exc


def _bytes(directory: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", os.fspath(directory), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise FolderUnfit(f"git {words[0]} fails in {directory}", hint="Try it there") from exc
    return done.stdout


def _must(directory: Path, *words: str) -> str:
    return os.fsdecode(_bytes(directory, *words))


def _ask(directory: Path, *words: str) -> str | None:
    try:
        return _must(directory, *words)
    except FolderUnfit:
        return None
