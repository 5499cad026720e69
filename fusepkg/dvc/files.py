"""What DVC's files say is tracked: `.dvc` files, and what they have in common with `dvc.lock`.

They are read as they are written; what is not as DVC writes it is refused with the name of the file.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import ManifestInvalid, MissingExtra, RepositoryUnfit
from fusepkg.model.logical_key import check_logical_key

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY_SUFFIX = ".dir"
"""End of the hash of a directory: what it names is a list of files."""

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_VERSION = re.compile(r"[\x20-\x7e]{0,1024}")


@dataclass(frozen=True, slots=True)
class Import:
    """Where an imported output comes from: a path in another repository, at a commit (empty: its branch's)."""

    repository: str
    revision: str
    path: str


@dataclass(frozen=True, slots=True)
class VersionedFile:
    """A file in a remote that keeps versions: ``path`` in the output (empty: it is the output), and the version's name.

    ``version`` is empty where the bucket keeps only one.
    """

    path: str
    md5: str
    size: int
    remote: str
    version: str
    is_executable: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """One tracked file or directory: ``path`` from the top of git, ``said_by`` the file that tells of it.

    ``md5`` ends with ``.dir`` for a directory. ``is_dos2unix``: it is a hash of DVC before 3.0, whose
    objects lie in the older layout. ``size`` is None where it is not told. ``versions`` are its files in a remote that
    keeps versions.
    """

    path: str
    md5: str
    said_by: str
    size: int | None = None
    is_dos2unix: bool = False
    is_executable: bool = False
    remote: str = ""
    source: Import | None = None
    versions: tuple[VersionedFile, ...] = ()

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.md5.endswith(DIRECTORY_SUFFIX)


def parse_yaml(text: bytes, name: str, kind: str = "base") -> Any:  # noqa: ANN401 - YAML
    """Read YAML with all values as text, so that a file named `no` is no boolean. Raises RepositoryUnfit.

    ``kind`` is ruamel.yaml's: `safe` gives values their types, `rt` keeps comments for writing the file again.
    Raises MissingExtra without the package that reads YAML.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ImportError as exc:
        raise MissingExtra("DVC repositories need the package ruamel.yaml", hint='pip install "fusepkg[dvc]"') from exc
    try:
        return YAML(typ=kind).load(text.decode())
    except UnicodeDecodeError as exc:
        raise RepositoryUnfit(f"{name} is not UTF-8") from exc
    except (YAMLError, RecursionError) as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(exc, "problem", None) or str(exc).partition("\n")[0] or "nested too deeply"
        raise RepositoryUnfit(
            f"{name}{where} is not YAML: {what}",
            hint="Is it in a merge conflict? `git diff --check` finds the marks" if b"<<<<<<<" in text else "",
        ) from exc


# --- .dvc files ----------------------------------------------------------------------------------------------


def outputs_of_dvc_file(text: bytes, name: str) -> Iterator[Output]:
    """Yield what a `.dvc` file tracks. Raises RepositoryUnfit."""
    content = as_mapping(parse_yaml(text, name), name)
    directory = directory_of(name, content)
    source = _import_of(content, name)
    for out in as_list(content.get("outs"), name):
        found = output_of(as_mapping(out, name), directory, name, source)
        if found is not None:
            yield found


def _import_of(content: dict[str, Any], name: str) -> Import | None:
    """Return where `dvc import` took the outputs from. Those of `dvc import-url` are like any other."""
    for dep in as_list(content.get("deps"), name):
        found = as_mapping(dep, name)
        if "repo" in found:
            repo = as_mapping(found["repo"], name)
            revision = repo.get("rev_lock") or repo.get("rev") or ""
            return Import(_text(repo, "url", name), str(revision), _text(found, "path", name))
    return None


def listed_hash(files: list[Any]) -> str | None:
    """Return the MD5 of a directory by the files in it, as versioned remotes list them; None if it is no such list."""
    try:
        listed = [{"md5": str(one["md5"]), "relpath": str(one["relpath"])} for one in files]
    except (KeyError, TypeError):
        return None
    text = json.dumps(sorted(listed, key=lambda one: one["relpath"]), sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + DIRECTORY_SUFFIX


# --- parts ---------------------------------------------------------------------------------------------------


def output_of(out: dict[str, Any], directory: str, name: str, source: Import | None) -> Output | None:
    """Return one output; None for one that has not been computed or fetched yet, so that there is nothing of it."""
    path = _text(out, "path", name)
    place = posixpath.normpath(posixpath.join(directory, path))
    if path.startswith("/") or "://" in path or re.match(r"[A-Za-z]:[\\/]", path):
        raise RepositoryUnfit(
            f"{name} tracks {path!r}, which lies outside of the repository",
            hint="Track a path in the repository; DVC itself has given up such outputs",
        )
    try:
        check_logical_key(place)
    except ManifestInvalid as exc:
        raise RepositoryUnfit(f"{name} tracks {path!r}, which is no path in the repository") from exc
    versions = _versions(out, path, name)
    if "files" in out:
        md5 = listed_hash(as_list(out["files"], name)) or ""
    elif "md5" in out:
        md5 = _md5(out, path, name)
    elif any(kind in out for kind in ("etag", "checksum")):
        raise RepositoryUnfit(
            f"{name} tracks {path!r} without an MD5, by what its source says of it",
            hint="`dvc update` brings the data, `dvc push` puts it into a remote",
        )
    else:
        return None
    size = str(out.get("size", ""))
    return Output(
        place,
        md5,
        name,
        int(size) if size.isdecimal() and not md5.endswith(DIRECTORY_SUFFIX) else None,
        is_dos2unix=out.get("hash", "md5-dos2unix") != "md5",
        is_executable=out.get("isexec") == "true",
        remote=str(out.get("remote") or ""),
        source=source,
        versions=versions,
    )


def _md5(said: dict[str, Any], path: str, name: str) -> str:
    md5 = _text(said, "md5", name)
    if not _MD5.fullmatch(md5):
        raise RepositoryUnfit(f"{name}: {md5[:80]!r} of {path!r} is no MD5", hint="Was it edited by hand?")
    return md5


def _versions(out: dict[str, Any], path: str, name: str) -> tuple[VersionedFile, ...]:
    """Return what a remote that keeps versions has of an output; empty if it is in none. Raises RepositoryUnfit."""
    if "files" not in out:
        return (_versioned("", out, path, name),) if "cloud" in out else ()
    found = []
    for one in as_list(out["files"], name):
        said = as_mapping(one, name)
        relative = _text(said, "relpath", name)
        try:
            check_logical_key(relative)
        except ManifestInvalid as exc:
            raise RepositoryUnfit(f"{name} tracks {relative!r} in {path!r}, which is no path in it") from exc
        found.append(_versioned(relative, said, f"{path}/{relative}", name))
    return tuple(found)


def _versioned(relative: str, said: dict[str, Any], path: str, name: str) -> VersionedFile:
    clouds = as_mapping(said.get("cloud") or {}, name)
    remote, at = next(((str(one), as_mapping(clouds[one], name)) for one in clouds), ("", {}))
    version, size = str(at.get("version_id") or ""), str(said.get("size", ""))
    md5 = _md5(said, path, name)
    if md5.endswith(DIRECTORY_SUFFIX) or not size.isdecimal() or not _VERSION.fullmatch(version):
        raise RepositoryUnfit(f"{name} does not say MD5, size and version of {path!r} as DVC does")
    return VersionedFile(relative, md5, int(size), remote, version, said.get("isexec") == "true")


def directory_of(name: str, content: dict[str, Any]) -> str:
    """Return the directory that paths of a file or stage are relative to."""
    wdir = content.get("wdir") or "."
    if not isinstance(wdir, str) or "${" in wdir:
        raise RepositoryUnfit(f"{name} has wdir {str(wdir)[:80]!r}, which is no plain path")
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), wdir))


def as_mapping(value: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - YAML
    """Return a mapping of a file. Raises RepositoryUnfit for anything else."""
    if not isinstance(value, dict):
        raise RepositoryUnfit(f"{name} is not written as DVC writes it: {str(value)[:60]!r} is no mapping")
    return value


def as_list(value: Any, name: str) -> list[Any]:  # noqa: ANN401 - YAML
    """Return a list of a file; empty for none. Raises RepositoryUnfit for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise RepositoryUnfit(f"{name} is not written as DVC writes it: {str(value)[:60]!r} is no list")
    return value


def _text(mapping: dict[str, Any], key: str, name: str) -> str:
    value = mapping.get(key)
    if not isinstance(value, str) or not value:
        raise RepositoryUnfit(f"{name} is not written as DVC writes it: an entry has no {key!r}")
    return value
