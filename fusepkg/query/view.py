"""Views: what a query picks out of a version is a version too, whose index is made here and which no bucket knows.

Its header says of which version it is, by which expressions, and (``places``) where the objects lie, so that its top
hash is its own: it differs wherever anything that a reader could see differs. Its index lies beside that of the whole
version, so that a mount's process, or another program of this machine, opens it by its hash.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fusepkg.daemon.records import View
from fusepkg.errors import CacheFailure, ManifestInvalid, QueryInvalid
from fusepkg.index.build import build_index
from fusepkg.index.opening import open_index
from fusepkg.model.entry import EntryKind
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.manifest import write_directory, write_entry, write_header
from fusepkg.model.reference import DVC
from fusepkg.opened.version import LOCAL_MANIFEST, OpenVersion
from fusepkg.vfs.tree import PackageTree
from fusepkg.work.scratch import scratch_name
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry

VIEW_KEY = "fusepkg_view"
"""In the metadata of a view: what it is a view of."""

_REMEMBERED = "views"
"""Directory beside the index of a version: a file for each pair of expressions, with the top hash of their view."""

_NAMED = 3
"""Names that a message lists before it counts the rest."""


def open_view(version: OpenVersion, where: str, layout: str = "", timeout_s: float | None = None) -> OpenVersion:
    """Open the view of a version that has the entries for which ``where`` is true.

    ``layout`` is an expression that gives each a new name; empty: names stay. The expressions may use the columns of
    ``entries`` and, in subqueries, the tables of the package. What they gave is remembered, unless they say something
    else each time.

    Raises QueryInvalid (also where nothing is picked, or names are not unique), QueryStopped, CacheFailure, and as
    reading tables does.
    """
    where, layout = where.strip(), layout.strip()
    remembered = version.index.directory / _REMEMBERED / hashlib.sha256(f"{where}\0{layout}".encode()).hexdigest()
    root = version.index.directory.parent.parent
    if not root.is_relative_to(version.context.settings.indexes_dir):
        raise CacheFailure(
            f"a view needs a cache that can keep its index, and {version.context.settings.indexes_dir} cannot",
            hint="Name another cache directory with --cache-dir",
        )
    index = _remembered_view(root, remembered)
    if index is None:
        index, is_stable = _make_view(version, root, where, layout, timeout_s)
        if is_stable:
            _remember(remembered, index.top_hash)
    reference = replace(version.reference, top_hash=index.top_hash)
    return OpenVersion(version.context, reference, None, index, PackageTree(index), LOCAL_MANIFEST)


def view_of(version: OpenVersion, shown: str = "") -> View | None:
    """Return what an open version is a view of, under the reference ``shown``; None if it is a whole version."""
    user_meta = version.index.header.get("user_meta")
    view = user_meta.get(VIEW_KEY) if isinstance(user_meta, dict) else None
    if version.manifest != LOCAL_MANIFEST or not isinstance(view, dict) or "places" not in view:
        return None
    of = str(view["of"])
    return View(reference=shown or of, top_hash=of.rpartition("@")[2], where=str(view["where"]), layout=str(view["as"]))


def without_places(user_meta: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the metadata of a package as it is published: of a view, without what names objects of today."""
    view = user_meta.get(VIEW_KEY) if isinstance(user_meta, dict) else None
    if not isinstance(view, dict):
        return user_meta
    return {**user_meta, VIEW_KEY: {name: value for name, value in view.items() if name != "places"}}


def _make_view(
    version: OpenVersion, root: Path, where: str, layout: str, timeout_s: float | None
) -> tuple[Index, bool]:
    """Return the view's index, and whether the same expressions will always give it."""
    from fusepkg.query.pick import pick_entries  # here: a remembered view needs no engine

    picked, is_stable = pick_entries(version, where, layout, timeout_s)
    if not picked:
        raise QueryInvalid(
            f"no entry of {version.reference.package} fits {where!r}",
            hint='`fusepkg query REF "SELECT * FROM entries LIMIT 5"` shows what there is',
        )
    entries = list(_named(version.index, picked, layout))
    _check_names(entries)
    header = _header(version, where, layout, [entry for _, entry in entries])
    directories = {} if layout else version.index.entries.directory_meta()
    try:
        top_hash = build_index(
            _lines(header, directories, [entry for _, entry in entries]),
            root,
            expected_top_hash=None,
            allow_file_keys=version.reference.bucket.scheme != "s3",
            allow_md5=version.reference.bucket.scheme == DVC,
        )
    except ManifestInvalid as exc:
        raise QueryInvalid(f"what was picked cannot be a package: {exc.message.partition(': ')[2]}") from exc
    index = open_index(root, top_hash)
    assert index is not None, "an index just built can be opened"
    return index, is_stable


