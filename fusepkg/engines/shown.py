"""The versions that one mount of the ``fuse`` engine shows: the current one, and those that programs still use.

A FUSE inode is the number of its version and its place in that version's image. So an open file, a directory being
listed and a working directory keep their version when the mount moves to another.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from fusepkg.engines import notifications
from fusepkg.engines.shared import VERSIONS, publish_versions
from fusepkg.engines.xattrs import XattrSource
from fusepkg.errors import FusepkgError, NoEntry
from fusepkg.vfs.tree import PackageTree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fusepkg.engines.forgetting import Forgetting
    from fusepkg.engines.shared import SharedMemory
    from fusepkg.fetch.reader import EntryReader
    from fusepkg.index.opening import Index

log = logging.getLogger(__name__)

_PLACE_BITS = 40
"""Of an inode number: an image may have 32 TiB, and a mount may show 16 million versions."""

_LOOK_S = 0.5
"""How often versions that are not shown are looked at."""

_NO_NAME = b"/"
"""A name that no directory has."""


@dataclass(slots=True)
class ShownVersion:
    """One version. Uses are lookups of its inodes that the kernel has not taken back, and open directories.

    They are counted for all processes of the mount; of a version whose number is too high they are not.
    """

    number: int
    tree: PackageTree
    xattrs: XattrSource
    directory: Path
    shared: SharedMemory

    @property
    def uses(self) -> int:
        """How many there are."""
        return self.shared.uses(self.number) if self.number < VERSIONS else 0

    def use(self, more: int) -> None:
        """Note that so many have begun, or ended (negative)."""
        if self.number < VERSIONS:
            self.shared.use(self.number, more)


def inode_number(version: int, nid: int) -> int:
    """The FUSE inode of a place in a version's image: never 0, and 1 only for the root of the first version."""
    return (version << _PLACE_BITS) + nid + 1


def place_of(inode: int) -> tuple[int, int]:
    """The number of a version, and the place in its image."""
    number, above = divmod(inode - 1, 1 << _PLACE_BITS)
    return number, above


