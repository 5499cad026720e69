"""How long `fusepkg mount` takes, as a user sees it: the whole command, from its start to its end.

The package has a manifest and no objects: a mount reads none before somebody reads a file.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, Digest

from bench import machine
from bench.memory import Peak
from bench.results import Sample
from bench.rows import Run, record_memory
from bench.subjects import fusepkg
from fusepkg.model.entry import Entry
from fusepkg.model.logical_key import tree_sort_key
from fusepkg.model.manifest import FORMAT_VERSION, write_entry, write_header
from fusepkg.model.physical_key import PhysicalKey
from fusepkg.model.tophash import TopHash
from fusepkg.registry.manifests import put_manifest
from fusepkg.registry.tags import move_tag
from fusepkg.store.directory import DirectoryStore

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure


ENTRIES = 100_000
FILES_PER_DIRECTORY = 100

NAME, TAG = "synthetic", "bench"

INDEXED_MOUNTS = 3
"""Mounts with an index per round: they are quick, so the median of more is to be had cheaply."""


def mount_times(run: Run, _stack: ExitStack) -> Measure:
    """The first mount of a version on a machine, and the later ones, with either engine."""
    entries = run.scaled(ENTRIES)
    data = run.scratch / "data"
    publish_synthetic(data, entries, run.scratch)
    run.results.add_row("mount.new", f"mount of {entries:,} entries, no index yet", "s")
    run.results.add_row("mount.indexed", f"mount of {entries:,} entries, with index", "s")
    engines = [engine for engine in fusepkg.ENGINES if not fusepkg.why_not(engine)]
    run.results.skipped.update({one: fusepkg.why_not(one) for one in fusepkg.ENGINES if one not in engines})

    def measure(number: int) -> None:
        for engine in engines:
            with run.attempt(f"{engine}, mount"), run.place() as place:
                _time_mounts(run, engine, place, number, {"FUSEPKG_DATA_DIR": str(data)})

    return measure


def publish_synthetic(data: Path, entries: int, scratch: Path, tag: str = TAG) -> None:
    """Put a manifest of that many entries straight into the embedded registry, and tag it."""
    header = {"version": FORMAT_VERSION, "message": None}
    top_hash = TopHash(header)
    manifest = scratch / "synthetic.jsonl"
    keys = (f"d{number // FILES_PER_DIRECTORY:05}/image_{number:08}.jpg" for number in range(entries))
    with manifest.open("wb") as file:
        file.write(write_header(header))
        for key in sorted(keys, key=tree_sort_key):
            value = hashlib.sha256(key.encode()).digest()
            size = 1 + int.from_bytes(value[:4], "big") % 200_000
            physical = PhysicalKey("file", "", f"/nowhere/{key}")
            entry = Entry(key, physical, size, Digest(Algorithm.SHA2_256_CHUNKED, value))
            top_hash.update(entry)
            file.write(write_entry(entry))
    store = DirectoryStore(data / "local")
    put_manifest(store, NAME, top_hash.hexdigest(), manifest)
    move_tag(store, NAME, tag, top_hash.hexdigest(), None)
    manifest.unlink()


def _time_mounts(run: Run, engine: str, place: Path, number: int, settings: dict[str, str]) -> None:
    environ = fusepkg.environment(place, settings)
    reference = f"local/{NAME}:{TAG}"
    mount = partial(fusepkg.mounted, engine, reference, place / "mount", environ)
    for repeat in range(1 + INDEXED_MOUNTS):
        load = machine.load()
        with mount() as opened:
            row = "mount.new" if repeat == 0 else "mount.indexed"
            run.record(Sample(row=row, subject=engine, round=number, value=opened.mount_s, passes=[], load=load))
            record_memory(run, engine, Peak(opened.processes), number)
