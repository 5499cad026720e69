"""cache info, cache clear.

Owns: what these commands take and print. Must not know: how the cache is laid out.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from fusepkg_cache import Cache

from fusepkg.cli.options import JsonOption, settings_of
from fusepkg.cli.output import counted, human_bytes, note, print_json, say
from fusepkg.daemon import records
from fusepkg.fetch.chunks import cached_digests
from fusepkg.index.files import index_directory
from fusepkg.index.opening import open_index
from fusepkg.model.reference import parse_reference
from fusepkg.registry.opening import index_root_for, resolve_or_remember
from fusepkg.registry.remembered import Remembered
from fusepkg.store.opening import open_store


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="The cache all mounts of this machine share.")
    group.command()(info)
    group.command()(clear)
    app.add_typer(group, name="cache")


def info(context: typer.Context, as_json: JsonOption = False) -> None:
    """Tell where the cache is and what it holds."""
    settings = settings_of(context)
    cache = Cache(settings.blobs_dir)
    try:
        facts = cache.info()
    finally:
        cache.close()
    if as_json:
        print_json(
            {name: value if isinstance(value, int | dict) else str(value) for name, value in asdict(facts).items()}
        )
        return
    say(f"Directory: {settings.cache_dir}")
    say(f"Holds: {counted(facts.blobs, 'blob')}, {human_bytes(facts.bytes)}")


def clear(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="Only the data of this package.")] = "",
) -> None:
    """Drop cached data, also under live mounts: what they read next is fetched again."""
    settings = settings_of(context)
    cache = Cache(settings.blobs_dir)
    try:
        if not ref:
            dropped = cache.clear()
            _drop_indexes(settings.indexes_dir)
        else:
            reference = parse_reference(ref)
            store = open_store(reference.bucket, settings.s3, settings.data_dir)
            with closing(Remembered(settings.remembered_dir)) as remembered:
                resolved, _ = resolve_or_remember(store, reference, remembered)
            index = open_index(index_root_for(settings.indexes_dir, store, reference.name), resolved.top_hash)
            dropped = cache.clear(cached_digests(cache, index.entries) if index else [])
    finally:
        cache.close()
    note(f"Dropped {counted(dropped.blobs, 'blob')}, {human_bytes(dropped.bytes)}")


def _drop_indexes(directory: Path) -> None:
    """All but those of live mounts, which `verify` compares with, and of whoever builds one just now."""
    live = {
        index_directory(Path(record.index_root), record.top_hash).resolve()
        for record in records.read_records()
        if records.is_alive(record)
    }
    for index in directory.resolve().glob("*/v*/[!.]*"):
        if index not in live:
            shutil.rmtree(index, ignore_errors=True)
