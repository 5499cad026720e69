"""A git working tree with tracked data: its configuration, its pointers, its ignore files and hooks."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fusepkg.errors import InvalidReference, RepositoryUnfit, SystemFailure, UsageError
from fusepkg.gitdata.pointer import SUFFIX, Pointer, parse_pointer
from fusepkg.model.reference import parse_reference
from fusepkg.work.git import run_git, top_directory
from fusepkg.work.scratch import scratch_name

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = ".fusepkg.toml"
"""At the top of the working tree, kept in git: which registry tracked data goes to, and how data is brought."""

_HOOKS = {"post-checkout": "checkout || :", "post-merge": "checkout || :", "pre-push": "push"}
"""The branch is checked out whatever becomes of data; what is not pushed keeps git from pushing."""

_HOOK_MARK = "# fusepkg init --git"

WAYS = ("files", "mount")
"""How data is brought: as ordinary files, or mounted."""


class CheckedOut(msgspec.Struct, frozen=True):
    """What was put into a directory here: the version, and whether as ``files`` or as a ``mount``.

    ``file`` as in a pointer. ``is_unfinished``: it is being put there, or was when that was stopped; ``before`` is what
    was there then.
    """

    package: str
    top_hash: str
    way: str
    file: str = ""
    is_unfinished: bool = False
    before: CheckedOut | None = None


@dataclass(frozen=True, slots=True)
class Worktree:
    """``registry`` is what the names of new packages begin with; ``way`` one of ``WAYS``."""

    root: Path
    registry: str
    way: str

    @classmethod
    def of(cls, directory: Path) -> Worktree:
        """Return the one a directory lies in. Raises RepositoryUnfit, also where `init --git` was not run."""
        root = top_directory(directory)
        try:
            content = tomllib.loads((root / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise RepositoryUnfit(
                f"{root} tracks no data with fusepkg", hint="`fusepkg init --git` prepares it, once in a repository"
            ) from exc
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise RepositoryUnfit(f"{root / CONFIG} cannot be read: {exc}") from exc
        registry, way = content.get("registry"), content.get("bring", WAYS[0])
        if not isinstance(registry, str) or way not in WAYS or set(content) - {"registry", "bring"}:
            raise RepositoryUnfit(f"{root / CONFIG} has to have `registry`, and may have `bring`: files or mount")
        _check_registry(registry)
        return cls(root, registry, way)

    @classmethod
    def find(cls, directory: Path) -> Worktree | None:
        """Return the one a directory lies in; None if it is in no repository, or in one that tracks no data."""
        try:
            root = top_directory(directory)
        except (RepositoryUnfit, SystemFailure):
            return None
        return cls.of(root) if (root / CONFIG).exists() else None

    def name_of(self, directory: Path) -> str:
        """Return a directory as a path from the top. Raises UsageError for one outside."""
        place = Path(os.path.abspath(directory))
        root = self.root if place.is_relative_to(self.root) else self.root.resolve()
        if not place.is_relative_to(root):
            place = place.parent.resolve() / place.name
        if not place.is_relative_to(root) or place == root:
            raise UsageError(f"{directory} is no directory below {self.root}")
        return str(place.relative_to(root))

    # --- pointers --------------------------------------------------------------------------------------------

    def pointers(self) -> dict[str, Pointer]:
        """Return all pointers of the working tree, by the directory each is of. Raises RepositoryUnfit."""
        listed = run_git(self.root, "ls-files", "-z", "-co", "--exclude-standard", "--", f"*{SUFFIX}")
        found = {}
        for name in sorted({os.fsdecode(one) for one in listed.split(b"\0")[:-1]}):
            with suppress(FileNotFoundError):  # removed, and git does not know yet
                found[name.removesuffix(SUFFIX)] = parse_pointer((self.root / name).read_bytes(), name)
        return found

    def write_pointer(self, name: str, pointer: Pointer) -> None:
        """Write the pointer of a directory, and have git ignore the directory."""
        write_whole(self.root / f"{name}{SUFFIX}", pointer.text())
        have_git_ignore(self.root / name)

    # --- what was brought ------------------------------------------------------------------------------------

    @property
    def _state(self) -> Path:
        said = os.fsdecode(run_git(self.root, "rev-parse", "--absolute-git-dir").removesuffix(b"\n"))
        return Path(said) / "fusepkg.json"

    def brought(self) -> dict[str, CheckedOut]:
        """Return what was put into directories of this working tree; lost is as if nothing was."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=dict[str, CheckedOut])
        except (OSError, msgspec.MsgspecError):
            return {}

    def note_brought(self, brought: Mapping[str, CheckedOut]) -> None:
        """Remember that."""
        write_whole(self._state, json.dumps(msgspec.to_builtins(dict(brought)), indent=1, sort_keys=True) + "\n")