def _named(index: Index, picked: list[tuple[int, str | None]], layout: str) -> Iterator[tuple[str, Entry]]:
    """Yield the entries in tree order under their new names, each with its old one. Raises QueryInvalid."""
    found: list[tuple[str, Entry]] = []
    for number, name in picked:
        entry = index.entries.entry(number)
        if not layout:
            found.append((entry.logical_key, entry))
            continue
        if entry.kind is EntryKind.EMPTY_DIRECTORY:
            continue  # its name says which directory is empty
        if entry.kind is EntryKind.SYMLINK:
            raise QueryInvalid(
                f"{entry.logical_key!r} is a symbolic link, which leads elsewhere under another name",
                hint="Leave links out: kind <> 'symlink'",
            )
        try:
            check_logical_key(name or "")
        except ManifestInvalid as exc:
            raise QueryInvalid(f"the new name of {entry.logical_key!r} is {name!r}: {exc.message}") from exc
        found.append((entry.logical_key, replace(entry, logical_key=name or "")))
    return iter(sorted(found, key=lambda pair: place_of(pair[1].logical_key)))


def _check_names(entries: list[tuple[str, Entry]]) -> None:
    """Raise QueryInvalid where two entries have one name."""
    clashes = [
        f"{first!r} and {second!r} are both {entry.logical_key!r}"
        for (first, entry), (second, other) in pairwise(entries)
        if entry.logical_key == other.logical_key
    ]
    if clashes:
        more = f", and {len(clashes) - _NAMED} more" if len(clashes) > _NAMED else ""
        raise QueryInvalid(
            f"new names are not unique: {'; '.join(clashes[:_NAMED])}{more}", hint="Make the directory part of the name"
        )


def _header(version: OpenVersion, where: str, layout: str, entries: Iterable[Entry]) -> dict[str, Any]:
    places = hashlib.sha256()
    for entry in entries:
        places.update(f"{entry.physical_key}\n".encode())
    header = {name: value for name, value in version.index.header.items() if name != "top_hash"}
    user_meta = header.get("user_meta")
    view = {
        "of": f"{version.reference.package}@{version.index.top_hash}",
        "where": where,
        "as": layout,
        "places": places.hexdigest(),
    }
    header["user_meta"] = {**(user_meta if isinstance(user_meta, dict) else {}), VIEW_KEY: view}
    return header


def _lines(header: dict[str, Any], directories: dict[str, dict[str, Any]], entries: list[Entry]) -> Iterator[bytes]:
    yield write_header(header)
    shown = {above for entry in entries for above in _directories_of(entry.logical_key)} if directories else set()
    for key, meta in sorted(directories.items(), key=lambda pair: place_of(pair[0])):
        if key in shown:
            yield write_directory(key, meta)
    for entry in entries:
        yield write_entry(entry)


def _directories_of(logical_key: str) -> Iterator[str]:
    at = logical_key.find("/")
    while at >= 0:
        yield logical_key[: at + 1]
        at = logical_key.find("/", at + 1)


def _remembered_view(root: Path, remembered: Path) -> Index | None:
    with suppress(OSError, ValueError, KeyError):
        return open_index(root, str(json.loads(remembered.read_text())["top_hash"]))
    return None


def _remember(remembered: Path, top_hash: str) -> None:
    with suppress(OSError):  # a full disk: the next one is made again
        remembered.parent.mkdir(mode=0o700, exist_ok=True)
        unfinished = remembered.with_name(scratch_name(".view-"))
        unfinished.write_text(json.dumps({"top_hash": top_hash}))
        unfinished.rename(remembered)
