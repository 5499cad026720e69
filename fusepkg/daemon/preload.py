"""Load at the start whatever a daemon may need later.

An upgrade replaces the package's files under a running mount; a module imported after that would be another version's,
or gone.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_PACKAGES = ("fusepkg", "fusepkg_cache")

_NOT_NEEDED = (
    "fusepkg.cli", "fusepkg.metrics", "fusepkg.torch", "fusepkg.training", "fusepkg.labels", "fusepkg.api",
    "fusepkg.query", "fusepkg.fsspec", "fusepkg.opened", "fusepkg.publish", "fusepkg.install", "fusepkg.check",
    "fusepkg.__main__",
)  # fmt: skip
"""Front ends, some of which need an extra that may not be installed, and what no mount does."""


def load_everything() -> None:
    """Import every module of fusepkg and of its cache that serving, fetching and ending a mount may need."""
    for package in _PACKAGES:
        for name in _modules_of(import_module(package)):
            import_module(name)


def _modules_of(package: ModuleType) -> list[str]:
    names = []
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.startswith(_NOT_NEEDED):
            continue
        names.append(found.name)
        if found.ispkg:
            names += _modules_of(import_module(found.name))
    return names
