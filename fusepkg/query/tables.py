"""Files of a package as tables of a query, by the name that it says after FROM."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

from fusepkg.errors import FsError, QueryInvalid
from fusepkg.fsspec.files import find
from fusepkg.query.engine import quoted, quoted_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

    from fusepkg.fsspec.filesystem import PackageFileSystem
    from fusepkg.opened.version import OpenVersion

_READERS = {
    ".parquet": "read_parquet({})",
    ".csv": "read_csv({})",
    ".tsv": "read_csv({})",
    ".csv.gz": "read_csv({})",
    ".tsv.gz": "read_csv({})",
    ".jsonl": "read_json({}, format = 'newline_delimited')",
    ".ndjson": "read_json({}, format = 'newline_delimited')",
    ".jsonl.gz": "read_json({}, format = 'newline_delimited')",
    ".json": "read_json({})",
}
"""How a file is read, by the end of its name."""

ENDINGS = tuple(_READERS)

_MAGIC = "*?["


def register_tables(
    connection: duckdb.DuckDBPyConnection,
    version: OpenVersion,
    names: Iterable[str],
    files: PackageFileSystem,
    root: str,
) -> None:
    """Make views of those names that are files of the package, or patterns of such: ``'train/*.parquet'``.

    A name without an ending is that of a file at the top: ``labels`` is ``labels.parquet``. Raises QueryInvalid for a
    pattern that fits no file, or a name that is two.
    """
    for name in sorted(names):
        path = _path_of(version, name)
        if path is None:
            continue
        if any(letter in name for letter in _MAGIC) and not _is_file(version, path):
            if not files.glob(f"{root}/{path}"):
                raise QueryInvalid(f"no file of the package fits {name!r}", hint="`fusepkg ls -r` lists them")
            place = f"{root}/{path}"
        else:
            place = f"{root}/{glob.escape(path)}"
        ending = next(one for one in _by_length() if path.lower().endswith(one))
        reader = _READERS[ending].format(quoted(place))
        connection.execute(f"CREATE VIEW {quoted_name(name)} AS SELECT * FROM {reader}")


def _path_of(version: OpenVersion, name: str) -> str | None:
    """Return the path in the package that a table's name means; None if it is not one of a file."""
    path = name.removeprefix("./").lstrip("/")
    if path.lower().endswith(ENDINGS):
        return path
    found = [f"{path}{ending}" for ending in ENDINGS if _is_file(version, f"{path}{ending}")]
    if len(found) > 1:
        raise QueryInvalid(f"the table {name!r} may be {' or '.join(found)}", hint="Write its whole name in quotes")
    return found[0] if found else None


def _is_file(version: OpenVersion, path: str) -> bool:
    try:
        return not find(version.tree, path).is_directory
    except FsError:
        return False


def _by_length() -> list[str]:
    return sorted(_READERS, key=len, reverse=True)
