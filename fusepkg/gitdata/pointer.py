"""A pointer: the small file `DIR.fusepkg` that says which version the data in DIR is. People review it in git."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import InvalidReference, RepositoryUnfit
from fusepkg.model.reference import parse_reference
from fusepkg.registry.layout import is_top_hash

if TYPE_CHECKING:
    from fusepkg.model.reference import Reference

SUFFIX = ".fusepkg"

_HEADING = "# Data tracked by fusepkg. `fusepkg checkout` brings it, `fusepkg track` writes this file.\n"
_CONFLICT = re.compile(rb"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pointer was imported from: a path in another repository, the revision that is followed, and its commit.

    An empty revision stands for the repository's default branch.
    """

    repository: str
    path: str
    revision: str
    commit: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """``package`` without a version, its top hash, bytes and number of files; ``origin`` of an imported one.

    Of a tracked file, ``file`` is the name that it has in the version; of a directory, it is empty.
    """

    package: str
    top_hash: str
    size: int
    files: int
    origin: Origin | None = None
    file: str = ""

    @property
    def reference(self) -> Reference:
        """The version it names."""
        return parse_reference(f"{self.package}@{self.top_hash}")

    def text(self) -> str:
        """Return the file: a fact a line, so that a diff says what has changed."""
        lines = [
            f"package = {json.dumps(self.package)}",
            f"top_hash = {json.dumps(self.top_hash)}",
            f"size = {self.size}",
            f"files = {self.files}",
        ]
        if self.file:
            lines.append(f"file = {json.dumps(self.file)}")
        if self.origin is not None:
            lines += ["", "[import]"]
            lines += [f"{name} = {json.dumps(getattr(self.origin, name))}" for name in Origin.__dataclass_fields__]
        return _HEADING + "\n".join(lines) + "\n"


def parse_pointer(text: bytes, name: str) -> Pointer:
    """Read a pointer; ``name`` is the file for people. Raises RepositoryUnfit, naming what is wrong with it."""
    if found := _CONFLICT.search(text):
        line = text[: found.start()].count(b"\n") + 1
        raise RepositoryUnfit(
            f"{name}, line {line}: it is in a merge conflict",
            hint=f"Take one side: `git checkout --ours {name}` or `git checkout --theirs {name}`, then `git add` it",
        )
    try:
        content = tomllib.loads(text.decode())
    except UnicodeDecodeError as exc:
        raise RepositoryUnfit(f"{name} is not UTF-8") from exc
    except tomllib.TOMLDecodeError as exc:
        raise RepositoryUnfit(f"{name} is no pointer: {exc}", hint=_MEND) from exc
    source = content.pop("import", None)
    file = content.pop("file", "")
    if not isinstance(file, str) or "/" in file or file in (".", ".."):
        raise RepositoryUnfit(f"{name}: 'file' is {str(file)[:80]!r}, which is no name", hint=_MEND)
    _check(content, {"package": str, "top_hash": str, "size": int, "files": int}, name)
    origin = None
    if source is not None:
        if not isinstance(source, dict):
            raise RepositoryUnfit(f"{name}: `import` is no table", hint=_MEND)
        _check(source, dict.fromkeys(Origin.__dataclass_fields__, str), name)
        origin = Origin(**source)
    pointer = Pointer(**content, origin=origin, file=file)
    if not is_top_hash(pointer.top_hash):
        raise RepositoryUnfit(f"{name}: {pointer.top_hash[:80]!r} is no top hash", hint=_MEND)
    try:
        stands_for_itself = pointer.reference.package == pointer.package
    except InvalidReference as exc:
        raise RepositoryUnfit(f"{name}: {exc.message}", hint=_MEND) from exc
    if not stands_for_itself:
        raise RepositoryUnfit(f"{name}: {pointer.package!r} is not the name of a package alone", hint=_MEND)
    return pointer


_MEND = "It was edited by hand? `git checkout` brings back the one of a commit"


def _check(content: dict[str, Any], kinds: dict[str, type], name: str) -> None:
    for key in content:
        if key not in kinds:
            raise RepositoryUnfit(f"{name} has {key!r}, which no pointer has", hint=_MEND)
    for key, kind in kinds.items():
        if key not in content:
            raise RepositoryUnfit(f"{name} has no {key!r}", hint=_MEND)
        if type(content[key]) is not kind or (kind is int and content[key] < 0):
            raise RepositoryUnfit(f"{name}: {key!r} is {str(content[key])[:80]!r}", hint=_MEND)
