"""The versions that file systems of this process have open: each tag is looked up once.

So all threads and workers forked later see one version of it, whatever happens to the tag meanwhile.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from fusepkg.app.settings import decide
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import current_context, current_flags
from fusepkg.opened.version import open_version

if TYPE_CHECKING:
    from fusepkg.app.settings import Flags, Settings
    from fusepkg.opened.version import OpenVersion

_lock = threading.Lock()
_versions: dict[tuple[Settings, str], OpenVersion] = {}


def opened_version(reference: str, flags: Flags | None) -> OpenVersion:
    """Open what a reference names, once. Raises UsageError, PackageError, RemoteError, IntegrityError, CacheFailure."""
    flags = flags or current_flags()
    key = (decide(flags), reference)
    with _lock:
        version = _versions.get(key)
    if version is None:
        opened = open_version(current_context(flags), parse_reference(reference))
        with _lock:
            version = _versions.setdefault(key, opened)
    return version


def remember_version(version: OpenVersion) -> str:
    """Have file systems with the same settings use an open version; return the reference they find it by."""
    reference = f"{version.reference.package}@{version.index.top_hash}"
    with _lock:
        _versions.setdefault((version.context.settings, reference), version)
    return reference


def forget_versions() -> None:
    """Look tags up again when they are next asked for."""
    with _lock:
        _versions.clear()


def _after_fork_in_child() -> None:
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)
