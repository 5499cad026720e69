"""Segments: how many are merged, which columns they have, what does not fit together."""

from __future__ import annotations

import itertools
import random
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.errors import LabelsUnfit, QueryInvalid, UnsupportedFormat
from fusepkg.labels.documents import make_labels
from fusepkg.labels.search import condition_of
from fusepkg.labels.segments import (
    CHANGE,
    DOCUMENT,
    Segment,
    parse_segment,
    read_live,
    refuse_other_kinds,
    register_labels,
    to_merge,
    write_segment,
)
from fusepkg.query.engine import connect


def written(root: Path, number: int, *documents: dict[str, object]) -> Segment:
    labels = make_labels([(str(n), {"img_id": f"{number}-{n}"} | one) for n, one in enumerate(documents)], ["img_id"])
    segment = Segment(number, number, len(labels))
    place = root / segment.logical_key
    place.parent.mkdir(exist_ok=True)
    with connect() as connection:
        register_labels(connection, labels, number)
        write_segment(connection.sql(f"SELECT {CHANGE}, {DOCUMENT} FROM new_labels").to_arrow_table(), place)
    return segment


def rows_of(root: Path, segment: Segment) -> pa.Table:
    with connect() as connection:
        place = root / segment.logical_key
        return connection.sql(f"SELECT {CHANGE}, {DOCUMENT} FROM read_parquet('{place}')").to_arrow_table()


def live(root: Path, *segments: Segment) -> duckdb.DuckDBPyConnection:
    connection = connect()
    read_live(connection, str(root), segments, has_deleted=False)
    return connection


def test_fields_of_many_segments_are_columns_of_one_table(tmp_path: Path) -> None:
    segments = [
        written(tmp_path, 1, {"event": "a", "label": {"speed": 1}, "none": None, "tags": []}),
        written(tmp_path, 2, {"label": {"speed": 2.5, "direction": 3}, "Event": "same name", "tags": ["x"]}),
        written(tmp_path, 3, {"event": "b", "document": "ours wins", "fusepkg_change": 9}),
    ]
    with live(tmp_path, *segments) as connection:
        found = connection.sql(
            "SELECT img_id, event, label.speed, label.direction FROM labels ORDER BY img_id"
        ).fetchall()
        assert found == [("1-0", "a", 1.0, None), ("2-0", "same name", 2.5, 3), ("3-0", "b", None, None)]
        assert "none" not in connection.sql("SELECT * FROM labels").columns
        assert connection.execute(f"SELECT {DOCUMENT} FROM labels WHERE img_id = '3-0'").fetchone() == (
            '{"img_id":"3-0","event":"b","document":"ours wins","fusepkg_change":9,'
            '"label_fingerprint":"' + make_labels([("", {"img_id": "3-0"})], ["img_id"])[0].fingerprint + '"}',
        )


def test_a_field_is_an_object_in_all_labels_or_in_none(tmp_path: Path) -> None:
    first = written(tmp_path, 1, {"label": {"speed": {"now": 1}}})
    plain = written(tmp_path, 2, {"label": 7})
    deeper = written(tmp_path, 3, {"label": {"speed": [1]}})
    with live(tmp_path, first) as connection:
        with pytest.raises(LabelsUnfit, match=r"the field label holds plain values; .* objects"):
            refuse_other_kinds(connection, rows_of(tmp_path, plain))
        with pytest.raises(LabelsUnfit, match=r"the field label\.speed holds lists"):
            refuse_other_kinds(connection, rows_of(tmp_path, deeper))
        refuse_other_kinds(connection, rows_of(tmp_path, first))


def test_a_small_change_writes_little_again_and_segments_stay_few() -> None:
    random.seed(3)
    segments, rewritten, total = [Segment(0, 0, 1_000_000)], 0, 0
    for change in range(1, 500):
        rows = random.randint(1, 2000)
        merged = to_merge(segments, rows)
        old = segments[len(segments) - merged :]
        rewritten += sum(segment.rows for segment in old)
        total += rows
        first = old[0].first if old else change
        segments = [*segments[: len(segments) - merged], Segment(first, change, rows + sum(one.rows for one in old))]
        assert all(left.rows >= 4 * right.rows for left, right in itertools.pairwise(segments))
        assert len(segments) <= 12
    assert sum(segment.rows for segment in segments) == 1_000_000 + total
    assert rewritten < 1_000_000 + 12 * total  # the million once at most, each new one a few times


@pytest.mark.parametrize("meta", [{}, {"rows": -1}, {"rows": "7"}])
def test_a_segment_that_does_not_say_its_rows_is_refused(meta: dict[str, object]) -> None:
    with pytest.raises(UnsupportedFormat):
        parse_segment("labels/00000001-00000002.parquet", meta)
    assert parse_segment("README.md", meta) is None


engine = lru_cache(connect)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(texts.filter(bool), texts | st.integers(-(2**62), 2**62) | st.booleans())
def test_a_condition_in_json_compares_with_what_it_says_and_runs_nothing(name: str, value: object) -> None:
    part = name.replace(".", "_")
    quoted = '"' + part.replace('"', '""') + '"'
    kind = "VARCHAR" if isinstance(value, str) else "BOOLEAN" if isinstance(value, bool) else "HUGEINT"
    connection = engine()
    connection.execute(f"CREATE OR REPLACE TABLE t ({quoted} {kind})")
    connection.execute("INSERT INTO t VALUES (?)", [value])
    rows = connection.execute(f"SELECT count(*) FROM t WHERE {condition_of({part: value})}").fetchone()
    assert rows == (1,)


@pytest.mark.parametrize(
    "where",
    [
        {"": 1}, {"a..b": 1}, {"a": []}, {"a": {}}, {"a": {"foo": 1}}, {"a": {"gt": {}}}, {"a": [[1]]},
        {"a": {"exists": "no"}}, "a = 1) OR (1 = 1", "a = 1; DROP TABLE labels", "",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(where: str | dict[str, object]) -> None:
    with pytest.raises(QueryInvalid):
        condition_of(where)
