"""Checking what lies in S3 asks for headers and footers only, and says how much it read."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from fusepkg.model.block_hashes import BLOCK_BYTES as BLOCK
from tests.command import Fusepkg
from tests.proxy import Proxy
from tests.rgw import Gateway

SPEC = """\
version: 1
files:
  - names: "*.png"
    count: 2
    pictures: {formats: [PNG], width: 64}
  - names: big.parquet
    table: {columns: {id: int64, data: binary}, rows: {min: 10}}
"""


@pytest.mark.s3
def test_a_check_in_a_bucket(s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path) -> None:
    folder, bucket = tmp_path / "task", s3.bucket()
    folder.mkdir()
    table = pa.table({"id": range(10), "data": [os.urandom(900_000) for _ in range(10)]})
    parquet.write_table(table, folder / "big.parquet", compression="none")
    for number in range(2):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(folder / f"{number}.png")
    fusepkg("push", folder, f"{bucket}/task:v1")
    (spec := tmp_path / "task.yaml").write_text(SPEC)
    proxy.forget()
    done = fusepkg("check", f"{bucket}/task:v1", "--spec", spec)
    assert "Looked into 3 of 3 files: read 6" in done.stderr
    size = (folder / "big.parquet").stat().st_size
    asked = {one.key: one.range for one in proxy.requests if one.key.startswith("task/")}
    assert sorted(asked) == ["task/0.png", "task/1.png", "task/big.parquet"]
    footer = (size - BLOCK) // BLOCK * BLOCK
    assert asked["task/big.parquet"] == (footer, size - 1), "its footer lies in the last blocks"
    proxy.forget()
    spec.write_text(SPEC.replace("min: 10", "min: 11"))
    done = fusepkg("check", f"{bucket}/task:v1", "--spec", spec, check=False)
    assert (done.returncode, "task.yaml:7: big.parquet: has 10 rows, at least 11 wanted" in done.stdout) == (1, True)
    assert [one.key for one in proxy.requests if one.key.startswith("task/")] == []
