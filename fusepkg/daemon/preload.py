"""Load at the start whatever a daemon may need later.

An upgrade replaces the package's files under a running mount; a module imported after that would be another version's,
or gone. A mount of a registry in a directory loads what talks to S3, a third of all, just after it has become usable:
few of them ever need it.
"""

from __future__ import annotations

import logging
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger(__name__)

_S3 = "fusepkg.store.s3"

_PACKAGES = ("fusepkg", "fusepkg_cache")

_NEEDED = (
    "fusepkg.app", "fusepkg.daemon", "fusepkg.engines", "fusepkg.errors", "fusepkg.fetch", "fusepkg.index",
    "fusepkg.model", "fusepkg.package", "fusepkg.packs", "fusepkg.registry", "fusepkg.state", "fusepkg.store",
    "fusepkg.vfs", "fusepkg.work",
)  # fmt: skip
"""What the import contract has at and below the daemon, without what no mount does: publish, install, check. A package
that stands above may need a library that is not installed."""


def load_everything(*, with_s3: bool = True) -> None:
    """Import every module of fusepkg and of its cache that serving, fetching and ending a mount may need."""
    for package in _PACKAGES:
        for name in _modules_of(import_module(package)):
            if with_s3 or not name.startswith(f"{_S3}."):
                import_module(name)


def load_s3() -> None:
    """Import what talks to S3. A failure is logged only: the mount may never need it."""
    try:
        for name in _modules_of(import_module(_S3)):
            import_module(name)
    except ImportError as exc:
        log.warning("objects in S3 cannot be read until this mount is made again: %s", exc)


def _modules_of(package: ModuleType) -> list[str]:
    names = []
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if package.__name__ == "fusepkg" and found.name not in _NEEDED:
            continue
        names.append(found.name)
        if found.ispkg:
            names += _modules_of(import_module(found.name))
    return names