class ShownVersions:
    """Used on one trio thread. ``reopen`` opens the index of a version again, by its number and top hash.

    ``shared`` tells the other processes of the mount what is shown.
    """

    def __init__(self, reader: EntryReader, reopen: Callable[[str], Index | None], shared: SharedMemory) -> None:
        self._reader = reader
        self._reopen = reopen
        self._shared = shared
        self._has_others = trio.Event()
        self._top_hashes: list[str] = []
        self._root_xattrs: dict[int, dict[str, str]] = {}
        self._open: dict[int, ShownVersion] = {}
        self._is_switching = False
        self._may_let_go = threading.Event()
        self._may_let_go.set()
        self.current: ShownVersion

    def add(self, index: Index, root_xattrs: dict[str, str]) -> ShownVersion:
        """Return a version that can be shown; the same content has the same inodes each time it is shown."""
        if index.top_hash not in self._top_hashes:
            self._top_hashes.append(index.top_hash)
        number = self._top_hashes.index(index.top_hash)
        self._root_xattrs[number] = root_xattrs
        return self._put(number, index)

    def _put(self, number: int, index: Index) -> ShownVersion:
        tree = PackageTree(index)
        xattrs = XattrSource(tree, self._reader, self._root_xattrs.get(number, {}))
        self._open[number] = ShownVersion(number, tree, xattrs, index.directory, self._shared)
        self._publish()
        return self._open[number]

    def _publish(self) -> None:
        """Tell the other processes of the mount what is open, and which version is shown."""
        current = self.current.number if hasattr(self, "current") else -1
        publish_versions(
            self._shared,
            {number: (self._top_hashes[number], version.directory) for number, version in self._open.items()},
            current,
        )
        if len(self._open) > 1:
            self._has_others.set()

    def show(self, version: ShownVersion) -> None:
        """Answer lookups in the root with that version from now on."""
        self.current = version
        self._publish()

    def find_open(self, number: int) -> ShownVersion | None:
        """Return a version that is open."""
        return self._open.get(number)

    def facts(self) -> dict[str, object]:
        """What another process needs to go on: the versions in the order of their numbers, and the current one's."""
        return {"versions": self._top_hashes, "current": self.current.number}

    def restore(self, facts: dict[str, Any], open_version: Callable[[str], Index], root_xattrs: dict[str, str]) -> None:
        """Show what another process showed, by its ``facts``. Raises what ``open_version`` does."""
        self._top_hashes = list(facts["versions"])
        number = facts["current"]
        self._root_xattrs[number] = root_xattrs
        self.show(self._put(number, open_version(self._top_hashes[number])))

    def find(self, inode: int) -> tuple[ShownVersion, int]:
        """The version an inode belongs to, and its place there. Raises NoEntry if it was never shown."""
        if inode == pyfuse3.ROOT_INODE:
            return self.current, self.current.tree.root
        return self.find_handle(inode)

    def find_handle(self, handle: int) -> tuple[ShownVersion, int]:
        """The same for the handle of an open file or directory: unlike the root's inode, it stays with its version."""
        number, nid = place_of(handle)
        version = self._open.get(number)
        if version is None:
            version = self._opened_again(number)
        return version, nid

    def _opened_again(self, number: int) -> ShownVersion:
        index = self._reopen(self._top_hashes[number]) if 0 <= number < len(self._top_hashes) else None
        if index is None:
            raise NoEntry(f"no version {number} of this mount")
        return self._put(number, index)

    def may_be_kept(self, version: ShownVersion, directory: int) -> bool:
        """Whether the kernel may keep the names of a directory that it is told.

        It takes in a listing after we have given it, perhaps just after a switch; so names of the root are not kept
        while one is made. Nor are those of an old version, so that the kernel lets go of them with their last user.
        """
        return version is self.current and (directory != version.tree.root or not self._is_switching)

    def take_back(self, inode: int, uses: int) -> None:
        """Note that something is not used any more. A version without uses is closed, unless it is the current one."""
        version = self._open.get(place_of(inode)[0])
        if version is not None:
            version.use(-uses)
            self._close_unused(version)

    def _close_unused(self, version: ShownVersion) -> None:
        if version.uses <= 0 and version is not self.current and not self._is_switching:
            log.info("nothing of %s is in use any more", self._top_hashes[version.number])
            del self._open[version.number]
            self._publish()

    async def close_unused(self) -> None:
        """Close versions as the kernel takes back their uses, in whichever process; until cancelled."""
        while True:
            await self._has_others.wait()
            self._has_others = trio.Event()
            while len(self._open) > 1:
                await trio.sleep(_LOOK_S)
                for version in list(self._open.values()):
                    self._close_unused(version)

    async def switch(self, device: int, version: ShownVersion, forgetting: Forgetting) -> None:
        """Show another version: what is looked up from some moment on is of it. ``device`` is the session's."""
        self._is_switching = True
        self._may_let_go.clear()
        try:
            # After this, the kernel has taken in all listings of the root that may be kept.
            await trio.to_thread.run_sync(forgetting.forget, pyfuse3.ROOT_INODE, _NO_NAME)
            # No checkpoint between these two: no lookup is answered in between.
            is_at_once = notifications.forget_all_names(device)
            before = self.current
            self.show(version)
        finally:
            self._is_switching = False
            self._may_let_go.set()
        await trio.to_thread.run_sync(notifications.forget_attributes, device, pyfuse3.ROOT_INODE)
        if not is_at_once:
            await trio.to_thread.run_sync(_forget_root, forgetting, version.tree)
            await trio.to_thread.run_sync(_forget_root, forgetting, before.tree)

    async def let_go(self, version: ShownVersion | None, forgetting: Forgetting) -> None:
        """Make the kernel let go of what no program uses of an old version, if there is one; close ``forgetting``.

        Takes seconds for thousands of names in the root; waits while the next switch is made. A failure costs
        descriptors only.
        """
        if version is None:
            await trio.to_thread.run_sync(forgetting.close, abandon_on_cancel=True)
            return
        try:
            let_go = partial(_let_go, forgetting, version.tree, self._may_let_go)
            await trio.to_thread.run_sync(let_go, abandon_on_cancel=True)
        except (OSError, FusepkgError) as exc:  # the session may have ended
            log.info("old names are left to the kernel: %s", exc)
        if self._open.get(version.number) is version:
            self._close_unused(version)


def _let_go(forgetting: Forgetting, tree: PackageTree, may_go_on: threading.Event) -> None:
    try:
        _forget_root(forgetting, tree, may_go_on)
    finally:
        forgetting.close()


def _forget_root(forgetting: Forgetting, tree: PackageTree, may_go_on: threading.Event | None = None) -> None:
    """Make the kernel forget the names in a root, which takes with them whatever is below."""
    for name, _nid, _following in tree.readdir(tree.root):
        if may_go_on is not None:
            may_go_on.wait()
        forgetting.forget(pyfuse3.ROOT_INODE, name)
