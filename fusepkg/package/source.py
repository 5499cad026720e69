"""Where the versions of a bucket come from: what it names itself, or what is made of another tool's data."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from fusepkg.errors import BucketNotFound, RemoteUnavailable
from fusepkg.registry.resolve import Resolved, resolve

if TYPE_CHECKING:
    from fusepkg.index.opening import Index
    from fusepkg.model.reference import Reference
    from fusepkg.state.hints import Hints
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)


class VersionSource(Protocol):
    """The versions of one registry, chosen by its scheme. ``step`` is the word for ``resolve`` in a progress bar."""

    step: str

    def resolve(self, reference: Reference) -> Resolved:
        """Return the version a reference names. Raises PackageError, RemoteError."""
        ...

    def use(self, index: Index) -> None:
        """Get ready to read the objects of a version, which an earlier process may have resolved."""
        ...


class RegistryVersions:
    """Versions that tags and manifests of a bucket name. ``hints`` remember tags for when it cannot be reached."""

    step = "Resolving"

    def __init__(self, store: ObjectStore, hints: Hints) -> None:
        self._store = store
        self._hints = hints

    def resolve(self, reference: Reference) -> Resolved:
        """Resolve a reference, from memory where the bucket cannot be reached.

        Raises what ``registry.resolve`` raises; RemoteUnavailable where nothing is remembered.
        """
        registry = self._store.url("")
        try:
            resolved = resolve(self._store, reference)
        except (RemoteUnavailable, BucketNotFound) as exc:
            if isinstance(exc, BucketNotFound) and reference.bucket.scheme == "s3":
                raise  # S3 has answered; a directory that is not there is a disk that is not
            last = self._hints.tag(registry, reference.name, reference.tag) if reference.top_hash is None else None
            if last is None:
                raise
            log.warning("%s; using the version %s was last seen to name", exc.message, reference)
            return Resolved(reference, last.top_hash, reference.tag, offline_since_s=last.time)
        if resolved.tag is not None:
            self._hints.remember_tag(registry, reference.name, resolved.tag, resolved.top_hash)
        return resolved

    def use(self, index: Index) -> None:
        """Do nothing: the settings of the process are those of the bucket."""
