"""What other distributions add: sources, embedders, executors, by the entry points of Python packages."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from fusepkg.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def entry_point_names(group: str) -> list[str]:
    """Return the names that distributions have added to a group, sorted."""
    return sorted({found.name for found in entry_points(group=group)})


def load_entry_point(group: str, name: str, *, also: Iterable[str] = ()) -> Any:  # noqa: ANN401 - what a plug-in has
    """Return what a distribution has added to a group under a name; ``also`` are names that there are besides.

    Raises UsageError where there is none, or two; MissingExtra where a library of it is missing.
    """
    kind = group.rpartition(".")[2]
    found = list(entry_points(group=group, name=name))
    if not found:
        there = ", ".join(sorted({*also, *entry_point_names(group)})) or "none"
        raise UsageError(f"there is nothing called {name!r} among the {kind}", hint=f"There are: {there}")
    origins = sorted({one.dist.name if one.dist else one.value for one in found})
    if len({one.value for one in found}) > 1:
        raise UsageError(f"{' and '.join(origins)} both bring {name!r} for {kind}", hint="Uninstall one of them")
    try:
        return found[0].load()
    except ImportError as exc:
        raise MissingExtra(
            f"{name!r} of {origins[0]} needs {exc.name or exc}", hint=f"Install what {origins[0]} needs"
        ) from exc
    except Exception as exc:
        raise UsageError(f"{name!r} of {origins[0]} cannot be loaded: {exc!r}", hint="Report it to its makers") from exc
