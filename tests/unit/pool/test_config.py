"""pool.toml, and the call that says the same: what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fusepkg.errors import InvalidReference, UsageError
from fusepkg.pool.config import Selection, is_folder, is_prefix, read_config
from fusepkg.pool.fields import read_table, within
from fusepkg.pool.pool import Pool

GOOD = 'source = "videos/"\ntarget = "local/street"\n'


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "pool.toml"
    file.write_text(text)
    return read_config(file)


def test_names_of_files_are_beside_it(tmp_path: Path) -> None:
    text = 'source = ["data/videos", "./x", "s3://b/p", "bucket/name:v1", "/abs"]\ntarget = "local/street"\n'
    text += 'embedder = "m/model.onnx"\nmetadata = "classes.csv"\n[selection]\nn_samples = 3\n'
    found = read(tmp_path, text)
    assert found.sources == ["data/videos", f"{tmp_path}/x", "s3://b/p", "bucket/name:v1", "/abs"]
    assert (found.embedder, found.metadata) == (f"{tmp_path}/m/model.onnx", f"{tmp_path}/classes.csv")
    assert read(tmp_path, f"{GOOD}[selection]\nproportion = 0.5\n").sources == [f"{tmp_path}/videos"]


def test_kinds_of_sources() -> None:
    assert [is_folder(one) for one in ("videos", "a/b/", "/a", "~/a", "./a/b", "../a")] == [True] * 6
    assert [is_folder(one) for one in ("bucket/name", "bucket/ns/name:v1", "s3://b", "file:///r/name")] == [False] * 4
    assert is_prefix("s3://b/p/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source = = 1", r"pool\.toml is not TOML: .*line 1"),
        (GOOD, "it lacks the required field `selection`"),
        (f"{GOOD}[selection]\n", "selection says nothing of how many"),
        (f"{GOOD}[selection]\nmin_distanse = 1\n", r"it has the unknown field `min_distanse` - at `\$\.selection`"),
        (f"{GOOD}[selection]\nmin_distance = '1'\n", r"Expected `float \| null`, got `str` - at `\$\.selection"),
        (f"{GOOD}[selection]\nmin_distance = nan\n", "min_distance is nan"),
        (f"{GOOD}[selection]\nmin_distance = -1\n", "min_distance is -1"),
        (f"{GOOD}[selection]\nn_samples = 0\n", "n_samples is 0"),
        (f"{GOOD}[selection]\nproportion = 1.5\n", "proportion is 1.5"),
        (f"{GOOD}frames_per_second = 0\n[selection]\nn_samples = 1\n", "frames_per_second is 0"),
        (f"{GOOD}[selection]\nn_samples = 1\nthresholds = {{a = {{ge = 1}}}}\n", r"threshold of a has \['ge'\]"),
        (
            f"{GOOD}[selection]\nn_samples = 1\n[selection.balance]\nkey = 'c'\ntarget = {{a = 0.9, b = 0.2}}",
            "the shares",
        ),
        ('source = []\ntarget = "local/a"\n[selection]\nn_samples = 1\n', "source names nothing"),
        ('source = "a"\ntarget = "local/a@abcdef123"\n[selection]\nn_samples = 1\n', "names a version"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_in_a_call_too(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Pool: Expected `float \| null`, got `str`"):
        Pool("videos", "local/a", selection=Selection(min_distance="far"))  # type: ignore[arg-type]
    with pytest.raises(InvalidReference):
        Pool("videos", "street", selection=Selection(n_samples=1))
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        Pool.from_file(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="the source /nowhere is not a folder"):
        Pool("/nowhere", "local/a", selection=Selection(n_samples=1)).run()


def test_tables_of_metadata(tmp_path: Path) -> None:
    table = tmp_path / "classes.csv"
    table.write_text('filenames,class,speed,note\na.jpg,car,1.5,\n"b,c.jpg",bus,2,"wet, cold"\n')
    assert read_table(table) == {
        "a.jpg": {"class": "car", "speed": 1.5},
        "b,c.jpg": {"class": "bus", "speed": 2, "note": "wet, cold"},
    }
    for text, message in {"a\n": "line 1", "a,b\nx\n": "line 2: 1 columns", "a,b\nx,1\ny,1,2\n": "line 3"}.items():
        table.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_table(table)


def test_thresholds() -> None:
    fields = [{"a": 1}, {"a": 2.0, "b": 1}, {"a": 3}, {"a": "4"}, {"a": True}, {}]
    assert within(fields, {"a": {"gt": 1}}) == [1, 2]
    assert within(fields, {"a": {"gte": 1, "lt": 3}}) == [0, 1]
    assert within(fields, {"a": {"lte": 3}, "b": {"gte": 0}}) == [1]
    assert within(fields, {}) == list(range(6))
    assert within([], {"a": {"gt": 1}}) == []
    with pytest.raises(UsageError, match=r"no picture has a number 'c'.*\['a', 'b'\]"):
        within(fields, {"c": {"gt": 1}})
