"""Labels of a million pictures: a search first and again, a thousand new labels, beside a scan of the same documents.

``python -m bench.labels [LABELS]`` prints seconds, the bytes that a change uploads, and ratios of this one run.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from fusepkg.labels.documents import FINGERPRINT_FIELDS, make_labels
from fusepkg.labels.label_set import LabelSet
from fusepkg.labels.package import labels_of, open_labels, push_change
from fusepkg.model.reference import parse_reference
from fusepkg.opened.contexts import configure, current_context

PICTURES = "local/cars"
WHERE = "event = 'event 7' AND label.label_speed = 1"
JSON_WHERE = "document ->> '$.event' = 'event 7' AND (document ->> '$.label.label_speed')::INT = 1"
NEW_LABELS = 1000


def _document(number: int) -> dict[str, Any]:
    return {
        "img_id": f"20200119T14-30-55-{number:09}",
        "file_name": f"{number:09}.jpg",
        "event": f"event {number % 50}",
        "created_by": "car",
        "timestamp": "2020-01-19T14:30:55Z",
        "resolution": {"horizontal": 512, "vertical": 214},
        "nb_dir": 5,
        "label": {"label_direction": number % 5, "label_speed": number % 3, "raw_direction": number % 300},
        "car_setting": {"car": "patate", "version": 1, "computer": "Raspberry_Pi2", "camera": "Picam_v2"},
    }


def _publish(numbers: range) -> int:
    """Publish labels without pictures, which take no part in this; the bytes uploaded."""
    reference = labels_of(parse_reference(PICTURES))
    opened = open_labels(current_context(), reference, fields=None, must_exist=False)
    labels = make_labels(((str(number), _document(number)) for number in numbers), FINGERPRINT_FIELDS)
    before = _stored_bytes()
    push_change(opened, labels, (), None, about={})
    return _stored_bytes() - before


def _stored_bytes() -> int:
    root = Path(os.environ["FUSEPKG_DATA_DIR"]) / "local"
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file())


def _seconds(what: Any) -> tuple[float, Any]:  # noqa: ANN401 - whatever it gives
    began = time.perf_counter()
    result = what()
    return time.perf_counter() - began, result


def main(count: int) -> None:
    """Measure with that many labels."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FUSEPKG_DATA_DIR"] = f"{scratch}/data"
        configure(cache_dir=f"{scratch}/cache")
        stored = _publish(range(count))
        cars = LabelSet(PICTURES)
        first_s, found = _seconds(lambda: cars.search(WHERE))
        again_s, _ = _seconds(lambda: cars.search(WHERE))
        change_s, uploaded = _seconds(lambda: _publish(range(count, count + NEW_LABELS)))
        lines = f"{scratch}/labels.jsonl"
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(_document(number)) + "\n" for number in range(count))
        source = f"read_json_objects('{lines}') t(document)"
        plain_s, rows = _seconds(lambda: duckdb.sql(f"SELECT document FROM {source} WHERE {JSON_WHERE}").fetchall())
        assert len(rows) == found.labels
        report = (
            f"labels: {count:,}, {stored / 1e6:.1f} MB stored, {os.path.getsize(lines) / 1e6:.1f} MB as JSON Lines",
            f"search that finds {found.labels:,}: first {first_s:.2f} s, again {again_s:.2f} s",
            f"DuckDB on the JSON Lines: {plain_s:.2f} s; ratio to ours again: {plain_s / again_s:.1f}",
            f"{NEW_LABELS:,} new labels: {change_s:.2f} s, {uploaded / 1e6:.2f} MB uploaded",
        )
        sys.stdout.writelines(f"{line}\n" for line in report)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
