"""What of a transform is done: records in the bucket, from which a repeat goes on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.errors import FusepkgError, ObjectExists
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.publish.upload.many import is_new_directory
from fusepkg.registry.layout import TRANSFORMS
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.store.protocol import ObjectStore

FORMAT = 1

_READ_THREADS = 16
"""Records read at a time: latency only."""


def records_prefix(name: str, prefix: str, version: str) -> str:
    """Return where the records of one transform lie: of a function's version, for one package and place of data."""
    said = hashlib.sha256(json.dumps([name, prefix, version]).encode()).hexdigest()
    return f"{TRANSFORMS}{said[:32]}/"


def write_record(store: ObjectStore, below: str, done: Mapping[str, tuple[Entry, ...]]) -> None:
    """Say what came of some parts. Raises what stores raise."""
    said = {"format": FORMAT, "done": {key: [_written(entry) for entry in entries] for key, entries in done.items()}}
    data = json.dumps(said, sort_keys=True).encode()
    try:
        store.create(f"{below}{hashlib.sha256(data).hexdigest()[:32]}.json", data)
    except ObjectExists:
        return  # the same words: their hash is the name


def read_records(store: ObjectStore, below: str) -> dict[str, tuple[Entry, ...]]:
    """Return what came of each part that is done, by its name. A record that makes no sense is passed over.

    Raises what stores raise.
    """
    found: dict[str, tuple[Entry, ...]] = {}
    if is_new_directory(store):
        return found
    keys = [info.key for info in store.list(below)]
    run_threads(
        lambda key: _parsed(store.get(key)),
        keys,
        found.update,
        threads=_READ_THREADS,
        name="fusepkg-records",
        stop=StopFlag(),
    )
    return found


def _written(entry: Entry) -> dict[str, Any]:
    return {
        "logical_key": entry.logical_key,
        "physical_key": str(entry.physical_key),
        "size": entry.size,
        "algorithm": entry.digest.algorithm.value,
        "digest": entry.digest.hex,
        "meta": dict(entry.meta),
    }


def _parsed(data: bytes) -> dict[str, tuple[Entry, ...]]:
    try:
        said = json.loads(data)
        if said["format"] != FORMAT:
            return {}
        return {str(key): tuple(map(_entry, entries)) for key, entries in said["done"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FusepkgError):
        return {}


def _entry(said: dict[str, Any]) -> Entry:
    digest = Digest(Algorithm(said["algorithm"]), bytes.fromhex(said["digest"]))
    if not isinstance(said["meta"], dict):
        raise TypeError("metadata are an object")
    place = parse_physical_key(said["physical_key"])
    return Entry(str(said["logical_key"]), place, int(said["size"]), digest, said["meta"])
