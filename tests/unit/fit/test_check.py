"""Each thing that is wrong is told once, with the line that asks for it; what fits is told so without reading it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from fusepkg import Package, PackageBuilder
from fusepkg.errors import SpecInvalid
from fusepkg.fit.check import Report, check_package
from fusepkg.fit.infer import infer_spec
from fusepkg.fit.spec import read_task
from tests.command import Fusepkg

WHOLE = """\
version: 1
others: false
meta: {type: object, required: [source]}
files:
  - matching: "(?P<split>train|val)/images/(?P<path>.*)\\\\.jpg"
    count: {min: 12}
    pair: "{split}/labels/{path}.json"
    pictures: {formats: [JPEG], modes: [RGB], width: 64, height: {max: 48}, channels: 3}
    meta: {type: object, required: [camera]}
  - names: "**/labels/**"
    json: {type: object, required: [label], properties: {label: {type: string}}}
  - names: "*.parquet"
    table: {columns: {id: int64, label: string}, others: false, rows: {min: 12}}
  - names: scores.csv
    table: {columns: {id: integer, score: number, day: date}, rows: 2}
  - names: lines.jsonl
    json: {type: object, required: [id]}
classes:
  - names: "train/images/**"
    by: directory
    expected: [circle, square]
    each: {min: 2}
    ratio: 1.4
  - table: index.parquet
    column: label
    each: 6
  - names: "**/images/**"
    by: meta.camera
    each: {min: 4}
splits:
  parts: {train: "train/images/**", val: "val/images/**"}
  share: {val: {min: 0.2, max: 0.4}}
  apart: [content, stem, meta.car]
