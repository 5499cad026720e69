"""Where the objects of a DVC repository lie, which sizes they have, and what those of directories list."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fusepkg.dvc.files import DIRECTORY_SUFFIX
from fusepkg.errors import (
    DigestMismatch,
    FusepkgError,
    ManifestInvalid,
    ObjectMissing,
    RepositoryUnfit,
)
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg.dvc.config import Remote
    from fusepkg.dvc.files import Output, VersionedFile
    from fusepkg.store.protocol import ObjectStore

LAYOUT = "files/md5/"
"""Where objects lie below a remote or cache since DVC 3.0; those of before lie at its top."""

_HEAD_THREADS = 32

_LIST_RATIO = 6
"""One LIST tells a thousand sizes, 32 threads ask for six while it lasts ten milliseconds."""

_SAMPLE = 1000
"""Objects listed to estimate how many a remote has: those of one of its 256 directories, at most."""

_MOST_LIST_BYTES = 1024**3
"""A directory's list of files may be this long: ten million files."""

_NAMED = 3


class LocatedObject(NamedTuple):
    """An object: where it lies, and its size."""

    place: PhysicalKey
    size: int


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one repository: ``cache`` is its own directory of them (None: on another machine).

    ``stores`` leads from an object to its store; ``known`` keeps what was learnt, and may forget it.
    """

    cache: Path | None
    stores: Callable[[PhysicalKey], tuple[ObjectStore, str]]
    known: ObjectStore

    def files_of(self, output: Output, remote: Remote | None) -> list[tuple[str, str]]:
        """Return the files in a tracked directory: path in it, MD5. Raises as reading it does; RepositoryUnfit."""
        place = self._in_cache(output.md5, is_old=output.is_dos2unix)
        if place is not None:
            key = place.place
        elif remote is not None:
            key = object_key(remote, output.md5, is_old=output.is_dos2unix)
        else:
            raise self._missing(output, [output.md5], None)
        remembered = f"lists/{output.md5}.json"
        if key.scheme == "s3":
            with suppress(FusepkgError):
                data = self.known.get(remembered, at_most=_MOST_LIST_BYTES)
                if _is_list(data, output.md5):
                    return _parse_directory(data, key)
        store, name = self.stores(key)
        try:
            data = store.get(name, at_most=_MOST_LIST_BYTES)
        except ObjectMissing as exc:
            raise self._missing(output, [output.md5], remote) from exc
        if not _is_list(data, output.md5):
            raise DigestMismatch(
                f"{key.readable} is not the list of files that {output.said_by} names as {output.md5}",
                hint="It was changed or cut off: `dvc push` from where the data is writes it again",
            )
        if key.scheme == "s3":
            with suppress(FusepkgError):  # a full disk: it is fetched again
                self.known.overwrite(remembered, data)
        return _parse_directory(data, key)

    def has_whole(self, output: Output) -> bool:
        """Return whether the repository's own cache has all of an output."""
        if self._in_cache(output.md5, is_old=output.is_dos2unix) is None:
            return False
        files = self.files_of(output, None) if output.is_directory else []
        return all(self._in_cache(md5, is_old=output.is_dos2unix) is not None for _, md5 in files)

    def find(
        self, output: Output, wanted: Iterable[tuple[str, int | None]], remote: Remote | None
    ) -> dict[str, LocatedObject]:
        """Return place and size of objects by their MD5; ``wanted`` has them with the sizes that are known.

        Raises ObjectMissing, naming the first that are not there, and what stores raise.
        """
        found: dict[str, LocatedObject] = {}
        asked: list[str] = []
        for md5, size in wanted:
            here = self._in_cache(md5, is_old=output.is_dos2unix)
            if here is not None:
                found[md5] = here
            elif remote is None or not remote.bucket:
                there = None if remote is None else _in_directory(Path(remote.path), md5, is_old=output.is_dos2unix)
                if there is not None:
                    found[md5] = there
                else:
                    asked.append(md5)
            elif size is not None:
                found[md5] = LocatedObject(object_key(remote, md5, is_old=output.is_dos2unix), size)
            else:
                asked.append(md5)
        if asked and remote is not None and remote.bucket:
            sizes = self._sizes(output, asked, remote)
            found |= {
                md5: LocatedObject(object_key(remote, md5, is_old=output.is_dos2unix), size)
                for md5, size in sizes.items()
            }
            asked = [md5 for md5 in asked if md5 not in sizes]
        if asked:
            raise self._missing(output, asked, remote)
        return found

    def place_of(self, file: VersionedFile, path: str, remote: Remote | None, output: Output) -> LocatedObject:
        """Return where a file lies that a remote keeps by its name; ``path`` is that from the top of the repository.

        Raises ObjectMissing if it was never pushed. No remote is asked.
        """
        here = self._in_cache(file.md5, is_old=output.is_dos2unix)
        if here is not None:
            return here
        if remote is None or not remote.bucket:
            raise self._missing(output, [file.md5], remote)
        key = "/".join(filter(None, (remote.path, path)))
        return LocatedObject(PhysicalKey("s3", remote.bucket, key, file.version or None), file.size)

    def _in_cache(self, md5: str, *, is_old: bool) -> LocatedObject | None:
        return None if self.cache is None else _in_directory(self.cache, md5, is_old=is_old)

    def _missing(self, output: Output, missing: list[str], remote: Remote | None) -> ObjectMissing:
        where = (
            f"the remote {remote.name} ({remote})"
            if remote
            else "the repository's cache, nor in a remote that it names"
        )
        named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        return ObjectMissing(
            f"{output.path}, tracked by {output.said_by}, is not in {where}: {named}",
            hint="`dvc push` from where the data is, or name another directory of the repository: dvc+...//DIRECTORY",
        )

    # --- sizes in S3 -----------------------------------------------------------------------------------------

    def _sizes(self, output: Output, wanted: list[str], remote: Remote) -> dict[str, int]:
        """Return the sizes of objects, without those that are not there. What DVC's list does not tell, S3 does."""
        scope = hashlib.sha256(f"{remote}\n{output.is_dos2unix}".encode()).hexdigest()[:16]
        remembered = f"sizes/{scope}/{output.md5}.json"
        known: dict[str, int] = {}
        with suppress(FusepkgError, ValueError):
            known = json.loads(self.known.get(remembered, at_most=_MOST_LIST_BYTES))
            if all(md5 in known for md5 in wanted):
                return {md5: known[md5] for md5 in wanted}
        prefix = object_key(remote, "", is_old=output.is_dos2unix)
        store, start = self.stores(prefix)
        sample = sum(1 for _ in store.list(f"{start}00/", limit=_SAMPLE))
        if 256 * sample < _LIST_RATIO * len(wanted) and sample < _SAMPLE:
            sizes = _listed(store, start, set(wanted))
        else:
            sizes = _asked(store, [(md5, f"{start}{md5[:2]}/{md5[2:]}") for md5 in wanted])
        with suppress(FusepkgError):  # a full disk: they are asked for again
            self.known.overwrite(remembered, json.dumps(known | sizes).encode())
        return sizes


