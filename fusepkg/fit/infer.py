"""A specification to start from: what a package is like now."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError, UsageError
from fusepkg.fit.contents import JSON_BYTES
from fusepkg.fit.reading import Reading
from fusepkg.fit.select import choose, files_of, partner_of
from fusepkg.fit.spec import FORMAT, Files
from fusepkg.fit.tables import SUFFIXES, NoTable, look_at_table
from fusepkg.schemas.libraries import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fusepkg.api.entry import PackageEntry
    from fusepkg.api.package import Package

SAMPLE = 50
"""Files of one pattern that are looked into."""

MOST_CLASSES = 200
"""More directories than this are no classes."""

_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")

Groups = dict[str, list["PackageEntry"]]


def infer_spec(package: Package, sample: int = SAMPLE) -> str:
    """Return the YAML of a specification that a package fits. Raises UsageError, RemoteError, IntegrityError."""
    groups = _grouped(files_of(package))
    if not groups:
        raise UsageError(f"{package.name} holds no files")
    reading = Reading(package)
    files = []
    for names, members in groups.items():
        rule: dict[str, Any] = {"names": names, "count": {"min": 1}}
        rule |= _contents(choose(members, sample), reading)
        if meta := _common_meta(members):
            rule["meta"] = meta
        if pair := _pair(package, names, members, groups):
            rule["pair"] = pair
        files.append(rule)
    spec: dict[str, Any] = {"version": FORMAT, "files": files}
    if meta := _schema_of([package.meta]) if package.meta else None:
        spec["meta"] = meta
    if classes := [found for names, members in groups.items() if (found := _classes(names, members))]:
        spec["classes"] = classes
    if splits := _splits(files_of(package)):
        spec["splits"] = splits
    text: str = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=100)
    return f"# What {package.name} is like: take out what your task does not need, tighten what it does.\n{text}"


def _grouped(entries: Iterable[PackageEntry]) -> Groups:
    """Return the files by pattern: one for each ending below each directory at the top."""
    found: dict[tuple[str, str], list[PackageEntry]] = defaultdict(list)
    for entry in entries:
        top = entry.logical_key.rpartition("/")[0].partition("/")[0]
        found[top, _suffix(entry.logical_key)].append(entry)
    groups: Groups = {}
    for (_, suffix), members in found.items():
        directory = _common_directory(members)
        is_deep = any(entry.logical_key.rpartition("/")[0] != directory for entry in members)
        groups[f"{_escaped(directory)}/{'**/' if is_deep else ''}*{_escaped(suffix)}"] = members
    return groups


def _common_directory(members: Sequence[PackageEntry]) -> str:
    """Return the lowest directory that holds all of them; "" at the top."""
    first, last = members[0].logical_key.split("/")[:-1], members[-1].logical_key.split("/")[:-1]
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return "/".join(first[:same])  # entries are in the order of a walk, so that the first and the last tell of all


def _suffix(logical_key: str) -> str:
    stem, dot, suffix = logical_key.rpartition("/")[2].rpartition(".")
    return f".{suffix}" if dot and stem else ""


def _escaped(name: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[\\" else letter for letter in name)


# --- what is in files --------------------------------------------------------------------------------------------


def _contents(chosen: Sequence[PackageEntry], reading: Reading) -> dict[str, Any]:
    suffix = _suffix(chosen[0].logical_key).lower()
    if suffix in _PICTURES:
        return _pictures(chosen, reading)
    if suffix in SUFFIXES:
        return _table(chosen, reading)
    return _json(chosen, reading) if suffix == ".json" else {}


def _pictures(chosen: Sequence[PackageEntry], reading: Reading) -> dict[str, Any]:
    from fusepkg.fit.pictures import look_at_picture  # here, because it needs a library of its own

    found = []
    for entry, head in reading.heads(chosen):
        if isinstance(head, FusepkgError):
            raise head
        picture = look_at_picture(head, lambda entry=entry: reading.open(entry))  # type: ignore[misc]  # the default
        if picture is None:
            return {}
        found.append(picture)
    return {
        "pictures": {
            "formats": sorted({one.format for one in found}),
            "modes": sorted({one.mode for one in found}),
            "width": _range(one.width for one in found),
            "height": _range(one.height for one in found),
        }
    }


def _range(values: Iterable[int]) -> dict[str, int]:
    every = list(values)
    return {"min": min(every), "max": max(every)}


def _table(chosen: Sequence[PackageEntry], reading: Reading) -> dict[str, Any]:
    first: dict[str, tuple[str, ...]] | None = None
    common: dict[str, set[str]] = {}
    for entry in chosen:
        try:
            types = look_at_table(entry, reading, count_rows=False).types
        except NoTable:
            return {}
        if first is None:
            first, common = types, {name: set(words) for name, words in types.items()}
        common = {name: words & set(types.get(name, ())) for name, words in common.items()}
    columns = {}
    for name, words in (first or {}).items():
        if common[name]:
            columns[name] = next(word for word in words if word in common[name])
    return {"table": {"columns": columns}}


def _json(chosen: Sequence[PackageEntry], reading: Reading) -> dict[str, Any]:
    values = []
    for entry in chosen:
        if entry.size > JSON_BYTES:
            return {}
        try:
            values.append(json.loads(reading.whole(entry)))
        except (ValueError, RecursionError):
            return {}
    schema = _schema_of(values)
    return {"json": schema} if schema else {}


def _common_meta(members: Iterable[PackageEntry]) -> dict[str, Any] | None:
    schema = _schema_of([entry.meta for entry in members])
    return schema if schema and "required" in schema else None


def _schema_of(values: Sequence[Any]) -> dict[str, Any] | None:
    """Return a schema of the names that all of some objects have, and of their types; None for what is mixed."""
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1:
        return {"type": "number"} if kinds == {"integer", "number"} else None
    (kind,) = kinds
    if kind != "object":
        return {"type": kind}
    required = [name for name in values[0] if all(name in value for value in values)]
    if not required:
        return {"type": "object"}
    below = {name: _schema_of([value[name] for value in values]) or {} for name in required}
    return {"type": "object", "required": required, "properties": below}


def _kind(value: object) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "object"


# --- between files -----------------------------------------------------------------------------------------------


def _pair(package: Package, names: str, members: Sequence[PackageEntry], groups: Groups) -> str | None:
    """Return how the partner of each file is named, where each has one in another group."""
    for other, partners in groups.items():
        suffix = _suffix(partners[0].logical_key)
        if other == names or len(partners) < len(members) or "{" in other:
            continue
        for template in ("{directory}/{stem}" + suffix, f"{_common_directory(partners)}/{{path}}{suffix}"):
            if all(_has_partner(package, entry.logical_key, names, template) for entry in members):
                return template
    return None


def _has_partner(package: Package, key: str, names: str, template: str) -> bool:
    partner = partner_of(key, Files(names=names), template)
    return partner != key and partner in package


def _classes(names: str, members: Sequence[PackageEntry]) -> dict[str, Any] | None:
    parents = {entry.logical_key.rpartition("/")[0] for entry in members}
    found = sorted({parent.rpartition("/")[2] for parent in parents})
    is_deep = all(parent.count("/") for parent in parents)
    if not is_deep or not 1 < len(found) <= MOST_CLASSES or set(found) & set(_SPLITS):
        return None
    return {"names": names, "by": "directory", "expected": found, "each": {"min": 1}}


def _splits(entries: Sequence[PackageEntry]) -> dict[str, Any] | None:
    """Return the parts that directories are named after, of pictures where there are any: labels may well be equal."""
    pictures = [entry for entry in entries if _suffix(entry.logical_key).lower() in _PICTURES]
    for of, is_at_top in ((of, top) for of in (pictures, entries) for top in (True, False)):
        held: dict[str, list[PackageEntry]] = defaultdict(list)
        for entry in of:
            directories = entry.logical_key.split("/")[:-1]
            for name in directories[:1] if is_at_top else dict.fromkeys(directories):
                if name in _SPLITS:
                    held[name].append(entry)
        if len(held) > 1:
            suffixes = {_suffix(entry.logical_key) for entry in of}
            ending = f"*{_escaped(suffixes.pop())}" if of is pictures and len(suffixes) == 1 else ""
            parts = {
                name: f"{'' if is_at_top else '**/'}{name}/**{f'/{ending}' if ending else ''}"
                for name in _SPLITS
                if name in held
            }
            first: dict[object, str] = {}
            leaks = any(first.setdefault(entry.record.digest, name) != name for name in parts for entry in held[name])
            return {"parts": parts, "apart": [] if leaks else ["content"]}
    return None
