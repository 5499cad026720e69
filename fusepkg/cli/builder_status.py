"""The `status` of a builder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fusepkg.cli.builder import PACKAGE_KEY
from fusepkg.cli.builder_draft import reference_of
from fusepkg.cli.builder_state import SetMeta, read_state
from fusepkg.cli.output import print_json, say, short

if TYPE_CHECKING:
    from pathlib import Path


def show_builder(directory: Path, as_json: bool) -> None:
    """Print what the version being made in a directory holds so far. Raises BuilderUnfit."""
    if as_json:
        print_json(_builder_facts(directory))
        return
    state = read_state(directory)
    header, reference = state.header, reference_of(state)
    if header.base is not None and state.is_pushed:
        named = f"{reference.package}:{header.tag} ({short(header.base)})" if header.tag else ""
        say(f"Package: {named or f'{reference.package}@{short(header.base)}'}")
        say("Data matches manifest")
        return
    say(f"PackageBuilder: {reference.package} ({short(header.built) if header.built else 'pre-manifest'})")
    items = state.items
    say("")
    if not items:
        say("No data yet: fusepkg add PATH")
        return
    say("Data:")
    width = max(len(item.key) for item in items) + 4
    for item in items:
        say(f"  {item.key or './':<{width}}->  {item.source}")
    changed = list(dict.fromkeys(change.key for change in state.changes if isinstance(change, SetMeta)))
    if changed:
        say("")
        say("Metadata set:")
        for key in changed:
            say(f"  {key or PACKAGE_KEY}")


def _builder_facts(directory: Path) -> dict[str, object]:
    state = read_state(directory)
    header = state.header
    return {
        "builder": header.builder,
        "directory": str(directory),
        "base": header.base,
        "tag": header.tag,
        "top_hash": header.base if state.is_pushed else header.built,
        "pushed": state.is_pushed,
        "items": [{"logical_key": item.key, "source": item.source} for item in state.items],
        "changes": [msgspec.to_builtins(change) for change in state.changes],
    }
