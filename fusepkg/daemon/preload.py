"""Load at the start whatever a daemon may need later.

An upgrade replaces the package's files under a running mount; a module imported after that would be another version's,
or gone. So all of it is loaded before the mount is usable, also what talks to S3 where the registry is a directory.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_PACKAGES = ("fusepkg", "fusepkg_cache")

_NEEDED = (
    "fusepkg.app", "fusepkg.daemon", "fusepkg.engines", "fusepkg.errors", "fusepkg.fetch", "fusepkg.index",
    "fusepkg.model", "fusepkg.package", "fusepkg.packs", "fusepkg.registry", "fusepkg.state", "fusepkg.store",
    "fusepkg.vfs", "fusepkg.work",
)  # fmt: skip
"""What the import contract has at and below the daemon, without what no mount does: publish, install, check. A package
that stands above may need a library that is not installed."""


def load_everything() -> None:
    """Import every module of fusepkg and of its cache that serving, fetching and ending a mount may need."""
    for package in _PACKAGES:
        for name in _modules_of(import_module(package)):
            import_module(name)


def _modules_of(package: ModuleType) -> list[str]:
    names = []
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if package.__name__ == "fusepkg" and found.name not in _NEEDED:
            continue
        names.append(found.name)
        if found.ispkg:
            names += _modules_of(import_module(found.name))
    return names
