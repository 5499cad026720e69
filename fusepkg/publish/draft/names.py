"""Names that users give to what they add to a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusepkg.errors import KeyCollision, ManifestInvalid, UsageError
from fusepkg.model.entry import EMPTY_DIRECTORY_NAME
from fusepkg.model.logical_key import check_logical_key

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_directory(text: str) -> str:
    """A directory's logical key, ending with a slash, the empty one for the whole package. Raises UsageError."""
    path = text.removesuffix("/")
    if path in ("", "."):
        return ""
    check_name(path)
    return f"{path}/"


def check_key(key: str) -> None:
    """Refuse what cannot be the logical key of a user's file. Raises UsageError."""
    check_name(key)
    if key.rpartition("/")[2] == EMPTY_DIRECTORY_NAME:
        raise UsageError(f"{key!r} has the name that marks empty directories", hint="Choose another name")


def check_name(key: str) -> None:
    """Refuse what no mount could show below its root. Raises UsageError."""
    try:
        check_logical_key(key)
    except ManifestInvalid as exc:
        raise UsageError(
            f"{key[:120]!r} cannot be a name in a package: {exc.message.removeprefix('manifest: ')}",
            hint="Write it as a plain path below the package, such as train/1.jpg",
        ) from exc


def move_collision(key: str, moves: Mapping[str, str]) -> KeyCollision:
    """The error of a move whose goal is taken."""
    goal = moves[key]
    return KeyCollision(
        f'Collision detected. moving "{key}" to "{goal}", but "{goal}" already exists',
        hint=f'Use overwrite=True if you would like to replace "{goal}" with "{key}".',
    )
