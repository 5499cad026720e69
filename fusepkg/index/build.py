"""Builds the index of one version of a package out of its manifest.

A builder works in a scratch directory. Builders of one version do not wait for each other: the first
to finish wins, the others discard equal work.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zstandard

from fusepkg.errors import CacheFailure, DigestMismatch, IndexDamaged, ManifestInvalid, UnsupportedFormat
from fusepkg.index.entries import EntryTableWriter
from fusepkg.index.files import (
    ENTRIES,
    IMAGE,
    LAYOUT,
    MANIFEST,
    OLD_LAYOUTS,
    SEAL,
    index_directory,
    open_files,
)
from fusepkg.index.image import ImageWriter
from fusepkg.index.seal import make_key, write_seal
from fusepkg.model.entry import EntryKind
from fusepkg.model.links import LinkGraph
from fusepkg.model.manifest import OutOfOrder, in_tree_order, read_manifest, sorted_in_tree_order
from fusepkg.model.tophash import TopHash
from fusepkg.work.scratch import scratch_directory, scratch_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg.model.manifest import ManifestReader
    from fusepkg.model.record import EntryRecord

_BUILDING = ".building-"
"""How temporary directories begin; no top hash does."""

_PIECE_BYTES = 256 * 1024
"""How much of a manifest is held at once."""

_ZSTD_LEVEL = 1
"""Half the time of the default level, and no larger: hashes and names dominate, and do not compress."""

_SYMLINK = EntryKind.SYMLINK  # looked up once: an attribute of an enum class costs as much as a function call

_HASH_BATCH = 1024
"""Entries hashed at once."""


def build_index(
    source: Path | Iterable[bytes],
    root: Path,
    *,
    expected_top_hash: str | None,
    allow_file_keys: bool,
    allow_md5: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Build the index of a manifest below ``root``, and give its top hash.

    ``source`` is a file, or the manifest in pieces cut anywhere. ``progress`` hears how many bytes of it are done, and
    of how many (0: unknown). Nothing is done where the index of ``expected_top_hash`` is there already.

    Raises ManifestInvalid, UnsupportedFormat; DigestMismatch where the manifest is not the one of that name;
    CacheFailure where the index cannot be written.
    """
    if expected_top_hash is not None and _is_whole(root, expected_top_hash):
        return expected_top_hash
    with _building(root) as directory:
        pieces = _reported(source, progress)
        top_hash = _write_files(pieces, directory, make_key(root), allow_file_keys, allow_md5)
        if expected_top_hash not in (None, top_hash):
            raise DigestMismatch(
                f"the manifest of {expected_top_hash} hashes to {top_hash}",
                hint="The manifest in the bucket is damaged or was replaced: push the package again",
            )
        _put_in_place(directory, root, top_hash)
    return top_hash


def rebuild_index(root: Path, top_hash: str, manifest: Path) -> None:
    """Build an index from a manifest that an index here keeps, in the place of the one there.

    Raises IndexDamaged if that manifest is damaged or missing, CacheFailure if the index cannot be written.
    """
    with _building(root) as directory:
        try:
            # What it may name was decided when the manifest came.
            rebuilt = _write_files(_kept_manifest(manifest), directory, make_key(root), True, True)
        except (ManifestInvalid, UnsupportedFormat) as exc:
            raise IndexDamaged(f"the manifest kept in {manifest} is damaged") from exc
        if rebuilt != top_hash:
            raise IndexDamaged(f"the manifest kept in {manifest} is another one")
        _replace(directory, index_directory(root, top_hash))


def take_over_index(root: Path, top_hash: str) -> bool:
    """Build an index from the manifest that an index of an older layout keeps, and remove that. False if there is none.

    Raises CacheFailure if the index cannot be written.
    """
    for layout in OLD_LAYOUTS:
        old = root / layout / top_hash
        if (old / MANIFEST).exists():
            try:
                rebuild_index(root, top_hash, old / MANIFEST)
            except IndexDamaged:
                continue
            shutil.rmtree(old, ignore_errors=True)
            with suppress(OSError):  # others are in it
                old.parent.rmdir()
            return True
    return False


def discard_index(root: Path, top_hash: str) -> None:
    """Remove a damaged index; programs that have its files open can read on."""
    final = index_directory(root, top_hash)
    aside = final.parent / scratch_name(_BUILDING)
    with suppress(OSError):
        final.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _is_whole(root: Path, top_hash: str) -> bool:
    try:
        open_files(root, top_hash)
    except IndexDamaged:
        return False
    return True


# --- the files -----------------------------------------------------------------------------------------------


