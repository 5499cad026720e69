"""What is a label, and what is refused at the door, named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.errors import LabelsUnfit
from fusepkg.labels.documents import (
    FINGERPRINT_FIELDS,
    fingerprint_of,
    make_labels,
    read_documents,
    refuse_doubles,
)

LABEL = {"img_id": "a1", "file_name": "a1.jpg", "label": {"label_speed": 1}}


def refusal(document: object) -> str:
    with pytest.raises(LabelsUnfit) as raised:
        make_labels([("here", document)], FINGERPRINT_FIELDS)
    return raised.value.message


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"img_id": None}, "no img_id"),
        ({"img_id": 7}, "img_id 7 is not text"),
        ({"img_id": ""}, "no img_id"),
        ({"file_name": 3}, "file_name is not text"),
        ({"file_name": "../a.jpg"}, "has the part '..'"),
        ({"file_name": "/a.jpg"}, "is absolute"),
        ({"score": float("nan")}, "nan is no number of JSON"),
        ({"deep": nested(1000)}, "within each other"),
        ({"to_delete": "yes"}, "neither true nor false"),
        ({"label_fingerprint": 5}, "label_fingerprint is not text"),
        ({"event": "a\0b"}, "holds a character that is no text"),
        ({"event": "\ud800"}, "holds a character that is no text"),
    ],
)
def test_what_is_no_label_is_named_with_its_place(change: dict[str, object], reason: str) -> None:
    message = refusal(LABEL | change)
    assert message.startswith("labels that will not do: here: ")
    assert reason in message


def test_all_that_will_not_do_are_named_at_once() -> None:
    with pytest.raises(LabelsUnfit, match=r"1: no img_id; 3: not a JSON object"):
        make_labels([("1", {}), ("2", LABEL), ("3", [])], FINGERPRINT_FIELDS)


def test_a_field_is_that_at_the_top_or_that_of_the_object_label() -> None:
    at_top, below = {"img_id": "a", "label_speed": 1}, {"img_id": "a", "label": {"label_speed": 1}}
    assert fingerprint_of(at_top, FINGERPRINT_FIELDS) == fingerprint_of(below, FINGERPRINT_FIELDS)
    assert fingerprint_of(below, ["img_id", "label.label_speed"]) != fingerprint_of(below, ["img_id"])


values = st.none() | st.integers(-3, 3) | st.sampled_from(["", "me", "1"])


@given(st.fixed_dictionaries(dict.fromkeys(FINGERPRINT_FIELDS, values)), st.dictionaries(st.text(), values))
def test_a_fingerprint_depends_on_its_fields_and_nothing_else(fields: dict[str, object], rest: dict[str, object]):
    others = {name: value for name, value in rest.items() if name not in (*fields, "label")}
    whole = others | fields
    shuffled = dict(reversed(whole.items()))
    first = fingerprint_of(whole, FINGERPRINT_FIELDS)
    assert len(first) == 32
    assert fingerprint_of(shuffled, FINGERPRINT_FIELDS) == first
    for name in FINGERPRINT_FIELDS:
        assert fingerprint_of(whole | {name: "another"}, FINGERPRINT_FIELDS) != first


def test_two_of_one_fingerprint_are_named() -> None:
    labels = make_labels([("first", LABEL), ("second", LABEL | {"event": "other"})], FINGERPRINT_FIELDS)
    with pytest.raises(LabelsUnfit, match="second is first again"):
        refuse_doubles(labels)


@pytest.mark.parametrize(
    ("text", "wheres"),
    [
        (json.dumps({"a1": {"label": 1}, "a2": [{}, {}]}), ["'a1'", "'a2'", "'a2'"]),
        (json.dumps([{"img_id": "a1"}, {"img_id": "a2"}]), ["label 1", "label 2"]),
        ('{"img_id": "a1"}\n\n{"img_id": "a2"}\n', ["line 1", "line 3"]),
        ('{"img_id": "a1"}', [""]),
        ("\ufeff[]", []),
    ],
)
def test_files_of_labels_have_three_forms(tmp_path: Path, text: str, wheres: list[str]) -> None:
    file = tmp_path / "labels.json"
    file.write_text(text)
    found = list(read_documents(file))
    assert [where.removeprefix("labels.json").strip() for where, _ in found] == wheres
    assert [document["img_id"] for _, document in found] == ["a1", "a2", "a2"][: len(found)] or text[0] != "{"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": {}, "a": {}}', "'a' stands there twice"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"7", "holds 7, not labels"),
        (b'{"img_id": "a"}\n{"img_id": \n', "line 2 is not JSON"),
        (b'{"a1": {"img_id": "a2"}}', "the label is of 'a2'"),
    ],
)
def test_files_that_hold_no_labels_are_named(tmp_path: Path, data: bytes, reason: str) -> None:
    file = tmp_path / "labels.json"
    file.write_bytes(data)
    with pytest.raises(LabelsUnfit) as raised:
        list(read_documents(file))
    assert reason in raised.value.message
