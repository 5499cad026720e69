"""The `git` command: run it, read commits of a repository, keep copies of those of other machines."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import RemoteUnavailable, RepositoryUnfit, SystemFailure
from fusepkg.work.private import make_private_directories
from fusepkg.work.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

PROTOCOLS = "file:git:http:https:ssh"
"""How repositories may be fetched: URLs in others' files must not start programs, as ext:: does."""

_LOCATIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
"""What git sets for its hooks; it would lead a git that is started there to the wrong repository."""

_LAST_WORDS = 3
"""Lines of what git says that a message repeats."""


class GitFailed(Exception):
    """git ended with another code than 0; ``said`` are its last words."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


def run_git(directory: Path | str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run git in a directory and return what it prints. Raises GitFailed; SystemFailure if there is no git."""
    environment = {name: value for name, value in os.environ.items() if name not in _LOCATIONS}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": PROTOCOLS, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, env=environment, input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError as exc:
        if not Path(directory).is_dir():
            raise RepositoryUnfit(f"{directory} is not there", hint="Name the directory of a git repository") from exc
        raise SystemFailure("there is no git on this machine", hint="Install git") from exc
    if done.returncode:
        raise GitFailed(_last_words(done.stderr))
    return done.stdout


def top_directory(directory: Path | str) -> Path:
    """Return the working tree a directory lies in. Raises RepositoryUnfit."""
    try:
        return Path(os.fsdecode(run_git(directory, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    except GitFailed as exc:
        raise RepositoryUnfit(
            f"{directory} lies in no git repository: {exc.said}", hint="`git init` makes one; `git clone` copies one"
        ) from exc


def is_bare(directory: Path | str) -> bool:
    """Return whether a directory is a repository without a working tree. Raises RepositoryUnfit, SystemFailure."""
    try:
        return run_git(directory, "rev-parse", "--is-bare-repository") == b"true\n"
    except GitFailed:
        return False


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of a repository whose objects lie below ``directory``; ``hash`` is its whole name."""

    directory: Path
    hash: str

    def blobs(self, prefix: str = "") -> dict[str, str]:
        """Return the object name of each file at or below a path, by its path from the top."""
        listed = run_git(
            self.directory, "ls-tree", "-r", "-z", "--full-tree", self.hash, *([f"{prefix}/"] * bool(prefix))
        )
        found = {}
        for line in listed.split(b"\0")[:-1]:
            facts, _, path = line.partition(b"\t")
            if facts.startswith(b"100"):  # plain files: no links, no submodules
                found[os.fsdecode(path)] = facts.split()[2].decode()
        return found

    def read(self, names: Iterable[str]) -> list[bytes]:
        """Return what objects hold, in the order they are named."""
        names = list(names)
        answer = run_git(self.directory, "cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
        contents, at = [], 0
        for _ in names:
            end = answer.index(b"\n", at)
            size = int(answer[at:end].split()[2])
            contents.append(answer[end + 1 : end + 1 + size])
            at = end + size + 2
        return contents


def find_commit(directory: Path, revision: str, shown: str) -> Commit:
    """Return the commit that a revision names; ``shown`` is the repository for people. Raises RepositoryUnfit."""
    for name in (revision, f"origin/{revision}"):
        try:
            found = run_git(directory, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            return Commit(directory, found.split()[-1].decode())
        except GitFailed as exc:
            said = exc.said
    if "ownership" in said:
        raise RepositoryUnfit(f"git does not read {shown}: {said}")
    raise RepositoryUnfit(
        f"{shown} has no revision {revision!r}", hint="Name a branch, a tag or a commit: `git log --all` shows them"
    )


def copy_of(url: str, copies: Path) -> tuple[Path, float | None]:
    """Return the bare copy of a repository below ``copies``, and None: it is up to date.

    If the repository is out of reach, return when it was last asked (Unix time). Raises RemoteUnavailable without a
    copy.
    """
    copy = copies / hashlib.sha256(url.encode()).hexdigest()[:16]
    if copy.is_dir():
        try:
            run_git(copy, "fetch", "--quiet", "--prune", "--tags", "--force", "origin", "+refs/heads/*:refs/heads/*")
        except GitFailed as exc:
            log.warning("%s cannot be reached, and is read as it was last seen: %s", url, exc.said)
            asked = copy / "FETCH_HEAD"
            return copy, (asked if asked.exists() else copy).stat().st_mtime
        return copy, None
    make_private_directories(copies)
    with scratch_directory(copies, "clone-") as scratch:
        try:
            run_git(scratch, "clone", "--quiet", "--bare", "--", url, "copy")
        except GitFailed as exc:
            raise RemoteUnavailable(
                f"git cannot clone {url}: {exc.said}",
                hint=f"`git ls-remote {url}` must work here without a question: set up its credentials or SSH key",
            ) from exc
        try:
            (scratch / "copy").rename(copy)
        except OSError:  # another process was quicker
            shutil.rmtree(scratch / "copy", ignore_errors=True)
    return copy, None


def _last_words(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return "; ".join(lines[-_LAST_WORDS:]) or "it said nothing"
