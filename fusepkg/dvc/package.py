"""A version made of a DVC repository: a manifest in a registry of this machine, with DVC's own hashes.

Its top hash covers where the objects lie, as that of a view does: a repository whose objects have moved, from its own
cache to a remote, is another version, and no index names places of before.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.dvc.repository import Sources, read_repository
from fusepkg.errors import ObjectExists, RepositoryUnfit
from fusepkg.model.manifest import write_entry, write_header
from fusepkg.model.reference import DVC, BucketUrl
from fusepkg.model.tophash import TopHash
from fusepkg.registry.layout import manifest_key
from fusepkg.registry.resolve import Resolved, resolve
from fusepkg.work.walk import place_of

if TYPE_CHECKING:
    from fusepkg.dvc.config import Remote
    from fusepkg.index.opening import Index
    from fusepkg.model.entry import Entry
    from fusepkg.model.reference import Reference
    from fusepkg.store.opening import StoreSet
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.store.s3.settings import S3Settings

DVC_KEY = "fusepkg_dvc"
"""In the metadata of such a version: which repository, where its objects lie, how its buckets are reached."""

_ANONYMOUS = "allow_anonymous_login"


class DvcVersions:
    """The versions of a DVC repository, whose registry on this machine is ``store``.

    ``data_dir`` keeps copies of the repositories of other machines.
    """

    step = "Reading"

    def __init__(self, store: ObjectStore, stores: StoreSet, s3: S3Settings, data_dir: Path) -> None:
        self._store = store
        self._stores = stores
        self._s3 = s3
        self._data_dir = data_dir

    def resolve(self, reference: Reference) -> Resolved:
        """Return the version a revision names, which its registry on this machine has from then on.

        Raises what ``import_revision`` raises; of a top hash, HashNotFound and HashAmbiguous.
        """
        if reference.top_hash is not None:
            return resolve(self._store, reference)
        return import_revision(reference, self._stores, self._s3, self._data_dir)

    def use(self, index: Index) -> None:
        """Reach the buckets of a version that was made before as its repository said then."""
        user_meta = index.header.get("user_meta")
        about = user_meta.get(DVC_KEY) if isinstance(user_meta, dict) else None
        for bucket, options in (about or {}).get("buckets", {}).items():
            self._stores.use_settings(bucket, _with_options(self._s3, options))


def import_revision(reference: Reference, stores: StoreSet, s3: S3Settings, data_dir: Path) -> Resolved:
    """Read a DVC repository at a revision and put the version into its registry on this machine.

    Raises RepositoryUnfit, EntryNotFound, ObjectMissing, DigestMismatch, RemoteUnavailable, and what stores raise.
    """
    registry = stores.for_bucket(reference.bucket)
    buckets: dict[str, dict[str, str]] = {}

    def use_remote(remote: Remote) -> None:
        if remote.bucket and remote.options:
            options = _accepted(remote, s3)
            if buckets.setdefault(remote.bucket, options) != options:
                raise RepositoryUnfit(f"the bucket {remote.bucket} is to be reached in two ways, as two remotes say")
            stores.use_settings(remote.bucket, _with_options(s3, options))

    known = stores.for_bucket(BucketUrl(DVC, ""))
    read = read_repository(reference, Sources(stores.for_key, known, data_dir / "git", use_remote))
    entries = sorted(read.entries, key=lambda entry: place_of(entry.logical_key))
    header = _header(reference.bucket.place, entries, buckets)
    top_hash = TopHash(header)
    for entry in entries:
        top_hash.update(entry)
    with tempfile.TemporaryDirectory(prefix="fusepkg-dvc-") as directory:
        manifest = Path(directory, "manifest.jsonl")
        with manifest.open("wb") as file:
            file.write(write_header(header))
            file.writelines(write_entry(entry) for entry in entries)
        with suppress(ObjectExists):
            registry.create(manifest_key(reference.name, top_hash.hexdigest()), manifest)
    return Resolved(reference, top_hash.hexdigest(), reference.tag, offline_since_s=read.offline_since_s)


def _accepted(remote: Remote, s3: S3Settings) -> dict[str, str]:
    """Return a remote's options without an endpoint that others have named, to which no credentials are sent.

    Raises RepositoryUnfit if they would be, unless the user names that endpoint too.
    """
    options = dict(remote.options)
    if not remote.is_endpoint_foreign:
        return options
    if not s3.sign or options.get(_ANONYMOUS, "").lower() == "true":
        return {**options, _ANONYMOUS: "true"}
    endpoint = options.pop("endpointurl")
    said = (s3.endpoint_url, os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"))
    if endpoint.rstrip("/") not in [one.rstrip("/") for one in said if one]:
        raise RepositoryUnfit(
            f"the repository has its remote {remote.name!r} at {endpoint}: your credentials would be sent there",
            hint=f"If you trust it: --endpoint-url {endpoint}. For public data: --no-sign-request",
        )
    return options


def _with_options(s3: S3Settings, options: dict[str, str]) -> S3Settings:
    """Return settings for a remote: flags and fusepkg's configuration, then DVC's, then AWS's own sources."""
    return replace(
        s3,
        endpoint_url=s3.endpoint_url or options.get("endpointurl"),
        region=s3.region or options.get("region"),
        profile=s3.profile or options.get("profile"),
        sign=s3.sign and options.get(_ANONYMOUS, "").lower() != "true",
    )


def _header(place: str, entries: list[Entry], buckets: dict[str, dict[str, str]]) -> dict[str, Any]:
    places = hashlib.sha256()
    for entry in entries:
        places.update(f"{entry.physical_key}\n".encode())
    about = {"repository": place, "places": places.hexdigest(), "buckets": buckets}
    return {"version": "v0", "message": None, "user_meta": {DVC_KEY: about}}
