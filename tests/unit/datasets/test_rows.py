"""How rows and datasets are chosen, and what names become of titles."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.datasets.changes import _Names, _safe
from fusepkg.datasets.info import name_for
from fusepkg.datasets.rows import DataType, data_hash_of, is_like, kind_of, time_of
from fusepkg.errors import DataUnfit, UsageError
from fusepkg.model.logical_key import check_logical_key


@pytest.mark.parametrize(
    ("text", "pattern", "fits"),
    [
        ("Validation 1", "Validation%", True),
        ("validation 1", "Validation%", False),
        ("My Validation", "Validation%", False),
        ("a.c", "a_c", True),
        ("abc", "a.c", False),
        ("a\nb", "a%b", True),
        ("100%", "100\\%", True),
        ("1000", "100\\%", False),
        ("", "%", True),
        ("", "", True),
        ("a", "", False),
        ("a\\", "a\\", True),
        ("a" * 2000, "%a" * 20 + "%b", False),
    ],
)
def test_like(text: str, pattern: str, fits: bool) -> None:
    assert is_like(text, pattern) is fits


@given(st.text("ab%_.*\n", max_size=8), st.text("ab%_.*\n", max_size=6))
def test_like_is_what_sql_says(text: str, pattern: str) -> None:
    def fits(rest: str, form: str) -> bool:
        if not form:
            return not rest
        if form[0] == "%":
            return any(fits(rest[at:], form[1:]) for at in range(len(rest) + 1))
        return bool(rest) and form[0] in ("_", rest[0]) and fits(rest[1:], form[1:])

    assert is_like(text, pattern) is fits(text, pattern)


def test_times() -> None:
    assert time_of("2026-11-29", "x") == datetime(2026, 11, 29, tzinfo=UTC)
    assert time_of("2026-11-29T03:00:00Z", "x") == datetime(2026, 11, 29, 3, tzinfo=UTC)
    assert time_of(datetime(2026, 11, 29), "x") == datetime(2026, 11, 29, tzinfo=UTC)
    assert time_of(None, "x") is None
    with pytest.raises(UsageError, match="created_before is 'yesterday'"):
        time_of("yesterday", "created_before")
    with pytest.raises(UsageError, match="no kind of data"):
        kind_of("film")


def test_a_hash_says_what_is_added() -> None:
    first = data_hash_of(DataType.VIDEO, "a", ["x"])
    assert first == data_hash_of(DataType.VIDEO, "a", iter(["x"]))
    others = [
        data_hash_of(DataType.IMAGE, "a", ["x"]),
        data_hash_of(DataType.VIDEO, "b", ["x"]),
        data_hash_of(DataType.VIDEO, "a", ["y"]),
        data_hash_of(DataType.VIDEO, "a", ["x", "x"]),
    ]
    assert len({first, *others}) == 5


@given(st.text(max_size=200))
def test_any_title_becomes_a_name(title: str) -> None:
    check_logical_key(f"videos/{_safe(title)}")
    assert "/" not in _safe(title)


def test_names() -> None:
    names = _Names(["videos/a.mp4", "image_groups/drive/0000-1.jpg"])
    assert names.free("videos", "A.mp4") == "videos/A-2.mp4"
    assert names.free("videos", "A.mp4") == "videos/A-3.mp4"
    assert names.free("image_groups", "drive") == "image_groups/drive-2"
    assert names.free("videos", "b") == "videos/b"
    assert name_for("Example Title") == "example-title"
    assert name_for("Größe: 3/4") == "größe-3-4"
    assert re.fullmatch(r"[\w-][\w.-]*", name_for("..a..")) is not None
    with pytest.raises(DataUnfit, match="holds no letter"):
        name_for("!?")
