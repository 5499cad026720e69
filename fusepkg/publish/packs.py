"""Writing packs: the small blobs of a version once more, many to an object, and the table that names these objects.

Packs come beside the ordinary objects, which stay as they are: readers that know no packs lose nothing, and a push that
is cut leaves packs that the next one finds by their names.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from fusepkg_cache.digest import verified
from fusepkg_cache.errors import WrongBytes

from fusepkg.errors import DigestMismatch, FusepkgError, ObjectMissing
from fusepkg.packs.pack import cut, holds, is_small, pack_of, segment_of
from fusepkg.packs.table import FEWEST_SMALL_ENTRIES, PackedSpan, write_table
from fusepkg.publish.draft.entry_sources import LocalFiles, UploadedFiles
from fusepkg.publish.hash.read import read_whole
from fusepkg.registry.layout import pack_key
from fusepkg.registry.manifests import names_local_files
from fusepkg.registry.packs import has_pack, put_pack, put_pack_table
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache.digest import Digest, Verified

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.packs.pack import EntrySpan, Member, Pack
    from fusepkg.publish.draft.draft import Draft
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback

PACK_THREADS = 4
"""Packs written at a time. Each lies in a temporary file of 64 MiB at most until it is in the bucket."""

READ_THREADS = 64
"""Blobs read at a time: for those that come from the bucket, enough to hide a round trip."""

_READ_AHEAD = 64
"""Blobs of one pack in memory: 16 MiB at most."""


class Packable(NamedTuple):
    """The bytes of entry ``number`` in tree order. ``is_at_hand``: they can be had without asking the bucket."""

    number: int
    size: int
    digest: Digest
    is_at_hand: bool


@dataclass(frozen=True, slots=True)
class PackReport:
    """The packs that a version has now; of these ``new_packs`` were written, with ``new_bytes``."""

    packs: int = 0
    new_packs: int = 0
    new_bytes: int = 0
    warnings: tuple[str, ...] = ()


class _Job(NamedTuple):
    span: EntrySpan
    contents: list[Packable]


class _Done(NamedTuple):
    span: EntrySpan
    name: str
    """Empty if the pack was left out."""
    new_bytes: int = 0
    problem: str = ""


def push_packs(
    draft: Draft, wanted: bool | None = None, *, check: bool = False, progress: ProgressCallback = no_progress
) -> PackReport:
    """Put the packs of a draft that has been built. A failure is a warning: the version can be read without packs.

    Unless ``wanted`` says otherwise, a registry in a directory gets none: its files are read where they lie. Packs are
    written if they hold a file of this machine; others are only named, if they are there.
    """
    assert draft.top_hash is not None, "it has been built"
    store = draft.stores.for_bucket(draft.reference.bucket)
    if wanted is False or (wanted is None and names_local_files(store)):
        return PackReport()
    files = _DraftFiles(draft)
    try:
        return _put_packs(store, draft.top_hash, files.contents, files.read, check=check, progress=progress)
    except FusepkgError as exc:
        text = f"No packs were written, so reading many small files takes longer: {exc.message}"
        return PackReport(warnings=(f"{text}. Try again with: fusepkg pack {draft.reference}",))


def pack_version(
    store: ObjectStore,
    index: Index,
    read: Callable[[Entry], bytes],
    *,
    check: bool = False,
    progress: ProgressCallback = no_progress,
) -> PackReport:
    """Put the packs of a published version into its bucket; the version stays as it is. ``read`` gives verified bytes.

    With ``check`` the bytes of packs that are there are compared. Raises what stores raise; what cannot be read is left
    out.
    """
    entries = index.entries

    def contents() -> Iterator[Packable]:
        for number, content in enumerate(entries.contents()):
            yield Packable(number, content.size, content.digest, is_at_hand=True)

    def get(number: int) -> bytes:
        return read(entries.entry(number))

    return _put_packs(store, index.top_hash, contents, get, check=check, progress=progress)


class _DraftFiles:
    """The bytes of a draft's entries: files of this machine, or objects."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._slots = draft.tree.in_order()

    def contents(self) -> Iterator[Packable]:
        for place, (_, (item, number)) in enumerate(self._slots):
            files = _files_of(item.entries)
            if files is None:
                known = item.entries.get(number)
                digest, size = known.digest, known.size
            else:
                digest, size = files.hashes.digest(number), files.get_size(number)
            assert digest is not None, "it has been hashed"
            yield Packable(place, size, digest, files is not None)

    def read(self, place: int) -> bytes:
        _, (item, number) = self._slots[place]
        files = _files_of(item.entries)
        if files is not None:
            return read_whole(files.files[number])
        known = item.entries.get(number)
        store, key = self._draft.stores.for_key(known.place)
        return store.get(key, version=known.place.version, length=known.size + 1)


