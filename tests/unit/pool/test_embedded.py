"""Of what an interrupted run has left, everything that is whole is used, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepkg.errors import PoolUnfit
from fusepkg.pool.embedded import EmbeddedFrame, open_embedded

ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)


def fill(parent: Path) -> Path:
    with open_embedded(parent, "key") as (embedded, directory):
        embedded.add(("a.avi", "1"), [EmbeddedFrame(0, 0.0), EmbeddedFrame(1, 0.5)], ROWS[:2])
        embedded.add(("broken.avi", "2"), (), None, "no frames")
        embedded.add(("b.png", "3"), [EmbeddedFrame(measures={"width": 3})], ROWS[2:3])
    return directory


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    fill(tmp_path)
    with open_embedded(tmp_path, "key") as (embedded, _):
        assert list(embedded.records) == [("a.avi", "1"), ("broken.avi", "2"), ("b.png", "3")]
        assert embedded.records["broken.avi", "2"].wrong == "no frames"
        assert np.array_equal(embedded.vectors(), ROWS[:3])
        embedded.add(("c.png", "4"), [EmbeddedFrame()], ROWS[3:4])
        assert np.array_equal(embedded.vectors(), ROWS[:4])
        with pytest.raises(PoolUnfit, match=r"gives 3 numbers for d\.png, and gave 4 before"):
            embedded.add(("d.png", "5"), [EmbeddedFrame()], ROWS[4:5, :3])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_after_any_damage(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    parent = tmp_path_factory.mktemp("pools")
    directory = fill(parent)
    file = directory / data.draw(st.sampled_from(["records.jsonl", "vectors.f32"]))
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with open_embedded(parent, "key") as (embedded, _):
        assert len(embedded.vectors()) == sum(len(one.items) for one in embedded.records.values())
        whole = {("a.avi", "1"): 2, ("broken.avi", "2"): 0, ("b.png", "3"): 1}
        assert {key: len(one.items) for key, one in embedded.records.items()}.items() <= whole.items()
        for record in embedded.records.values():
            rows = embedded.vectors()[record.first : record.first + len(record.items)]
            assert np.array_equal(rows, ROWS[record.first : record.first + len(record.items)])
        embedded.add(("c.png", "4"), [EmbeddedFrame()], ROWS[5:6])
    with open_embedded(parent, "key") as (embedded, _):
        assert np.array_equal(embedded.vectors()[-1:], ROWS[5:6])


def test_one_process_at_a_time_and_what_is_old_goes(tmp_path: Path) -> None:
    directory = fill(tmp_path)
    old = time.time() - 40 * 86400
    os.utime(directory, (old, old))
    with open_embedded(tmp_path, "other") as (_, other):
        assert (other.is_dir(), directory.exists()) == (True, False)
        second = open_embedded(tmp_path, "other")
        with pytest.raises(PoolUnfit, match="another run of this pool"):
            second.__enter__()
