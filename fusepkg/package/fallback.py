"""Opening a package also if its index cannot be kept: the cache directory is read-only, full, or open to others."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg_cache.private_directory import NotPrivate, check_private, make_private

from fusepkg.errors import CacheFailure
from fusepkg.package.open import open_package
from fusepkg.work.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.package.open import OpenedPackage
    from fusepkg.registry.resolve import Resolved
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

_MEMORY = Path("/dev/shm")
"""Has room where the disk of the temporary files has none."""


def open_with_fallback(
    store: ObjectStore,
    resolved: Resolved,
    indexes: Path,
    progress: Callable[[str, int, int], None],
    temporary: ExitStack,
) -> OpenedPackage:
    """Open a version of a package as ``open_package`` does, also where ``indexes`` can only be read, or not even that.

    An index that is there is used. Where it is not and cannot be kept, it is built in a temporary directory, which is
    removed when ``temporary`` is closed; what was opened of it stays readable. Raises what ``open_package`` raises.
    """
    try:
        _check_private(indexes)
        return open_package(store, resolved, indexes, progress)
    except CacheFailure as exc:
        failure = exc
    for place in (Path(tempfile.gettempdir()), _MEMORY):
        log.warning("%s; the index is kept in %s meanwhile", failure.message, place)
        with ExitStack() as stack:
            try:
                # What killed processes left there is swept.
                directory = stack.enter_context(scratch_directory(place, f"fusepkg-index-{os.geteuid()}-"))
                opened = open_package(store, resolved, directory, progress)
            except CacheFailure as exc:
                failure = exc
                continue
            except OSError as exc:
                failure = CacheFailure(f"{place} has no room for an index: {exc.strerror}", hint="Set TMPDIR")
                continue
            temporary.push(stack.pop_all())
            return opened
    raise failure


def _check_private(indexes: Path) -> None:
    """Raise CacheFailure if another user could change what is read from there; make it private if it is not there."""
    try:
        try:
            make_private(indexes)
        except OSError:  # it can only be read
            check_private(indexes)
    except NotPrivate as exc:
        raise CacheFailure(exc.message, hint=exc.hint) from exc
    except OSError as exc:
        raise CacheFailure(f"the cache directory {indexes} cannot be used: {exc.strerror}") from exc
