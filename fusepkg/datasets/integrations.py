"""Whose credentials read data that lie in buckets: the AWS profiles of this user."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fusepkg.errors import UsageError
from fusepkg.opened.contexts import current_context
from fusepkg.store.s3.profiles import profile_names

if TYPE_CHECKING:
    from fusepkg.app.context import Context

DEFAULT = "default"
"""The credentials that this process uses anyway, whatever they come from."""


@dataclass(frozen=True, slots=True)
class CloudIntegration:
    """Credentials by name: ``id`` and ``title`` are the name of the AWS profile."""

    id: str
    title: str


def get_cloud_integrations(context: Context) -> list[CloudIntegration]:
    """Return the profiles of this user, those in use first."""
    own = _own(context)
    names = dict.fromkeys([own, *profile_names()])
    return [CloudIntegration(name, name) for name in names]


def context_of(integration_id: str | None, context: Context) -> Context:
    """Return a context with the credentials of an integration. Raises UsageError for one that is not there."""
    if integration_id is None or integration_id == _own(context):
        return context
    known = profile_names()
    if integration_id not in known:
        raise UsageError(
            f"there is no integration {integration_id!r}: no AWS profile has that name",
            hint=f"There are: {', '.join([_own(context), *known])}",
        )
    return current_context(replace(context.settings.flags, profile=integration_id))


def _own(context: Context) -> str:
    return context.settings.s3.profile or os.environ.get("AWS_PROFILE") or DEFAULT
