"""Take at the start whatever code a daemon may need later.

An upgrade replaces the package's files under a running mount; a module read after that would be another version's, or
gone. So all of it is read before the mount is usable. Most of it is run only if it is needed: what talks to S3, say, by
no mount of a registry in a directory.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from fusepkg.daemon.held_code import hold

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

_DISK_IMAGE = "fusepkg.disk_image"
"""What `mount --local-image` makes."""

_LIBRARIES = (
    "boto3", "botocore", "s3transfer", "urllib3", "certifi", "dateutil", "six", "jmespath", "awscrt", "_awscrt",
    "httptools",
)  # fmt: skip
"""What talking to S3 takes, with all that these import."""

_STANDARD = (
    "asyncio", "_asyncio", "multiprocessing", "_multiprocessing", "_posixshmem", "xml", "pyexpat", "_elementtree",
    "html", "_markupbase", "http", "urllib", "logging", "configparser", "gzip", "mimetypes", "runpy", "shlex",
)  # fmt: skip
"""What those import of Python's own."""


def hold_everything() -> None:
    """Read every module that serving, fetching and ending a mount may need; run it when it is imported."""
    hold((*_NEEDED, _DISK_IMAGE, "fusepkg_cache", *_LIBRARIES, *_STANDARD))


def load_everything() -> None:
    """Import every module of fusepkg and of its cache that serving, fetching and ending a mount may need."""
    for package in _PACKAGES:
        for name in _modules_of(import_module(package)):
            import_module(name)


def _modules_of(package: ModuleType) -> list[str]:
    names = []
    for found in iter_modules(package.__path__, f"{package.__name__}."):
        if package.__name__ == "fusepkg" and found.name not in _NEEDED:
            continue
        names.append(found.name)
        if found.ispkg:
            names += _modules_of(import_module(found.name))
    return names
