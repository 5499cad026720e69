"""What a label is: a JSON object about one picture, checked here before anything is made of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusepkg.errors import FusepkgError, LabelsUnfit
from fusepkg.model.logical_key import check_logical_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FINGERPRINT_FIELDS = ("img_id", "created_by", "label_direction", "label_speed", "nb_dir", "nb_speed")
"""What makes two labels the same, unless a set of labels names other fields."""

FINGERPRINT_DIGITS = 32

MAX_DEPTH = 64
"""Objects and lists within each other."""

MAX_FILE_BYTES = 1 << 30
"""Of a file of labels: it is read whole."""

_NAMED = 10
"""Labels that a message names, at most."""

_TO_DELETE = "to_delete"


@dataclass(frozen=True, slots=True)
class Label:
    """One label. ``document`` holds its fingerprint; ``stated`` is the one it came with, which may be an older one.

    ``where`` says where it was read, for messages.
    """

    fingerprint: str
    document: dict[str, Any]
    where: str
    stated: str | None = None
    to_delete: bool = False

    @property
    def img_id(self) -> str:
        """The picture's id."""
        return str(self.document["img_id"])

    @property
    def file_name(self) -> str | None:
        """The picture's logical key."""
        return self.document.get("file_name")

    @property
    def text(self) -> str:
        """The document as JSON."""
        return json.dumps(self.document, ensure_ascii=False, separators=(",", ":"))


def fingerprint_of(document: dict[str, Any], fields: Iterable[str]) -> str:
    """Return 32 hex digits of the SHA-256 of the fields' names and values, as canonical JSON.

    A field is looked up by its dotted name; one that is not at the top is that of the object ``label``.
    """
    values = {name: _value_of(document, name) for name in fields}
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _value_of(document: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON
    for start in (document, document.get("label")):
        value = start
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def make_labels(documents: Iterable[tuple[str, Any]], fields: Iterable[str]) -> list[Label]:
    """Check documents, each with a word on where it is. Raises LabelsUnfit, which names all that will not do."""
    fields, labels, wrong = tuple(fields), [], []
    for where, document in documents:
        reason = _unfit(document)
        if reason:
            wrong.append(f"{where}: {reason}")
            continue
        kept = {name: value for name, value in document.items() if name != _TO_DELETE}
        stated = kept.get("label_fingerprint")
        kept["label_fingerprint"] = fingerprint = fingerprint_of(kept, fields)
        labels.append(Label(fingerprint, kept, where, stated, document.get(_TO_DELETE) is True))
    if wrong:
        raise LabelsUnfit(named("labels that will not do", wrong), hint="Correct them; nothing was changed")
    return labels


def refuse_doubles(labels: Iterable[Label]) -> None:
    """Raise LabelsUnfit where two labels have one fingerprint."""
    first: dict[str, Label] = {}
    doubles = []
    for label in labels:
        other = first.setdefault(label.fingerprint, label)
        if other is not label:
            doubles.append(f"{label.where} is {other.where} again (fingerprint {label.fingerprint})")
    if doubles:
        raise LabelsUnfit(
            named("two labels of one fingerprint", doubles),
            hint="Leave one out, or let other fields make the difference (--fields)",
        )


def named(what: str, places: list[str]) -> str:
    """Return a message that names the first of many places."""
    rest = f", and {len(places) - _NAMED:,} more" if len(places) > _NAMED else ""
    return f"{what}: {'; '.join(places[:_NAMED])}{rest}"


def _unfit(document: Any) -> str | None:  # noqa: ANN401 - JSON
    """Say why a document is no label."""
    if not isinstance(document, dict):
        return "not a JSON object"
    img_id = document.get("img_id")
    if not isinstance(img_id, str) or not img_id:
        return "no img_id" if img_id in (None, "") else f"img_id {img_id!r} is not text"
    if not isinstance(document.get(_TO_DELETE, False), bool):
        return f"{_TO_DELETE} is neither true nor false"
    if not isinstance(document.get("label_fingerprint", ""), str | None):
        return "label_fingerprint is not text"
    name = document.get("file_name")
    if name is not None:
        if not isinstance(name, str):
            return "file_name is not text"
        try:
            check_logical_key(name)
        except FusepkgError as exc:
            return f"file_name {name!r}: {exc.message}"
    return _unfit_value(document)


def _unfit_value(document: Any) -> str | None:  # noqa: ANN401 - JSON
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return f"more than {MAX_DEPTH} objects and lists within each other"
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
                texts = list(value)
            elif isinstance(value, list):
                below += value
                texts = []
            else:
                texts = [value] if isinstance(value, str) else []
                if isinstance(value, float) and not math.isfinite(value):
                    return f"{value} is no number of JSON"
            for text in texts:
                if not text.isprintable() and ("\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text)):
                    return f"{text[:40]!r} holds a character that is no text"
        level = below
    return None


# --- files of labels ---


def read_documents(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the documents of a file: an object by ``img_id``, a list, or JSON Lines. Raises LabelsUnfit."""
    text = _read_text(path)
    try:
        whole = _loads(text)
    except ValueError as exc:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2:
            raise LabelsUnfit(f"{path} is not JSON: {exc}") from exc
        for number, line in lines:
            try:
                yield f"{path.name} line {number}", _loads(line)
            except ValueError as problem:
                raise LabelsUnfit(f"{path} line {number} is not JSON: {problem}") from problem
        return
    if isinstance(whole, list):
        yield from ((f"{path.name} label {number}", document) for number, document in enumerate(whole, 1))
    elif isinstance(whole, dict) and "img_id" in whole and not isinstance(whole["img_id"], dict | list):
        yield path.name, whole
    elif isinstance(whole, dict):
        yield from _by_img_id(path, whole)
    else:
        raise LabelsUnfit(f"{path} holds {whole!r:.40}, not labels", hint="Write an object of labels by img_id")


def _by_img_id(path: Path, whole: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for img_id, value in whole.items():
        for document in value if isinstance(value, list) else [value]:
            where = f"{path.name} {img_id!r}"
            if isinstance(document, dict) and document.get("img_id", img_id) != img_id:
                raise LabelsUnfit(f"{where}: the label is of {document['img_id']!r}")
            yield where, {"img_id": img_id, **document} if isinstance(document, dict) else document


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises LabelsUnfit."""
    try:
        found = _loads(_read_text(path))
    except ValueError as exc:
        raise LabelsUnfit(f"{path} is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise LabelsUnfit(f"{path} does not hold a JSON object")
    return found


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise LabelsUnfit(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB", hint="Add it in parts")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise LabelsUnfit(f"{path} is not UTF-8") from exc
    except OSError as exc:
        raise LabelsUnfit(f"{path} cannot be read: {exc.strerror or exc}") from exc


def _loads(text: str) -> Any:  # noqa: ANN401 - JSON
    """Parse JSON: no NaN, no name twice, no depth that ends in a stack. Raises ValueError."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            double, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise ValueError(f"{double!r} stands there twice")
        return found

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except RecursionError as exc:
        raise ValueError("objects and lists within each other by the hundred") from exc
