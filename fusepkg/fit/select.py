"""Which files of a package a specification speaks of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fusepkg.errors import SpecInvalid
from fusepkg.fit.spec import glob
from fusepkg.schemas.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusepkg.api.entry import PackageEntry
    from fusepkg.api.package import Package
    from fusepkg.fit.spec import Files


def files_of(package: Package) -> list[PackageEntry]:
    """Return all files of a package, without links and marks of empty directories."""
    return [entry for entry in package if entry.is_file()]


def find(entries: Sequence[PackageEntry], files: Files) -> list[PackageEntry]:
    """Return the entries that a pattern names."""
    if files.matching:
        pattern = compile_pattern(files.matching)
        return [entry for entry in entries if pattern.fullmatch(entry.logical_key) is not None]
    shape = glob(files.names)
    return [entry for entry in entries if shape.matches(entry.logical_key.split("/"), is_directory=False)]


def choose(entries: Sequence[PackageEntry], most: int | None) -> Sequence[PackageEntry]:
    """Return at most so many of them, evenly spread and the same each time."""
    if most is None or len(entries) <= most:
        return entries
    return [entries[number * len(entries) // most] for number in range(most)]


_NAME = re.compile(r"\{(\w*)\}")


def partner_of(logical_key: str, files: Files, template: str) -> str:
    """Return the name of the file that one goes with. Raises SpecInvalid for an unknown name in braces."""
    known = _parts(logical_key, files)

    def part(found: re.Match[str]) -> str:
        if found[1] not in known:
            names = ", ".join(f"{{{name}}}" for name in known)
            raise SpecInvalid(f"{template!r} is no name of a pair: {found[0]} is not known", hint=f"Known: {names}")
        return known[found[1]]

    return _NAME.sub(part, template).removeprefix("/")


def _parts(logical_key: str, files: Files) -> dict[str, str]:
    """Return what may stand in the name of a pair: parts of a file's name, and the groups of ``matching``."""
    directory, _, name = logical_key.rpartition("/")
    stem = name.rpartition(".")[0] or name
    fixed = 0
    parts = logical_key.split("/")[:-1]
    for wanted, part in zip(files.names.split("/"), parts, strict=False):
        if wanted != part:
            break
        fixed += 1
    below = "/".join([*parts[fixed:], stem])
    groups: dict[str, str] = {}
    if files.matching and (match := compile_pattern(files.matching).fullmatch(logical_key)) is not None:
        groups = {key: value or "" for key, value in match.groupdict().items()}
    return {"name": name, "stem": stem, "directory": directory, "path": below, **groups}
