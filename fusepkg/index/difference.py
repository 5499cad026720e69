"""What changed from one version of a package to another.

Both tables are read once, in tree order, side by side: memory does not grow with the packages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fusepkg_cache.digest import Algorithm, chunk_count, combine_chunks

from fusepkg.model.block_hashes import without_block_root
from fusepkg.model.logical_key import tree_sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fusepkg_cache.digest import Digest

    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry

Kind = Literal["added", "removed", "modified"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that is not the same in both versions; ``old`` is None where it was added, ``new`` where removed."""

    kind: Kind
    logical_key: str
    old: Entry | None
    new: Entry | None

    @property
    def is_meta_only(self) -> bool:
        """Whether the bytes are the same, and only what the manifest says beside them is not."""
        return self.old is not None and self.new is not None and _same_bytes(self.old, self.new)


@dataclass(frozen=True, slots=True)
class MetaChange:
    """Metadata that is not the same: of a directory (its logical key ends with a slash), or of the package ("")."""

    kind: Kind
    logical_key: str


def compare_indexes(old: Index, new: Index) -> Iterator[Change]:
    """The entries that differ, in tree order. Where the bytes lie makes no difference. Raises IndexDamaged."""
    return compare_entries(old.entries, new.entries)


def compare_entries(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[Change]:
    """The same for entries in tree order, wherever they come from."""
    olds, news = iter(old), iter(new)
    before, after = next(olds, None), next(news, None)
    while before is not None or after is not None:
        if before is not None and after is not None and before.logical_key == after.logical_key:
            if not (_same_bytes(before, after) and _same_meta(before.meta, after.meta)):
                yield Change("modified", after.logical_key, before, after)
            before, after = next(olds, None), next(news, None)
        elif after is None or (before is not None and _is_before(before, after)):
            assert before is not None
            yield Change("removed", before.logical_key, before, None)
            before = next(olds, None)
        else:
            yield Change("added", after.logical_key, None, after)
            after = next(news, None)


def compare_metadata(old: Index, new: Index) -> Iterator[MetaChange]:
    """The package's metadata, then the directories whose metadata differ, in tree order; a message is not content."""
    if not _same_meta(_without_message(old.header), _without_message(new.header)):
        yield MetaChange("modified", "")
    before, after = old.entries.directory_meta(), new.entries.directory_meta()
    for key in sorted(before.keys() | after.keys(), key=tree_sort_key):
        if key not in before:
            yield MetaChange("added", key)
        elif key not in after:
            yield MetaChange("removed", key)
        elif not _same_meta(before[key], after[key]):
            yield MetaChange("modified", key)


def _is_before(one: Entry, other: Entry) -> bool:
    return tree_sort_key(one.logical_key) < tree_sort_key(other.logical_key)


def _same_bytes(one: Entry, other: Entry) -> bool:
    if one.size != other.size or not one.size:
        return one.size == other.size
    return one.digest == other.digest or _as_chunked(one.digest, one.size) == _as_chunked(other.digest, other.size)


def _as_chunked(digest: Digest, size: int) -> Digest:
    """The digest as new versions have it, where the one of an older version tells it: for a blob of one chunk."""
    if digest.algorithm is Algorithm.SHA2_256 and chunk_count(size) == 1:
        return combine_chunks([digest.value])
    return digest


def _same_meta(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    one, other = without_block_root(one), without_block_root(other)  # which follows from the bytes
    # For Python 1, 1.0 and true are equal; in a manifest they are not.
    return one == other and (not one or _text(one) == _text(other))


def _without_message(header: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header.items() if name != "message" and value is not None}


def _text(meta: Mapping[str, Any]) -> str:
    return json.dumps(meta, sort_keys=True)
