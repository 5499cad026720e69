"""One DVC repository at one revision: what it tracks below a directory, as entries.

An imported output's objects lie with the repository it came from, which is read in its turn.
"""

from __future__ import annotations

import logging
import os
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest

from fusepkg.dvc.config import CONFIG, Config, Remote
from fusepkg.dvc.files import Import, Output, outputs_of_dvc_file
from fusepkg.dvc.ignores import IGNORE_FILE, Ignores
from fusepkg.dvc.locked import outputs_of_lock
from fusepkg.dvc.objects import Objects
from fusepkg.errors import EntryNotFound, RepositoryUnfit
from fusepkg.model.entry import Entry, EntryKind, meta_for
from fusepkg.model.reference import parse_dvc_reference, split_place
from fusepkg.work.git import Commit, copy_of, find_commit, is_bare, top_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.reference import Reference
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

_MOST_IMPORTS = 20
"""Repositories that import one from the next: more are taken for a circle."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What reading repositories needs: ``stores`` and ``known`` as for ``Objects``; ``copies`` is a directory for those
    of other machines; ``use_remote`` hears of each remote before anything is asked of it."""

    stores: Callable[[PhysicalKey], tuple[ObjectStore, str]]
    known: ObjectStore
    copies: Path
    use_remote: Callable[[Remote], None]


@dataclass(frozen=True, slots=True)
class TrackedData:
    """What was read: entries in no order, and when the repository was last in reach (Unix time), None if it was now."""

    entries: list[Entry]
    offline_since_s: float | None


