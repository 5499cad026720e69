"""A recorded session: pictures in a directory, one file of labels, and what all of them have in common."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fusepkg.errors import LabelsUnfit
from fusepkg.labels.documents import FINGERPRINT_FIELDS, make_labels, read_documents, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fusepkg.labels.documents import Label

LABELS, SESSION, HARDWARE = "labels.json", "session_template.json", "hardware_conf.json"
"""Files of a session's directory; the last two need not be there."""

HARDWARE_FIELD = "car_setting"
"""What the hardware file holds becomes this field of each label."""


def read_session(
    directory: Path,
    fields: Iterable[str],
    *,
    labels: Path | None = None,
    hardware: Path | None = None,
    bucket: str = "",
    now: datetime | None = None,
) -> list[Label]:
    """Return the labels of a session, with its template and its hardware merged in.

    What a label says of itself counts before what the template says of all. Empty fields that nobody can know before
    (``upload_date``, ``s3_bucket``) are filled in. Raises LabelsUnfit.
    """
    if not directory.is_dir():
        raise LabelsUnfit(f"{directory} is not a directory", hint="Name the one that the pictures were recorded in")
    source = labels or directory / LABELS
    common = read_object(directory / SESSION) if (directory / SESSION).is_file() else {}
    place = hardware or directory / HARDWARE
    if hardware is not None or place.is_file():
        common = {**common, HARDWARE_FIELD: read_object(place)}
    filled = {"upload_date": (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"), "s3_bucket": bucket}

    def merged() -> Iterator[tuple[str, Any]]:
        for where, document in read_documents(source):
            if not isinstance(document, dict):
                yield where, document
                continue
            whole = {**common, **document}
            yield where, whole | {name: value for name, value in filled.items() if value and not whole.get(name)}

    found = make_labels(merged(), fields)
    if not found:
        raise LabelsUnfit(f"{source} holds no labels")
    return found


def template() -> str:
    """Return a label with every field that a session's labels have, as JSON."""
    document = {
        "img_id": "20200119T14-30-55-123456",
        "file_name": "20200119T14-30-55-123456.jpg",
        "event": "",
        "created_by": "",
        "timestamp": "2020-01-19T14:30:55Z",
        "raw": True,
        "color": "rgb",
        "resolution": {"horizontal": 0, "vertical": 0},
        "nb_dir": 5,
        "nb_speed": 3,
        "label": {"label_direction": 0, "label_speed": 0, "raw_direction": 0, "raw_speed": 0},
        "transformation": [],
        HARDWARE_FIELD: {"car": "", "version": 1, "computer": "", "camera": ""},
        "s3_bucket": "",
        "upload_date": "",
    }
    (label,) = make_labels([("the template", document)], FINGERPRINT_FIELDS)
    return json.dumps(label.document, indent=2) + "\n"
