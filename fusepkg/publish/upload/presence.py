"""Which objects of a bucket are as manifests name them, found out in as few requests as will do.

One LIST of a thousand keys stands for a thousand HEADs: it tells names, sizes and current versions. In a directory a
stat of each file tells as much. What that does not confirm is asked for by itself. Whether the bytes are right is
looked at where there is a reason, or on demand: by the checksums the server keeps, and by reading the object where it
keeps none.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fusepkg.errors import IntegrityError, ObjectMissing, RemoteError
from fusepkg.fetch.verified import ExpectedObject, is_right
from fusepkg.model.checksums import matches_checksums
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.registry.manifests import names_local_files
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

ASKED_ONE_BY_ONE = 16
"""Objects below one prefix that are asked for by HEAD; for more, a LIST is cheaper."""

ASK_THREADS = 16
"""Objects asked for at a time: latency only."""

_LISTED_PER_OBJECT, _LISTED_MORE = 4, 2_000
"""Keys listed at most, for each object looked for and beyond: a prefix may hold far more than one package."""


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object as a manifest names it: physical key, size in bytes, and the digest of its bytes if one is known."""

    url: str
    size: int
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """How objects are checked.

    ``open_place`` opens what a physical key names. ``suspects`` are physical keys whose bytes are looked at, because
    somebody found them damaged; with ``every_byte`` those of all objects are.
    """

    store: ObjectStore
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]]
    suspects: frozenset[str] = frozenset()
    every_byte: bool = False
    intact: set[str] = field(default_factory=set)
    """Fills with the suspects that have been found right."""

    def find_broken(self, objects: Callable[[], Iterable[NamedObject]], stop: StopFlag) -> dict[str, str]:
        """Return what is wrong with each object that is not as it is named, by physical key.

        ``objects`` gives new ones each time it is called. Objects out of the bucket are believed unless their bytes
        are to be looked at. Raises what stores raise where the bucket cannot be asked.
        """
        is_directory = names_local_files(self.store)  # there, each object costs one stat, and a LIST several
        confirms = _is_there if is_directory else self._list(self._prefixes(objects())).confirms
        broken: dict[str, str] = {}

        def collect(found: tuple[str, str | None]) -> None:
            url, problem = found
            if problem is not None:
                broken[url] = problem
            elif url in self.suspects:
                self.intact.add(url)

        def ask(named: NamedObject) -> tuple[str, str | None]:
            stop.check()
            return named.url, self.problem(named, stop)

        doubtful = self._doubtful(objects(), confirms)
        run_threads(ask, doubtful, collect, threads=ASK_THREADS, name="fusepkg-check", stop=stop)
        return broken

    # --- listing -----------------------------------------------------------------------------------------------

    def _prefixes(self, objects: Iterable[NamedObject]) -> list[tuple[str, int]]:
        """The prefixes worth a LIST, as URLs, and how many of the objects lie below each."""
        here = self.store.url("~")[:-1]
        count: Counter[str] = Counter()
        first: dict[str, str] = {}
        last: dict[str, str] = {}
        for named in objects:
            url = named.url
            if not url.startswith(here):
                continue
            top = url[: url.find("/", len(here)) + 1] or here
            count[top] += 1
            first[top] = min(first.get(top, url), url)
            last[top] = max(last.get(top, url), url)
        return [
            (_common_directory(first[top], last[top]), number)
            for top, number in count.items()
            if number > ASKED_ONE_BY_ONE
        ]

    def _list(self, prefixes: list[tuple[str, int]]) -> _Listing:
        listing = _Listing()
        for prefix, count in prefixes:
            left = count * _LISTED_PER_OBJECT + _LISTED_MORE
            for info in self.store.list_versions(self._key_of(prefix)):
                url = self.store.url(info.key)
                listing.add(url, self.store.url(info.key, info.version) if info.version else url, info.size)
                left -= 1
                if not left:
                    break
        return listing

    def _key_of(self, prefix: str) -> str:
        here = parse_physical_key(self.store.url("~")).key[:-1]
        return parse_physical_key(f"{prefix}~").key[:-1].removeprefix(here)

    def _doubtful(
        self, objects: Iterable[NamedObject], confirms: Callable[[NamedObject], bool]
    ) -> Iterator[NamedObject]:
        here = self.store.url("~")[:-1]
        asked: set[str] = set()
        for named in objects:
            if not self.looks_at(named.url) and (not named.url.startswith(here) or confirms(named)):
                continue
            if named.url not in asked:
                asked.add(named.url)
                yield named

    # --- one object --------------------------------------------------------------------------------------------

    def looks_at(self, url: str) -> bool:
        """Return whether the bytes of an object are to be compared with their hash."""
        return self.every_byte or url in self.suspects

    def problem(self, named: NamedObject, stop: StopFlag) -> str | None:
        """Return what is wrong with one object; None if nothing is. Raises what stores raise."""
        place = parse_physical_key(named.url)
        try:
            store, key = self.open_place(place)
            info = store.head(key, version=place.version)
            if info.size != named.size:
                return f"has {info.size:,} bytes instead of {named.size:,}"
            if named.digest is None or not self.looks_at(named.url):
                return None
            proven = matches_checksums(named.size, info.checksums, named.digest)
            if proven is None:
                expected = ExpectedObject(place, named.size, named.digest)
                proven = is_right(expected, self.open_place, stop.check)
        except ObjectMissing:
            return "is missing"
        except (RemoteError, IntegrityError) as exc:
            if exc.retryable:
                raise
            return f"cannot be read ({exc.message})"
        return None if proven else "has other bytes than its version names"


class _Listing:
    """What a LIST has told: 8 bytes of hash for each object instead of its name."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._has_versions = False

    def add(self, url: str, with_version: str, size: int) -> None:
        self._seen.add(hash((url, size)))
        if with_version != url:
            self._has_versions = True
            self._seen.add(hash((with_version, size)))

    def confirms(self, named: NamedObject) -> bool:
        """Return whether the object is there. Where versions may not be listed, its current size has to do."""
        url = named.url
        if not self._has_versions:
            url = url.partition("?versionId=")[0]
        return hash((url, named.size)) in self._seen


def _is_there(named: NamedObject) -> bool:
    """Return whether a file of this machine has the size that a manifest names; False also where that is unclear."""
    url = named.url
    path = parse_physical_key(url).key if "%" in url else url.removeprefix("file://")
    if "/.." in path:  # no key of a registry has such a part
        return False
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == named.size


def _common_directory(one: str, other: str) -> str:
    """Return what both URLs start with, up to a slash."""
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[: one.rfind("/", 0, same) + 1]