def read_repository(reference: Reference, sources: Sources, depth: int = 0) -> TrackedData:
    """Read what DVC tracks at a revision. ``reference`` names a DVC repository.

    Raises RepositoryUnfit, EntryNotFound, ObjectMissing, DigestMismatch, RemoteUnavailable, and what stores raise.
    """
    repository, inside = split_place(reference.bucket.place)
    if depth > _MOST_IMPORTS:
        raise RepositoryUnfit(f"{repository} imports from itself, over other repositories")
    place, offline_since_s = _place_of(repository, sources.copies)
    commit = find_commit(place.git, reference.tag, repository)
    blobs = commit.blobs()
    wanted = posixpath.normpath(posixpath.join(place.inside, inside)).removeprefix("./").removeprefix(".")
    root = _root_of(wanted, blobs, repository)
    tree = place.tree / root if place.tree is not None else None
    config_path = posixpath.join(root, CONFIG)
    text = commit.read([blobs[config_path]])[0].decode(errors="replace") if config_path in blobs else ""
    config = Config(text, tree, repository)
    reading = _Reading(
        sources,
        config,
        Objects(config.cache_directory(tree) if tree is not None else None, sources.stores, sources.known),
        repository,
        depth,
        wanted,
        root,
    )
    entries: dict[str, Entry] = {}
    for output in _outputs(commit, blobs, root):
        if _is_below(output.path, wanted) or _is_below(wanted, output.path):
            entries.update((entry.logical_key, entry) for entry in reading.entries(output))
    below = [placed for entry in entries.values() if (placed := _placed(entry, wanted)) is not None]
    if not below:
        raise EntryNotFound(
            f"DVC tracks nothing at {wanted or 'any path'} of {repository} at {reference.tag}",
            hint="`dvc ls -R --dvc-only` lists what it tracks",
        )
    return TrackedData(below, offline_since_s)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where git keeps a repository here, the top of its working tree, and the path in it that was named."""

    git: Path
    tree: Path | None
    inside: str


def _place_of(repository: str, copies: Path) -> tuple[_Place, float | None]:
    if not repository.startswith("/"):
        copy, offline_since_s = copy_of(repository, copies)
        return _Place(copy, None, ""), offline_since_s
    path = Path(repository)
    if is_bare(path):
        return _Place(path, None, ""), None
    top = top_directory(path)
    return _Place(top, top, os.path.relpath(path.resolve(), top.resolve())), None


def _root_of(wanted: str, blobs: dict[str, str], repository: str) -> str:
    """Return the DVC repository that a path lies in: one git repository may hold several."""
    at = wanted
    while True:
        if posixpath.join(at, CONFIG) in blobs:
            return at
        if not at:
            break
        at = posixpath.dirname(at)
    raise RepositoryUnfit(f"{repository} is no DVC repository at that revision: it has no {CONFIG}")


def _outputs(commit: Commit, blobs: dict[str, str], root: str) -> Iterator[Output]:
    """Yield what is tracked in one DVC repository, without what git keeps itself."""
    others = {posixpath.dirname(posixpath.dirname(path)) for path in blobs if path.endswith(f"/{CONFIG}")} - {root, ""}
    said = [
        path
        for path in blobs
        if _is_below(path, root)
        and path.rpartition("/")[2].endswith((".dvc", "dvc.yaml", "dvc.lock"))
        and not any(_is_below(path, other) and not _is_below(root, other) for other in others)
    ]
    ignores = _ignores(commit, blobs, root)
    said = [path for path in said if not ignores.leaves_out(path[len(root) :].lstrip("/"), is_directory=False)]
    texts = dict(zip(said, commit.read([blobs[path] for path in said]), strict=True))
    directories = {posixpath.dirname(path) for path in blobs}
    for path, text in texts.items():
        if path.endswith(".dvc"):
            yield from outputs_of_dvc_file(text, path)
        elif path.rpartition("/")[2] == "dvc.yaml":
            lock = texts.get(posixpath.join(posixpath.dirname(path), "dvc.lock"))
            for output in outputs_of_lock(text, lock, path, _reader(commit, blobs, path)) if lock is not None else ():
                if output.path not in blobs and output.path not in directories:
                    yield output


def _ignores(commit: Commit, blobs: dict[str, str], root: str) -> Ignores:
    def read(directory: str) -> bytes | None:
        path = posixpath.join(root, directory, IGNORE_FILE)
        return commit.read([blobs[path]])[0] if path in blobs else None

    return Ignores(read)


def _reader(commit: Commit, blobs: dict[str, str], pipeline: str) -> Callable[[str], bytes | None]:
    """Return what reads the files that templates of a `dvc.yaml` use."""

    def read(path: str) -> bytes | None:
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(pipeline), path))
        return commit.read([blobs[whole]])[0] if whole in blobs else None

    return read


@dataclass(frozen=True, slots=True)
class _Reading:
    """Makes entries of the outputs of one repository."""

    sources: Sources
    config: Config
    objects: Objects
    repository: str
    depth: int
    wanted: str
    root: str

    def entries(self, output: Output) -> Iterator[Entry]:
        """Yield the entries of one output, named from the top of git."""
        if output.source is not None and not self._is_here(output):
            yield from self._imported(output, output.source)
            return
        if output.versions:
            yield from self._versioned(output)
            return
        name = output.remote or self.config.default_remote
        remote = self.config.remote(name) if name and output.source is None else None
        if remote is not None:
            self.sources.use_remote(remote)
        if remote is not None and remote.keeps_versions:
            remote = None  # what was pushed there is listed with its versions
        if not output.is_directory:
            found = self.objects.find(output, [(output.md5, output.size)], remote)[output.md5]
            kind = EntryKind.EXECUTABLE if output.is_executable else EntryKind.FILE
            yield Entry(output.path, found.place, found.size, _digest(output.md5, output), meta_for(kind))
            return
        files = [
            (path, md5)
            for path, md5 in self.objects.files_of(output, remote)
            if _is_below(f"{output.path}/{path}", self.wanted)
        ]
        known = self.objects.find(output, [(md5, None) for _, md5 in files], remote)
        for path, md5 in files:
            yield Entry(f"{output.path}/{path}", known[md5].place, known[md5].size, _digest(md5, output))

    def _versioned(self, output: Output) -> Iterator[Entry]:
        """Yield the entries of an output whose files a remote keeps by their paths, in the tracked versions."""
        for file in output.versions:
            path = f"{output.path}/{file.path}" if file.path else output.path
            if not _is_below(path, self.wanted):
                continue
            remote = self.config.remote(file.remote) if file.remote else None
            if remote is not None:
                self.sources.use_remote(remote)
            inside = path[len(self.root) :].lstrip("/")
            found = self.objects.place_of(file, inside, remote, output)
            kind = EntryKind.EXECUTABLE if file.is_executable else EntryKind.FILE
            yield Entry(path, found.place, found.size, _digest(file.md5, output), meta_for(kind))

    def _is_here(self, output: Output) -> bool:
        """Return whether this repository itself has an imported output, as after `dvc import` in it."""
        return self.objects.cache is not None and self.objects.has_whole(output)

    def _imported(self, output: Output, source: Import) -> Iterator[Entry]:
        """Yield the entries of an imported output from where it was imported."""
        url = source.repository
        if "://" not in url and ":" not in url and not os.path.isabs(url):
            if not self.repository.startswith("/"):
                raise RepositoryUnfit(
                    f"{output.said_by} imports from {url!r}, relative to a copy on another machine",
                    hint="Name a copy of the repository on this machine: dvc+PATH",
                )
            url = os.path.join(self.repository, url)
        reference = parse_dvc_reference(f"dvc+{url}@{source.revision or 'HEAD'}//{source.path}")
        log.info("%s: imported from %s", output.path, reference)
        read = read_repository(reference, self.sources, self.depth + 1)
        for entry in read.entries:
            key = f"{output.path}/{entry.logical_key}" if output.is_directory else output.path
            if not output.is_directory and entry.digest != _digest(output.md5, output):
                raise RepositoryUnfit(f"{output.said_by} says {output.md5}, and {reference} is another file now")
            yield replace(entry, logical_key=key)


def _digest(md5: str, output: Output) -> Digest:
    algorithm = Algorithm.MD5_DOS2UNIX if output.is_dos2unix else Algorithm.MD5
    return Digest(algorithm, bytes.fromhex(md5).ljust(DIGEST_BYTES, b"\0"))


def _is_below(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(f"{above}/")


def _placed(entry: Entry, wanted: str) -> Entry | None:
    """Return an entry as it is named from the wanted directory; a file that was named itself keeps its own name."""
    if not _is_below(entry.logical_key, wanted):
        return None
    name = entry.logical_key[len(wanted) :].lstrip("/") or entry.logical_key.rpartition("/")[2]
    return replace(entry, logical_key=name)