def _files_of(entries: object) -> LocalFiles | None:
    if isinstance(entries, UploadedFiles):
        return entries.files
    return entries if isinstance(entries, LocalFiles) else None


def _put_packs(
    store: ObjectStore,
    top_hash: str,
    contents: Callable[[], Iterable[Packable]],
    read: Callable[[int], bytes],
    *,
    check: bool,
    progress: ProgressCallback,
) -> PackReport:
    small = (content for content in contents() if is_small(content))
    if next(islice(small, FEWEST_SMALL_ENTRIES - 1, None), None) is None:
        return PackReport()
    counters = PhaseCounters(progress, Phase.PACK)
    done: list[_Done] = []

    def note(one: _Done) -> None:
        done.append(one)
        counters.add(one.span.entries, one.new_bytes)

    with _writer(store, read, check=check) as writer:
        run_threads(writer.put, _jobs(contents()), note, threads=PACK_THREADS, name="fusepkg-pack", stop=writer.stop)
    listed = [PackedSpan(one.name, one.span) for one in sorted(done) if one.name]
    if listed:
        put_pack_table(store, top_hash, write_table(top_hash, listed))
    problems = [one.problem for one in done if one.problem]
    new = [one.new_bytes for one in done if one.new_bytes]
    return PackReport(len(listed), len(new), sum(new), tuple(_warnings(problems)))


def _warnings(problems: list[str]) -> Iterator[str]:
    if problems:
        yield f"{len(problems)} packs were left out, whose files are read one by one: {problems[0]}"


def _jobs(contents: Iterable[Packable]) -> Iterator[_Job]:
    """Yield the spans of a version, each with what is in it; no more than one span is in memory here."""
    first, seen = 0, list[Packable]()

    def noted() -> Iterator[Packable]:
        for content in contents:
            seen.append(content)
            yield content

    for span in cut(noted()):
        start, end = span.first - first, span.first - first + span.entries
        yield _Job(span, seen[start:end])
        del seen[:end]
        first += end


@contextmanager
def _writer(store: ObjectStore, read: Callable[[int], bytes], *, check: bool) -> Iterator[_Writer]:
    readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="fusepkg-pack-read")
    with tempfile.TemporaryDirectory(prefix="fusepkg-pack-") as scratch:
        try:
            yield _Writer(store, read, readers, Path(scratch), check=check)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


class _Writer:
    """Puts packs that are not there. Used from several threads."""

    def __init__(
        self,
        store: ObjectStore,
        read: Callable[[int], bytes],
        readers: ThreadPoolExecutor,
        scratch: Path,
        *,
        check: bool,
    ) -> None:
        self.stop = StopFlag()
        self._store = store
        self._read = read
        self._readers = readers
        self._scratch = scratch
        self._check = check
        self._checking = Lock()  # a pack is read whole, so one at a time

    def put(self, job: _Job) -> _Done:
        """Put a pack. Raises what stores raise when they are written to."""
        pack = pack_of(job.contents)
        is_there = has_pack(self._store, pack.name, pack.size)
        if is_there and not (self._check and not self._is_right(pack)):
            return _Done(job.span, pack.name)
        if not any(content.is_at_hand for content in job.contents if is_small(content)):
            return _Done(job.span, "")
        file = self._scratch / f"{job.span.first}"
        try:
            self._write(job, pack, file)
        except FusepkgError as exc:
            file.unlink(missing_ok=True)
            return _Done(job.span, "", problem=exc.message)
        put_pack(self._store, pack.name, file, replace=is_there)
        file.unlink()
        return _Done(job.span, pack.name, pack.size)

    def _is_right(self, pack: Pack) -> bool:
        with self._checking:
            try:
                return holds(pack, self._store.get(pack_key(pack.name), length=pack.size + 1))
            except ObjectMissing:
                return False

    def _write(self, job: _Job, pack: Pack, file: Path) -> None:
        with file.open("wb") as output:
            for piece in segment_of(self._blobs(job, pack)):
                self.stop.check()
                output.write(piece)

    def _blobs(self, job: _Job, pack: Pack) -> Iterator[Verified]:
        numbers = {content.digest: content.number for content in reversed(job.contents)}

        def read(member: Member) -> Verified:
            self.stop.check()
            data = self._read(numbers[member.digest])
            try:
                return verified(member.digest, data)
            except WrongBytes as exc:
                raise DigestMismatch(f"entry {numbers[member.digest]} does not hold {member.digest}") from exc

        for at in range(0, len(pack.members), _READ_AHEAD):
            yield from self._readers.map(read, pack.members[at : at + _READ_AHEAD])
