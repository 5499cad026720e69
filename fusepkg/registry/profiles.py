"""Access profiles in a bucket, beside their package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import AccessDenied, ObjectMissing
from fusepkg.model.access_profile import MAX_PROFILE_BYTES, read_profile
from fusepkg.registry.layout import profile_key, profiles_prefix

if TYPE_CHECKING:
    from fusepkg.model.access_profile import AccessProfile
    from fusepkg.store.protocol import ObjectStore

_NAMED = 100
"""Profiles of a package that are listed."""


def get_profile(store: ObjectStore, name: str, profile: str) -> AccessProfile:
    """Return a profile of a package. Raises ObjectMissing, ObjectTooLarge, UnsupportedFormat.

    S3 says 403 of what is not there to those who may not list the bucket.
    """
    try:
        return read_profile(store.get(profile_key(name, profile), at_most=MAX_PROFILE_BYTES))
    except (ObjectMissing, AccessDenied) as exc:
        raise ObjectMissing(
            f"{name} has no access profile {profile!r}",
            hint=f"`fusepkg profile record DIR --name {profile}` begins one",
        ) from exc


def put_profile(store: ObjectStore, name: str, profile: str, data: bytes) -> None:
    """Put a profile in place of the one of that name there may be."""
    store.overwrite(profile_key(name, profile), data)


def profile_names(store: ObjectStore, name: str) -> list[str]:
    """Return the names of a package's profiles, the first 100."""
    prefix = profiles_prefix(name)
    found = store.list(prefix, limit=_NAMED)
    return [info.key.removeprefix(prefix).removesuffix(".jsonl") for info in found]
