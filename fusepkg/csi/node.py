"""Publish volumes at target paths of this node, and take them away: every call may come twice, or too late."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.csi.codes import Refused
from fusepkg.csi.published import Published, PublishedVolumes
from fusepkg.csi.volumes import volume_of
from fusepkg.daemon import mount_table
from fusepkg.engines import kernel
from fusepkg.errors import FusepkgError, MountpointUnfit, NotMounted, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fusepkg.csi.mounts import SharedMounts
    from fusepkg.csi.volumes import Volume

log = logging.getLogger(__name__)


class Node:
    """The volumes of this node."""

    def __init__(self, mounts: SharedMounts, published: PublishedVolumes) -> None:
        self._mounts = mounts
        self._published = published
        self._busy: set[Path] = set()
        self._guard = threading.Lock()

    def publish(self, volume_id: str, target: str, attributes: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        """Show a volume at a target path. Raises Refused, FusepkgError."""
        volume = volume_of(attributes, secrets)
        place = target_of(volume_id, target)
        with self._alone(place):
            known = self._published.at(place)
            wanted = Published(
                target=str(place),
                volume_id=volume_id,
                volume=volume,
                shared_as=volume.shared_as(volume_id, has_secrets=bool(secrets)),
            )
            if known is not None and known != wanted:
                raise Refused("ALREADY_EXISTS", f"{target} shows {_words(known.volume_id, known.volume)} already")
            self._show(wanted, place, secrets, is_new=known is None)

    def _show(self, wanted: Published, place: Path, secrets: Mapping[str, str], *, is_new: bool) -> None:
        with self._mounts.locked(wanted.shared_as):
            if is_new:
                _refuse_foreign(place)
                self._published.add(wanted)  # first, so that a driver that is killed here leaves nothing unknown
            try:
                self._mounts.provide(wanted.shared_as, wanted.volume, secrets)
                self._bind(wanted.shared_as, place)
            except BaseException:
                if is_new:
                    with suppress(FusepkgError):  # the first error is the one to tell
                        self._withdraw(wanted, place)
                raise

    def _bind(self, name: str, place: Path) -> None:
        """Show the shared mount at a target path, on top of a dead one or of the version before.

        Only what is mounted on top reaches a container that has the target already: not what takes its place.
        """
        top = mount_table.top_mount(place)
        if top is not None and top.device == self._mounts.device(name):
            return
        if top is None:
            place.mkdir(mode=0o755, exist_ok=True)
        kernel.bind(self._mounts.place(name), place)

    def bind_again(self) -> None:
        """Show at each target what its mount shows now: a switch of the engine erofs mounts another file system."""
        for known in self._published.all():
            place = Path(known.target)
            shown, wanted = mount_table.top_mount(place), self._mounts.device(known.shared_as)
            if shown is None or wanted is None or shown.device == wanted:
                continue
            with suppress(FusepkgError, OSError), self._alone(place), self._mounts.locked(known.shared_as):
                if self._published.at(place) == known and mount_table.mounted_at(place):
                    self._bind(known.shared_as, place)
                    log.info("%s shows what its mount was switched to", place)

    def _withdraw(self, known: Published, place: Path) -> None:
        """Take a volume away, and the mount behind it with its last volume. Its lock is held."""
        _unbind(place)
        with suppress(FileNotFoundError):
            place.rmdir()
        self._published.remove(place)
        if not self._published.is_used(known.shared_as):
            self._mounts.end(known.shared_as)

    def unpublish(self, volume_id: str, target: str) -> None:
        """Take a volume away; does nothing where it is gone. Raises Refused, FusepkgError."""
        place = target_of(volume_id, target)
        with self._alone(place):
            known = self._published.at(place)
            if known is not None and known.volume_id != volume_id:
                raise Refused("NOT_FOUND", f"{target} shows another volume, {known.volume_id}")
            if known is not None:
                with self._mounts.locked(known.shared_as):
                    self._withdraw(known, place)
                return
            _refuse_foreign(place)
            _unbind(place)  # of a driver whose records are lost
            with suppress(FileNotFoundError):
                place.rmdir()

    def published(self, volume_id: str, path: str) -> Published:
        """Return what is at a path. Raises Refused unless it is that volume."""
        known = self._published.at(target_of(volume_id, path))
        if known is None or known.volume_id != volume_id:
            raise Refused("NOT_FOUND", f"the volume {volume_id} is not published at {path}")
        return known

    def end_unused(self) -> None:
        """End the mounts that a killed driver was about to end. For the start: no call may be under way."""
        for name in self._mounts.names():
            if not self._published.is_used(name):
                with suppress(FusepkgError):  # they are in nobody's way
                    self._mounts.end(name)

    @contextmanager
    def _alone(self, place: Path) -> Iterator[None]:
        """Let no other call change what is at a path while the block runs. Raises Refused where one does."""
        with self._guard:
            if place in self._busy:
                raise Refused("ABORTED", f"another call for {place} is under way")
            self._busy.add(place)
        try:
            yield
        finally:
            with self._guard:
                self._busy.discard(place)


def target_of(volume_id: str, path: str) -> Path:
    """Return a target path as the kernel's table has it. Raises UsageError."""
    if not volume_id:
        raise UsageError("volume_id is missing")
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path or not Path(path).name:
        raise UsageError(f"{path!r} is not the absolute path of a directory")
    return Path(os.path.realpath(Path(path).parent)) / Path(path).name


def _refuse_foreign(place: Path) -> None:
    """Raise MountpointUnfit if something is at a path that is neither an empty directory nor a mount of fusepkg."""
    top = mount_table.top_mount(place)
    if top is not None:
        if not top.is_ours:
            raise MountpointUnfit(f"something else is mounted at {place}", hint="Unmount it first")
        return
    if not os.path.lexists(place):
        return
    if place.is_symlink() or not place.is_dir():
        raise MountpointUnfit(f"{place} is there already and is not a directory", hint="Remove it first")
    with os.scandir(place) as entries:
        if next(entries, None) is not None:
            raise MountpointUnfit(f"{place} is not empty", hint="A volume would hide what is there")


def _unbind(place: Path) -> None:
    """Unmount what is at a path, all layers of it; programs that use it go on until they close it."""
    while mount_table.mounted_at(place):
        with suppress(NotMounted):
            kernel.unmount(place, lazy=True)


def _words(volume_id: str, volume: Volume) -> str:
    options = "".join(f", {name}={value}" for name, value in volume.options)
    return f"the volume {volume_id} ({volume.package}{options})"
