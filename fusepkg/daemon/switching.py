"""Moving a mount to another version of its package, while programs use it."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from fusepkg.daemon.mount_table import top_mount
from fusepkg.daemon.prepare import Preparation, prepare
from fusepkg.daemon.shown_package import open_shown
from fusepkg.errors import MountFailed, RemoteUnavailable, SwitchUnderWay, UsageError
from fusepkg.model.reference import DEFAULT_TAG, Reference, parse_reference, parse_tag
from fusepkg.package.open import has_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path
    from typing import Any

    from fusepkg.app.context import Context
    from fusepkg.daemon.shown_package import ShownPackage
    from fusepkg.engines.mounting import RunningMount

log = logging.getLogger(__name__)


def parse_target(text: str, mounted: Reference) -> Reference:
    """Read where a mount is to be switched to: a tag, ``@`` and a hash, or a whole reference of the same package.

    Raises InvalidReference; UsageError for another package.
    """
    if text.startswith("@"):
        return replace(mounted, tag=DEFAULT_TAG, top_hash=parse_reference(f"{mounted.package}{text}").top_hash)
    if "/" not in text:
        return replace(mounted, tag=parse_tag(text.removeprefix(":")), top_hash=None)
    target = parse_reference(text)
    if (target.bucket, target.name) != (mounted.bucket, mounted.name):
        raise UsageError(
            f"{text} is another package than the mounted one, {mounted.package}",
            hint="A mount can be switched to versions of its own package; mount the other one elsewhere",
        )
    return target


class Switcher:
    """Switches one mount, one switch at a time.

    ``on_coming`` hears what is about to be shown (None: it is not), ``on_shown`` what is, with its device.
    ``until_end`` keeps what lasts as long as the mount.
    """

    def __init__(
        self,
        context: Context,
        mountpoint: Path,
        mount: RunningMount,
        first: ShownPackage,
        until_end: ExitStack,
        on_coming: Callable[[ShownPackage | None], None],
        on_shown: Callable[[ShownPackage, str], None],
    ) -> None:
        self.shown = first
        self._context = context
        self._mountpoint = mountpoint
        self._mount = mount
        self._until_end = until_end
        self._on_coming = on_coming
        self._on_shown = on_shown
        self._showing = trio.Lock()
        self.is_asked = False
        """Whether a command's switch is under way: it goes before following a tag."""

    async def plan(self, target: str) -> dict[str, Any]:
        """Return what a switch would change. Raises as ``switch``."""
        reference, top_hash = await self._resolve(target)
        facts = self._facts(reference, top_hash)
        if facts["changed"]:
            shown = (self.shown.opened.index_root, self.shown.top_hash)
            exact = replace(reference, top_hash=top_hash)
            changes = await prepare(Preparation(exact, self._context.settings, shown))
            facts["changes"] = msgspec.to_builtins(changes)
        return facts

    async def switch(self, target: str) -> dict[str, Any]:
        """Show another version. Raises FusepkgError; then the mount is as it was."""
        if self.is_asked:
            raise SwitchUnderWay(f"{self._mountpoint} is being switched already", hint="Try again when that is done")
        self.is_asked = True
        try:
            return await self._switch(target, lambda: True)
        finally:
            self.is_asked = False

    async def follow(self, tag: str, is_wanted: Callable[[], bool]) -> None:
        """Show what a tag names, if that is still wanted when it is known. Raises as ``switch``."""
        await self._switch(tag, lambda: is_wanted() and not self.is_asked)

    async def _switch(self, target: str, is_wanted: Callable[[], bool]) -> dict[str, Any]:
        reference, top_hash = await self._resolve(target)
        async with self._showing:
            facts = self._facts(reference, top_hash)
            if facts["changed"] and is_wanted():
                await self._show(reference, top_hash)
            return facts

    async def _resolve(self, target: str) -> tuple[Reference, str]:
        reference = parse_target(target, self.shown.reference)
        resolved = await trio.to_thread.run_sync(self._context.resolve, reference, abandon_on_cancel=True)
        if resolved.offline_since_s is not None:
            raise RemoteUnavailable(
                f"the bucket cannot be reached, so what {reference} names now is not known",
                hint="Try again when it can be, or name a version by its hash: @HASH",
            )
        return reference, resolved.top_hash

    def _facts(self, reference: Reference, top_hash: str) -> dict[str, Any]:
        return {
            "mountpoint": str(self._mountpoint),
            "from": {"reference": str(self.shown.reference), "top_hash": self.shown.top_hash},
            "to": {"reference": str(reference), "top_hash": top_hash},
            "changed": top_hash != self.shown.top_hash,
        }

    async def _show(self, reference: Reference, top_hash: str) -> None:
        exact = replace(reference, top_hash=top_hash)
        context = self._context
        if not has_index(context.settings.indexes_dir, context.store(exact.bucket), exact.name, top_hash):
            await prepare(Preparation(exact, context.settings))
        open_it = partial(open_shown, context, reference, str(reference), self._until_end, top_hash=top_hash)
        new = await trio.to_thread.run_sync(open_it)
        device = await trio.to_thread.run_sync(self._checked_device)
        await self._mount.get_ready()
        started = time.monotonic()
        self._on_coming(new)
        try:
            await self._mount.show(new.opened.index, str(reference), new.root_xattrs())
        except BaseException:
            self._on_coming(None)
            raise
        took_ms = (time.monotonic() - started) * 1000
        before, self.shown = self.shown.top_hash, new
        device = await trio.to_thread.run_sync(_device_of, self._mountpoint)
        self._on_shown(new, device)
        log.info("switched from %s to %s (%s) in %.1f ms", before, reference, top_hash, took_ms)

    def _checked_device(self) -> str:
        """Return the device of our mount. Raises MountFailed if it is not what programs see at its directory."""
        top = top_mount(self._mountpoint)
        device = _device_of(self._mountpoint)
        if top is None or not top.is_ours or top.device != device:
            raise MountFailed(
                f"something else is mounted over {self._mountpoint}, or it is not mounted any more",
                hint="`findmnt` lists what is mounted where",
            )
        return device


def _device_of(mountpoint: Path) -> str:
    """``major:minor``. Blocks: stat(2) asks the mount itself."""
    number = os.stat(mountpoint).st_dev
    return f"{os.major(number)}:{os.minor(number)}"