def have_git_ignore(path: Path) -> None:
    """Add a file or directory to the `.gitignore` beside it, unless it is there."""
    ignore = path.parent / ".gitignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    line = "/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", path.name)
    if line not in lines:
        write_whole(ignore, "\n".join([*lines, line, ""]))


def prepare(directory: Path, registry: str, way: str) -> tuple[Worktree, list[str]]:
    """Write the configuration of a working tree and install its hooks; return those that others have occupied.

    What is there already is kept: an empty ``registry`` or ``way`` changes nothing. Raises RepositoryUnfit.
    """
    root = top_directory(directory)
    before = Worktree.of(root) if (root / CONFIG).exists() else None
    registry = (
        _with_namespace(registry, root) if registry else before.registry if before else f"local/{_slug(root.name)}"
    )
    way = way or (before.way if before else WAYS[0])
    _check_registry(registry)
    write_whole(
        root / CONFIG,
        f"# `fusepkg init --git` writes this file.\nregistry = {json.dumps(registry)}\nbring = {json.dumps(way)}\n",
    )
    hooks = Path(
        os.fsdecode(run_git(root, "rev-parse", "--path-format=absolute", "--git-path", "hooks").removesuffix(b"\n"))
    )
    hooks.mkdir(parents=True, exist_ok=True)
    occupied = []
    for name, command in _HOOKS.items():
        hook = hooks / name
        if hook.exists() and _HOOK_MARK not in hook.read_text(errors="replace"):
            occupied.append(name)
            continue
        write_whole(hook, f'#!/bin/sh\n{_HOOK_MARK}\n"{sys.executable}" -m fusepkg {command}\n')
        hook.chmod(hook.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return Worktree(root, registry, way), occupied


def package_for(worktree: Worktree, name: str, others: Mapping[str, Pointer]) -> str:
    """Return the package of a tracked directory: the same each time, and no other directory's."""
    slug = _slug(name.replace("/", "."))
    taken = {pointer.package for other, pointer in others.items() if other != name}
    package = f"{worktree.registry}/{slug}"
    number = 2
    while package in taken:
        package, number = f"{worktree.registry}/{slug}-{number}", number + 1
    return package


def tracked_by_git(worktree: Worktree, name: str) -> bool:
    """Return whether git keeps a file, or files of a directory, itself."""
    return bool(run_git(worktree.root, "ls-files", "-z", "--", f":(literal){name}"))


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text).lstrip(".-")[:100] or "data"


def _with_namespace(registry: str, root: Path) -> str:
    """Return a registry with a namespace: that of the repository's name, unless one was said."""
    scheme, separator, rest = registry.partition("://")
    if separator and scheme == "file":
        directory, double, namespace = rest.rstrip("/")[1:].partition("//")
        return f"file:///{directory}//{namespace if double else _slug(root.name)}"
    return (
        registry.rstrip("/")
        if "/" in (rest if separator else registry).rstrip("/")
        else f"{registry.rstrip('/')}/{_slug(root.name)}"
    )


def _check_registry(registry: str) -> None:
    try:
        reference = parse_reference(f"{registry}/data")
    except InvalidReference as exc:
        raise RepositoryUnfit(
            f"{registry!r} cannot be a registry of tracked data: {exc.message}",
            hint="Write BUCKET, BUCKET/NAMESPACE, file:///DIR or local",
        ) from exc
    if "/" not in reference.name:
        raise RepositoryUnfit(f"{registry!r} has no namespace", hint="Write BUCKET/NAMESPACE")


def write_whole(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    unfinished = path.with_name(scratch_name(f".{path.name}-"))
    try:
        unfinished.write_text(text, encoding="utf-8")
        if path.exists():
            unfinished.chmod(stat.S_IMODE(path.stat().st_mode))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
