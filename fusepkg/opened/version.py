"""One version of a package, open: what ``Package`` is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg.model.physical_key import parse_physical_key
from fusepkg.opened.inputs import note_opened
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.app.context import Context
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.package.open import OpenedPackage

LOCAL_MANIFEST = "local"
"""Said instead of an address where the manifest has not been pushed."""


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """``tag`` is the one it was opened by, None where a hash named it; ``manifest`` is where that lies, for people."""

    context: Context
    reference: Reference
    tag: str | None
    index: Index
    tree: PackageTree
    manifest: str


def open_version(
    context: Context,
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
    opened = context.open_package(reference, progress)
    if is_input:
        note_opened(f"{reference.package}@{opened.resolved.top_hash}")
    return version_of(context, reference, opened, tag)


def version_of(context: Context, reference: Reference, opened: OpenedPackage, tag: str | None = None) -> OpenVersion:
    """Return a version that is open already, as Python programs use it."""
    manifest = parse_physical_key(context.store(reference.bucket).url(opened.manifest_key))
    return OpenVersion(
        context, reference, opened.resolved.tag or tag, opened.index, PackageTree(opened.index), manifest.readable
    )