"""


def check(package: Package, text: str, **options: int) -> Report:
    return check_package(package, read_task(text.encode(), "task.yaml"), **options)


def told(report: Report) -> list[str]:
    return [f"{problem.line}: {problem}" for problem in report.problems]


def test_what_fits_is_told_so_and_how_little_was_read(good: Package) -> None:
    report = check(good, WHOLE)
    assert told(report) == []
    assert report.fits
    assert report.looked_into == 12 + 12 + 3
    assert 0 < report.read_bytes < 2 * good.size  # index.parquet was looked into twice


def test_a_large_table_costs_its_footer(tmp_path: Path) -> None:
    table = pa.table({"id": range(10), "data": [os.urandom(2_500_000) for _ in range(10)]})
    parquet.write_table(table, tmp_path / "big.parquet", compression="none")
    builder = PackageBuilder("local/big", quiet=True).set("big.parquet", tmp_path / "big.parquet")
    report = check(
        builder.push_data_and_manifest(tag="v1"),
        "version: 1\nfiles: [{names: big.parquet, table: {columns: {id: integer, data: binary}, rows: 10}}]",
    )
    assert told(report) == []
    assert report.read_bytes < 200_000
    assert report.fetched_bytes < 9_000_000 < report.total_bytes  # one chunk, the last


def test_each_thing_that_is_wrong_names_its_file_and_its_line(bad: Package) -> None:
    assert told(check(bad, WHOLE)) == [
        "9: train/images/circle/900.jpg: metadata $: 'camera' is a required property",
        "9: train/images/circle/901.jpg: metadata $: 'camera' is a required property",
        "9: val/images/circle/902.jpg: metadata $: 'camera' is a required property",
        "7: train/images/circle/900.jpg: has no train/labels/circle/900.json",
        "8: train/images/circle/900.jpg: has mode L, not RGB",
        "8: train/images/circle/900.jpg: width is 10 pixels, not 64",
        "8: train/images/circle/900.jpg: height is 900 pixels, at most 48 wanted",
        "8: train/images/circle/900.jpg: 1 channel, not 3",
        "8: train/images/circle/901.jpg: is no picture",
        "11: train/labels/circle/001.json: $.label: 7 is not of type 'string'",
        "11: train/labels/circle/901.json: is not JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "23: classes are not balanced: 6 of 'circle' and 4 of 'square': more than 1.4 to 1",
        "28: train/images/circle/900.jpg: has no class: nothing at meta.camera",
        "28: train/images/circle/901.jpg: has no class: nothing at meta.camera",
        "28: val/images/circle/902.jpg: has no class: nothing at meta.camera",
        "33: val/images/circle/902.jpg: val leaks into train: the same bytes as train/images/circle/001.jpg",
    ]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('files: [{names: "*.gif"}]', "2: *.gif: no such file"),
        ('files: [{names: "*.gif", count: 3}]', "2: *.gif: 0 files, not 3"),
        ('files: [{names: "*.parquet", table: {columns: {id: string}}}]', "2: index.parquet: column 'id' is integer, "
         "not string"),
        ('files: [{names: "*.parquet", table: {columns: {name: any}}}]', "2: index.parquet: has no column 'name'"),
        ('files: [{names: "*.parquet", table: {columns: {id: any}, others: false}}]',
         "2: index.parquet: has other columns: 'label'"),
        ('files: [{names: "*.csv", table: {columns: {score: integer}}}]',
         "2: scores.csv: column 'score' is number, not integer"),
        ('files: [{names: "*.csv", table: {rows: {min: 9}}}]', "2: scores.csv: has 2 rows, at least 9 wanted"),
        ('files: [{names: "lines.jsonl", json: {required: [key]}}]', "2: lines.jsonl: line 1: $: 'key' is a required "
         "property"),
        ('files: [{names: "*.jsonl", size: {min: 99}}]', "2: lines.jsonl: 20 bytes, at least 99 wanted"),
        ('classes: [{names: "train/images/**", by: directory, expected: [circle, star]}]',
         "2: class 'star': no sample"),
        ("classes: [{table: scores.csv, column: label}]", "2: scores.csv: has no column 'label'"),
        ("classes: [{table: none.csv, column: label}]", "2: none.csv: is not there"),
        ("splits: {parts: {all: 'train/images/**', circles: '**/circle/*.jpg'}}",
         "2: train/images/circle/001.jpg: is in all and circles"),
        ("splits: {parts: {train: 'train/**', test: 'test/**'}}", "2: test holds no file"),
        ("splits: {parts: {train: 'train/**', val: 'val/**'}, share: {val: {min: 0.5}}}",
         "2: val holds 0.333, at least 0.5 wanted of all files"),
        ("splits: {parts: {train: 'train/images/**', val: 'val/images/**'}, apart: [meta.camera]}",
         "2: val/images/circle/009.jpg: val leaks into train: the same meta.camera as train/images/circle/003.jpg"),
        ("meta: {required: [licence]}", "2: metadata $: 'licence' is a required property"),
    ],
)  # fmt: skip
def test_one_rule(rule: str, said: str, good: Package) -> None:
    assert told(check(good, f"version: 1\n{rule}"))[0] == said


def test_a_sample_looks_into_so_many(good: Package) -> None:
    text = 'version: 1\nfiles: [{names: "*.jpg", pictures: {modes: [RGB]}}]'
    assert check(good, text, sample=3).looked_into == 3
    with pytest.raises(SpecInvalid, match="a sample of 0"):
        check(good, text, sample=0)


def test_what_is_inferred_fits(good: Package) -> None:
    text = infer_spec(good)
    assert told(check(good, text)) == []
    for part in ("pair: val/labels/{path}.json", "RGB", "score: number", "apart:", "camera", "train: train/**/*.jpg"):
        assert part in text


def test_the_commands(fusepkg: Fusepkg, tmp_path: Path) -> None:
    spec = tmp_path / "task.yaml"
    fusepkg("spec", "infer", "local/shapes:v1", "-o", spec)
    done = fusepkg("check", "local/shapes:v1", "--spec", spec)
    assert done.stdout == f"local/shapes:v1 fits {spec}\n"
    assert "Looked into 26 of 27 files: read " in done.stderr
    done = fusepkg("check", "local/shapes:v2", "--spec", spec, "--json", check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["fits"] is False
    spec.write_text("version: 1\nfile: []\n")
    done = fusepkg("check", "local/shapes:v1", "--spec", spec, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"Error: {spec} line 2: unknown key 'file'")