def object_key(remote: Remote, md5: str, *, is_old: bool) -> PhysicalKey:
    """Return where a remote keeps an object; the empty hash gives where all lie."""
    name = ("" if is_old else LAYOUT) + (f"{md5[:2]}/{md5[2:]}" if md5 else "")
    if not remote.bucket:
        return PhysicalKey("file", "", os.path.join(remote.path, name))
    return PhysicalKey("s3", remote.bucket, f"{remote.path}/{name}" if remote.path else name)


def _in_directory(directory: Path, md5: str, *, is_old: bool) -> LocatedObject | None:
    path = f"{directory}/{'' if is_old else LAYOUT}{md5[:2]}/{md5[2:]}"
    try:
        status = os.stat(path)
    except OSError:
        return None
    return LocatedObject(PhysicalKey("file", "", path), status.st_size) if stat.S_ISREG(status.st_mode) else None


def listed_files(data: bytes, md5: str) -> list[tuple[str, str]] | None:
    """Return the files in DVC's list of a directory: path in it, MD5; None if that is not the list of that MD5.

    Raises RepositoryUnfit for a list that DVC has not written.
    """
    return _parse_directory(data, PhysicalKey("file", "", f"/{md5}")) if _is_list(data, md5) else None


def _is_list(data: bytes, md5: str) -> bool:
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == md5.removesuffix(DIRECTORY_SUFFIX)


def _listed(store: ObjectStore, start: str, wanted: set[str]) -> dict[str, int]:
    sizes = {}
    for info in store.list(start):
        md5 = info.key[len(start) :].replace("/", "", 1)
        if md5 in wanted:
            sizes[md5] = info.size
    return sizes


def _asked(store: ObjectStore, wanted: list[tuple[str, str]]) -> dict[str, int]:
    sizes: dict[str, int] = {}

    def ask(one: tuple[str, str]) -> tuple[str, int] | None:
        with suppress(ObjectMissing):
            return one[0], store.head(one[1]).size
        return None

    def collect(one: tuple[str, int] | None) -> None:
        if one is not None:
            sizes[one[0]] = one[1]

    run_threads(ask, wanted, collect, threads=_HEAD_THREADS, name="fusepkg-dvc", stop=StopFlag())
    return sizes


def _parse_directory(data: bytes, key: PhysicalKey) -> list[tuple[str, str]]:
    try:
        return [_file(one) for one in json.loads(data)]
    except (ValueError, KeyError, TypeError, RecursionError, ManifestInvalid) as exc:
        raise RepositoryUnfit(f"{key.readable} is no list of files as DVC writes it: {exc}") from exc


def _file(one: dict[str, str]) -> tuple[str, str]:
    path, md5 = one["relpath"], one["md5"]
    check_logical_key(path)
    if len(md5) != 2 * hashlib.md5(usedforsecurity=False).digest_size or set(md5) - set("0123456789abcdef"):
        raise ValueError(f"{md5!r} is no MD5")
    return path, md5
