"""Metadata as users give it, checked before it gets into a version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fusepkg.errors import ManifestInvalid, UsageError
from fusepkg.model.manifest import FORMAT_VERSION, MAX_LINE_BYTES, write_header
from fusepkg.model.record import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

USER_META = "user_meta"
"""The key of an entry's ``meta`` object that is the user's, as quilt3 has it."""

RECORD_KEY = "workspace"
"""Where in a package's metadata it stands how a workspace came about, unless the user has something there."""

_RECORD_FIELDS = {"git", "inputs", "python"}
"""What every record of a workspace has."""

_LINE_RESERVE_BYTES = 8192
"""What the rest of a record may take: a name of 4,095 bytes, and a physical key with most of it percent-encoded."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def checked_meta(meta: object, what: str) -> dict[str, Any]:
    """A copy of metadata as they will be read again; ``what`` they are of, for messages.

    Raises UsageError for what is no JSON object: NaN, bytes, sets, lone surrogates, endless nesting; and for what is
    too large for one record of a manifest.
    """
    if not isinstance(meta, dict):
        raise UsageError(f"The metadata of {what} is not a JSON object", hint='Write, for example, {"source": "web"}')
    try:
        text = _encode(meta).encode()
        copy = parse_json(text, 0)
    except (ValueError, TypeError, RecursionError, ManifestInvalid) as exc:
        raise UsageError(
            f"The metadata of {what} cannot be written as JSON: {exc}",
            hint="JSON has objects, lists, text, numbers (not NaN or infinity), true, false and null",
        ) from exc
    if len(text) > MAX_LINE_BYTES - _LINE_RESERVE_BYTES:
        raise UsageError(
            f"The metadata of {what} has {len(text):,} bytes; at most {MAX_LINE_BYTES - _LINE_RESERVE_BYTES:,} fit in a"
            " record of a manifest",
            hint="Keep large metadata in a file of the package",
        )
    return copy


def is_record(value: object) -> bool:
    """Return whether metadata are the record of a workspace, and not something of the user's."""
    return isinstance(value, dict) and value.keys() >= _RECORD_FIELDS


def with_user_meta(meta: Mapping[str, Any], user_meta: dict[str, Any]) -> dict[str, Any]:
    """An entry's meta object with other metadata of the user's; what fusepkg and quilt3 keep beside it stays."""
    return {**meta, USER_META: user_meta}


def make_header(message: str | None, user_meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the header quilt3's command line writes: all three keys, null where nothing was given.

    Raises UsageError, and ManifestInvalid for what JSON cannot hold.
    """
    if not (user_meta is None or isinstance(user_meta, dict)):
        raise UsageError("The metadata of a package is not a JSON object", hint='Write, for example, {"source": "web"}')
    header = {"version": FORMAT_VERSION, "user_meta": user_meta, "message": message}
    write_header(header)  # what JSON cannot hold is refused before any work
    return header
