"""fusepkg: a mount for datasets.

from fusepkg import Package, PackageBuilder, configure
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusepkg.api.builder import PackageBuilder as PackageBuilder
    from fusepkg.api.package import Package as Package
    from fusepkg.opened.contexts import configure as configure

__version__ = "0.1.0"
__all__ = ["Package", "PackageBuilder", "__version__", "configure"]

_HOMES = {
    "Package": "fusepkg.api.package",
    "PackageBuilder": "fusepkg.api.builder",
    "configure": "fusepkg.opened.contexts",
}


def __getattr__(name: str) -> object:
    """Load the API when it is first asked for: the command line and the daemon of a mount do without it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
