"""One version of a package, open: what ``Package`` is made of.

Owns: how it is opened, and where its manifest lies. Must not know: what programs do with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.api.inputs import note_opened
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.package.fallback import sheltered_package
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.api.session import Session
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference

LOCAL_MANIFEST = "local"
"""Said instead of an address where the manifest has not been pushed."""


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """``tag`` is the one it was opened by, None where a hash named it; ``manifest`` is where that lies, for people."""

    session: Session
    reference: Reference
    tag: str | None
    index: Index
    tree: PackageTree
    manifest: str


def open_version(
    session: Session,
    reference: Reference,
    *,
    tag: str | None = None,
    is_input: bool = True,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> OpenVersion:
    """Open what a reference names; ``tag`` is remembered for one that has a hash.

    It counts among what this process has read, unless ``is_input`` says that it has made it.

    Raises: PackageError, RemoteError, IntegrityError, CacheFailure.
    """
    store = session.stores.for_bucket(reference.bucket)
    indexes = session.settings.indexes_dir
    with sheltered_package(store, reference, indexes, session.remembered, progress) as opened:
        pass  # an index in a temporary directory stays readable without it
    if is_input:
        note_opened(f"{reference.package}@{opened.resolved.top_hash}")
    manifest = parse_physical_key(store.url(opened.manifest_key))
    return OpenVersion(
        session, reference, opened.resolved.tag or tag, opened.index, PackageTree(opened.index), manifest.readable
    )
