"""Labels of a million pictures: searches, a thousand new labels, a mount of what is found, beside a plain scan.

``python -m bench.labels [LABELS] [FILE]`` prints seconds, those of this process's CPU, and the bytes that a change
uploads. The pictures are entries without bytes, which take no part in it. Mounting needs FUSE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.api.package import Package
from fusepkg.labels.documents import FINGERPRINT_FIELDS, make_labels
from fusepkg.labels.label_set import LabelSet
from fusepkg.labels.package import labels_of, open_labels, push_change
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import configure, current_context
from fusepkg.publish.draft.draft import Draft
from fusepkg.publish.push_manifest import push_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.labels.search import SearchResult

PICTURES = "local/cars:v1"
EVENTS = 50
WHERE = "event = 'event 7' AND label.label_speed = 1"
JSON_WHERE = "document ->> '$.event' = 'event 7' AND (document ->> '$.label.label_speed')::INT = 1"
NEW_LABELS = 1000


def _document(number: int) -> dict[str, Any]:
    return {
        "img_id": f"20200119T14-30-55-{number:09}",
        "file_name": f"{number:09}.jpg",
        "event": f"event {number % EVENTS}",
        "created_by": "car",
        "timestamp": "2020-01-19T14:30:55Z",
        "resolution": {"horizontal": 512, "vertical": 214},
        "nb_dir": 5,
        "label": {"label_direction": number % 5, "label_speed": number // EVENTS % 2, "raw_direction": number % 300},
        "car_setting": {"car": "patate", "version": 1, "computer": "Raspberry_Pi2", "camera": "Picam_v2"},
    }


def _publish_pictures(count: int) -> None:
    """Publish entries whose objects are not there."""
    reference = parse_reference(PICTURES)
    draft = Draft(reference, current_context().stores, tag=reference.tag)
    root = parse_physical_key(draft.stores.for_bucket(reference.bucket).url("cars/x")).readable[:-1]
    draft.add_stored([_picture(root, number) for number in range(count)])
    push_manifest(draft, packs=False)


def _picture(root: str, number: int) -> Entry:
    name, digest = f"{number:09}.jpg", Digest(Algorithm.SHA2_256, number.to_bytes(32, "big"))
    return Entry(name, parse_physical_key(f"{root}{name}"), 20_000, digest, {})


def _publish(numbers: range) -> int:
    """Publish labels of pictures; the bytes uploaded."""
    reference = labels_of(parse_reference(PICTURES))
    opened = open_labels(current_context(), reference, fields=None, must_exist=False)
    labels = make_labels(((str(number), _document(number)) for number in numbers), FINGERPRINT_FIELDS)
    before = _stored_bytes()
    push_change(opened, labels, (), None, about={})
    return _stored_bytes() - before


def _stored_bytes() -> int:
    root = Path(os.environ["FUSEPKG_DATA_DIR"]) / "local"
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file())


def _seconds(what: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Return seconds, and those of CPU, that something took, and what it gave."""
    began, began_cpu = time.perf_counter(), time.process_time()
    result = what()
    return (time.perf_counter() - began, time.process_time() - began_cpu), result


def _shown(seconds: tuple[float, float]) -> str:
    return f"{seconds[0]:.2f} s ({seconds[1]:.2f} s CPU)"


def _mount(cars: LabelSet, found: SearchResult, directory: Path) -> dict[str, Any]:
    """Mount what was found; how long that takes, what it uploads, and how long all names take then."""
    before = _stored_bytes()
    mounting_s, _ = _seconds(lambda: cars.mount(found, directory))
    try:
        listing_s, names = _seconds(lambda: os.listdir(directory))
        assert len(names) == len(found) + 1  # labels.json
        reading_s, labels = _seconds(lambda: json.loads((directory / "labels.json").read_bytes()))
        assert labels == found.documents
    finally:
        subprocess.run([sys.executable, "-m", "fusepkg", "umount", directory], check=True, capture_output=True)
    uploaded = _stored_bytes() - before
    return {"mount_s": mounting_s, "mount_uploaded": uploaded, "list_s": listing_s, "labels_json_s": reading_s}


def _plain_scan(lines: Path, count: int) -> tuple[tuple[float, float], int]:
    """Seconds and hits of DuckDB over the same documents as JSON Lines, on as many threads as ours has: one."""
    with lines.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(_document(number)) + "\n" for number in range(count))
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        sql = f"SELECT document FROM read_json_objects('{lines}') t(document) WHERE {JSON_WHERE}"
        seconds, rows = _seconds(lambda: connection.execute(sql).fetchall())
    return seconds, len(rows)


def measure(count: int, scratch: Path) -> dict[str, Any]:
    """Measure with that many labels, one a picture."""
    os.environ["FUSEPKG_DATA_DIR"] = f"{scratch}/data"
    os.environ["FUSEPKG_CACHE_DIR"] = f"{scratch}/cache"
    configure()
    _publish_pictures(count)
    stored = _publish(range(count))
    open_s, _ = _seconds(lambda: Package(PICTURES))
    cars = LabelSet(PICTURES)
    first_s, found = _seconds(lambda: cars.search(WHERE))
    again_s, _ = _seconds(lambda: cars.search(WHERE))
    mounted = _mount(cars, found, scratch / "hits")
    change_s, uploaded = _seconds(lambda: _publish(range(count, count + NEW_LABELS)))
    after_s, _ = _seconds(lambda: cars.search(WHERE))
    lines = scratch / "labels.jsonl"
    plain_s, hits = _plain_scan(lines, count)
    assert hits == found.labels
    return {
        "labels": count, "stored": stored, "json_lines": lines.stat().st_size, "hits": hits, "open_s": open_s,
        "first_s": first_s, "again_s": again_s, "change_s": change_s, "uploaded": uploaded, "after_s": after_s,
        **mounted, "plain_s": plain_s,
    }  # fmt: skip


def main(count: int, results: str | None) -> None:
    """Measure, print, and keep the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(count, Path(scratch))
    report = (
        f"labels: {count:,}, {found['stored'] / 1e6:.1f} MB stored, {found['json_lines'] / 1e6:.1f} MB as JSON Lines",
        f"search that finds {found['hits']:,}: first {_shown(found['first_s'])}, again {_shown(found['again_s'])}",
        f"{NEW_LABELS:,} new labels: {_shown(found['change_s'])}, {found['uploaded'] / 1e6:.2f} MB uploaded",
        f"search after it: {_shown(found['after_s'])}",
        f"first look at the pictures' version, whose index is made then: {_shown(found['open_s'])}",
        f"mount of the hits: {_shown(found['mount_s'])}, {found['mount_uploaded'] / 1e6:.2f} MB written",
        f"all names there: {_shown(found['list_s'])}, their labels.json: {_shown(found['labels_json_s'])}",
        f"DuckDB on the JSON Lines, one thread: {_shown(found['plain_s'])}",
    )
    sys.stdout.writelines(f"{line}\n" for line in report)
    if results:
        Path(results).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, sys.argv[2] if len(sys.argv) > 2 else None)
