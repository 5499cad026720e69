"""cache pin, unpin, pins."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import typer

from fusepkg.cache_admin.pins import pin_name, pin_version
from fusepkg.cache_admin.usage import share_of
from fusepkg.cli.opening import open_package, resolve_reference
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import counted, human_bytes, note, print_json, print_table, progress_bar, say, short, time_text
from fusepkg.errors import UsageError
from fusepkg.model.reference import parse_reference
from fusepkg.registry.manifests import get_chunk_list

if TYPE_CHECKING:
    from fusepkg.app.context import Context


def register(group: typer.Typer) -> None:
    """Add these commands to the group of the cache."""
    group.command()(pin)
    group.command()(unpin)
    group.command("pins")(list_pins)


def pin(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Keep a version in the cache: what is there of it, and what will be, does not make room for other data."""
    app = app_of(context)
    opened = open_package(app, ref)
    reference, index = opened.resolved.reference, opened.index
    store = app.store(reference.bucket)
    name = pin_name(reference, index.top_hash)
    cache = app.cache()
    with progress_bar() as show:
        pin_version(cache, name, index, partial(get_chunk_list, store), partial(show, "Pinning"))
        share = share_of(cache, index, partial(show, "Looking what is there"))
    if as_json:
        print_json({"name": name, "hash": index.top_hash, **asdict(share)})
        return
    say(f"Pinned {reference.package}@{short(index.top_hash)}")
    note(
        f"{human_bytes(share.bytes_here)} of {human_bytes(share.bytes)} are here; the rest is kept from when it is read"
        if share.bytes_here < share.bytes
        else f"All of it is here: {counted(share.files, 'file')}, {human_bytes(share.bytes)}"
    )


def unpin(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Let a version make room for other data again. Nothing is dropped now."""
    app = app_of(context)
    name = _pin_meant(app, ref)
    app.cache().unpin(name)
    if as_json:
        print_json({"name": name})
        return
    say(f"Unpinned {_shown(name)}")


def _pin_meant(app: Context, ref: str) -> str:
    """Return the name of the pin of a version. A hash is looked up among the pins, so that no request is needed."""
    reference = parse_reference(ref)
    names = [pin.name for pin in app.cache().pins() if pin.name.startswith(f"{reference.package}@")]
    top_hash = reference.top_hash
    if top_hash is None and names:
        top_hash = resolve_reference(app, ref).top_hash
    meant = [name for name in names if top_hash and name.startswith(f"{reference.package}@{top_hash}")]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UsageError(f"{ref} could be {' or '.join(meant)}", hint="Write as many digits as it takes to tell")
    raise UsageError(
        f"{ref} is not pinned",
        hint=f"Pinned are {', '.join(map(_shown, names))}" if names else "`fusepkg cache pins` lists what is",
    )


def list_pins(context: typer.Context, as_json: JsonOption = False) -> None:
    """List what is pinned."""
    found = sorted(app_of(context).cache().pins(), key=lambda pin: pin.name)
    if as_json:
        print_json([{"name": pin.name, "blobs": pin.blobs, "since": pin.since} for pin in found])
        return
    rows = [(*_split(pin.name), f"{pin.blobs:,}", time_text(pin.since)) for pin in found]
    print_table(("PACKAGE", "HASH", "BLOBS", "SINCE"), rows)


def _shown(name: str) -> str:
    return "@".join(_split(name))


def _split(name: str) -> tuple[str, str]:
    package, _, top_hash = name.rpartition("@")
    return package, short(top_hash)
