"""What a mount shows: a version of a package that is open, or a view of one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg.errors import FusepkgError
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from fusepkg.app.context import Context
    from fusepkg.daemon.records import View
    from fusepkg.model.reference import Reference
    from fusepkg.package.open import OpenedPackage


@dataclass(frozen=True, slots=True)
class ShownPackage:
    """What a mount shows. ``name`` is its reference as people know it: a view's is not the one it is opened by.

    ``whole`` is the version that it is a view of, open so that its objects are found again after a push has healed
    them; None if that cannot be opened.
    """

    reference: Reference
    name: str
    opened: OpenedPackage
    tree: PackageTree
    whole: OpenedPackage | None = None

    @property
    def top_hash(self) -> str:
        """The version."""
        return self.opened.index.top_hash

    def root_xattrs(self) -> dict[str, str]:
        """Extended attributes of the root, without their prefix."""
        return {"reference": self.name, "top_hash": self.top_hash}


def open_shown(
    context: Context,
    reference: Reference,
    name: str,
    until_end: ExitStack,
    *,
    top_hash: str | None = None,
    view: View | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> ShownPackage:
    """Open what a mount shows: what ``reference`` names now, or its version ``top_hash``. Blocks.

    Raises as ``Context.open_package``.
    """
    exact = reference if top_hash is None else replace(reference, top_hash=top_hash)
    opened = context.open_package(exact, progress, until_end)
    whole = None
    if view is not None:
        with suppress(FusepkgError):  # the view itself is here
            whole = context.open_package(replace(reference, top_hash=view.top_hash))
    return ShownPackage(reference, name, opened, PackageTree(opened.index), whole)
