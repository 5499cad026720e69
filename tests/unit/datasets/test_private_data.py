"""The private-cloud JSON: what is understood, and what is refused line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusepkg.datasets.private_data import place_of, read_private_data
from fusepkg.errors import DataUnfit


def reasons(content: dict[str, Any]) -> dict[str, str]:
    found = read_private_data(content)
    assert found.lines == []
    return {line.where: line.reason for line in found.failed}


def test_all_kinds_are_read_in_order() -> None:
    found = read_private_data(
        {
            "image_groups": [
                {"title": "g", "createVideo": False, "objectUrl_10": "c", "objectUrl_2": "b", "objectUrl_0": "a"}
            ],
            "videos": [{"objectUrl": "v", "clientMetadata": {"x": 1}}],
            "dicom_series": [{"title": "d", "objectUrl_0": "s"}],
        }
    )
    assert found.failed == []
    assert [(line.where, list(line.urls), line.title, line.split) for line in found.lines] == [
        ("videos[0]", ["v"], None, True),
        ("image_groups[0]", ["a", "b", "c"], "g", False),
        ("dicom_series[0]", ["s"], "d", True),
    ]
    assert found.lines[0].client_metadata == {"x": 1}


def test_text_and_numbers_that_no_manifest_can_hold() -> None:
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"x": deep}
    lines = [{"clientMetadata": {"x": float("nan")}}, {"title": "\ud800"}, {"clientMetadata": deep}]
    assert list(reasons({"videos": [line | {"objectUrl": "v"} for line in lines]})) == [
        "videos[0]",
        "videos[1]",
        "videos[2]",
    ]


def test_wrong_lines_are_named() -> None:
    assert reasons(
        {
            "videos": ["v", {}, {"objectUrl": 3}, {"objectUrl": "v", "title": ""}, {"objectUrl_0": "v"}],
            "images": [{"objectUrl": "i", "clientMetadata": []}],
            "image_groups": [
                {"objectUrl_0": "a"},
                {"title": "t"},
                {"title": "t", "objectUrl_0": "a", "createVideo": 1},
            ],
        }
    ) == {
        "videos[0]": "not an object of JSON",
        "videos[1]": "no objectUrl",
        "videos[2]": "no objectUrl",
        "videos[3]": "title is not text",
        "videos[4]": "no objectUrl",
        "images[0]": "clientMetadata is not an object of JSON",
        "image_groups[0]": "no title, which rows of several files need",
        "image_groups[1]": "no objectUrl_0",
        "image_groups[2]": "createVideo is neither true nor false",
    }


@pytest.mark.parametrize("content", [[], {}, {"films": []}, {"videos": {}}, {"skip_duplicate_urls": True}])
def test_other_json_is_refused(content: Any, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataUnfit) as raised:
        read_private_data(file)
    assert "objectUrl" in raised.value.hint


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\udcff"])
def test_what_is_no_json(text: str, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataUnfit, match="is not JSON"):
        read_private_data(file)
    with pytest.raises(DataUnfit, match="cannot be read"):
        read_private_data(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket/a%20b.mp4", "s3://bucket/a%20b.mp4"),
        ("s3://bucket/a?versionId=3", "s3://bucket/a?versionId=3"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/dir/a%20b.mp4", "s3://bucket/dir/a%20b.mp4"),
        ("https://my.bucket.s3.amazonaws.com/a", "s3://my.bucket/a"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/dir/a", "s3://bucket/dir/a"),
        ("https://s3-eu-west-1.amazonaws.com/bucket/a", "s3://bucket/a"),
        ("http://127.0.0.1:8000/bucket/dir/a", "s3://bucket/dir/a"),
        ("file:///data/a.mp4", "file:///data/a.mp4"),
    ],
)
def test_addresses(url: str, place: str) -> None:
    assert str(place_of(url, "http://127.0.0.1:8000/")) == place


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.googleapis.com/bucket/a",
        "http://127.0.0.1:8001/bucket/a",
        "https://s3.amazonaws.com.example.com/bucket/a",
        "https://bucket.s3.amazonaws.com/",
        "s3://bucket",
        "gs://bucket/a",
        "a.mp4",
        "http://[",
        "",
    ],
)
def test_addresses_that_name_no_object(url: str) -> None:
    with pytest.raises(DataUnfit):
        place_of(url, "http://127.0.0.1:8000")