def _write_files(pieces: Iterable[bytes], directory: Path, key: bytes, allow_file_keys: bool, allow_md5: bool) -> str:
    def read(source: Iterable[bytes]) -> ManifestReader:
        return read_manifest(source, allow_file_keys=allow_file_keys, allow_md5=allow_md5)

    directories: dict[str, dict[str, Any]] = {}
    # A thread of its own: the copy takes a twelfth of the time of a build otherwise.
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True, threads=1)
    with (directory / MANIFEST).open("xb") as file, compressor.stream_writer(file, closefd=False) as kept:
        manifest = read(_copied(pieces, kept))
        try:
            ordered = in_tree_order(manifest.records, directories)
            return _write_tables(directory, key, manifest.header, ordered, directories)
        except OutOfOrder:
            for _ in manifest.records:  # the rest goes to the copy, and is checked, before all is read again
                pass
    directories.clear()
    records = read(_kept_manifest(directory / MANIFEST)).records
    ordered = in_tree_order(sorted_in_tree_order(records), directories)
    return _write_tables(directory, key, manifest.header, ordered, directories)


def _write_tables(
    directory: Path,
    key: bytes,
    header: dict[str, Any],
    records: Iterable[EntryRecord],
    directories: dict[str, dict[str, Any]],
) -> str:
    with (
        (directory / IMAGE).open("w+b") as image_file,
        (directory / ENTRIES).open("w+b") as entries_file,
        tempfile.TemporaryFile(dir=directory) as image_scratch,
        tempfile.TemporaryFile(dir=directory) as entries_scratch,
    ):
        image = ImageWriter(image_file, image_scratch)
        entries = EntryTableWriter(entries_file, entries_scratch)
        top_hash, links = TopHash(header), LinkGraph()
        texts = []
        for number, record in enumerate(records):
            entries.add(record, image.add(record, number))
            if record.kind is _SYMLINK:
                links.add(record.key, record.symlink_target, is_blunted=record.leads_out)
            texts.append(record.canonical)
            if len(texts) == _HASH_BATCH:
                top_hash.update_canonical(b"".join(texts))
                texts.clear()
        top_hash.update_canonical(b"".join(texts))
        links.check()
        image.finish(top_hash.hexdigest())
        entries.finish(top_hash.hexdigest(), image.data_blocks, image.inodes_end, header, directories)
        write_seal(directory / SEAL, key, top_hash.hexdigest(), image_file, entries_file)
    return top_hash.hexdigest()


def _read_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _reported(source: Path | Iterable[bytes], progress: Callable[[int, int], None] | None) -> Iterator[bytes]:
    total = source.stat().st_size if isinstance(source, Path) else 0
    done = 0
    for piece in _read_pieces(source) if isinstance(source, Path) else source:
        yield piece
        done += len(piece)
        if progress is not None:
            progress(done, total)


def _copied(pieces: Iterable[bytes], copy: zstandard.ZstdCompressionWriter) -> Iterator[bytes]:
    for piece in pieces:
        copy.write(piece)
        yield piece


def _kept_manifest(path: Path) -> Iterator[bytes]:
    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as reader,
        ):
            while piece := reader.read(_PIECE_BYTES):
                yield piece
    except (zstandard.ZstdError, OSError) as exc:
        raise IndexDamaged(f"the kept manifest {path} is damaged: {exc}") from exc


# --- whole or not at all -------------------------------------------------------------------------------------


@contextmanager
def _building(root: Path) -> Iterator[Path]:
    """A temporary directory beside the finished ones; gone at the end unless it was renamed."""
    try:
        with scratch_directory(root / LAYOUT, _BUILDING) as directory:
            yield directory
    except OSError as exc:
        raise CacheFailure(
            f"the index cannot be written below {root}: {exc}", hint="Free some space, or name another cache"
        ) from exc


def _put_in_place(directory: Path, root: Path, top_hash: str) -> None:
    final = index_directory(root, top_hash)
    _sync(directory)
    with suppress(OSError):  # something is there: another builder's index, or a damaged one
        directory.rename(final)
        _sync_directory(final.parent)
        return
    if not _is_whole(root, top_hash):
        _replace(directory, final)


def _replace(directory: Path, final: Path) -> None:
    """Put a new index in the place of another; who has that one open keeps it."""
    _sync(directory)
    old = final.parent / scratch_name(_BUILDING)
    with suppress(FileNotFoundError):
        final.rename(old)
    directory.rename(final)
    _sync_directory(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        _sync_directory(path)
    _sync_directory(directory)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
