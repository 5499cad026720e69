"""What reading through fsspec asks of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fusepkg.fsspec.filesystem import PackageFileSystem
from fusepkg.opened.contexts import close_contexts
from tests import trees
from tests.command import Fusepkg
from tests.proxy import Proxy, Stall
from tests.rgw import Gateway

COLUMNS, ROWS = 8, 400_000
"""Of random 8-byte numbers: 25.6 MB, in which a column has 3.2 MB."""

CHUNK = 8 << 20


@pytest.fixture
def fs() -> Iterator[PackageFileSystem]:
    fs = PackageFileSystem()
    fs.invalidate_cache()
    yield fs
    fs.clear_instance_cache()
    close_contexts()


@pytest.mark.s3
def test_a_parquet_column_costs_the_footer_and_the_columns_ranges(
    s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, fs: PackageFileSystem, tmp_path: Path
) -> None:
    folder, bucket = tmp_path / "table", s3.bucket()
    folder.mkdir()
    numbers = np.random.default_rng(1)
    table = pa.table({f"c{n}": numbers.random(ROWS) for n in range(COLUMNS)})
    pa.parquet.write_table(table, folder / "t.parquet", compression="none", use_dictionary=False)
    size = (folder / "t.parquet").stat().st_size
    assert 3 * CHUNK < size < 4 * CHUNK
    fusepkg("push", folder, f"{bucket}/table:v1")
    assert fs.exists(f"fusepkg://{bucket}/table:v1/t.parquet")
    proxy.forget()
    read = pa.parquet.read_table(f"{bucket}/table:v1/t.parquet", columns=["c0"], filesystem=fs)
    assert read.equals(table.select(["c0"]))
    data = [request for request in proxy.requests if request.key == "table/t.parquet"]
    # The last chunk has the footer, the first one the column; beside them the list of the chunks' hashes.
    assert sorted(request.range for request in data) == [(0, CHUNK - 1), (3 * CHUNK, size - 1)]
    assert sum(request.sent for request in data) == size - 2 * CHUNK
    assert [request.key.startswith(".quilt/chunks/") for request in proxy.requests if request not in data] == [True]
    proxy.forget()
    assert pa.parquet.read_table(f"{bucket}/table:v1/t.parquet", columns=["c0"], filesystem=fs).equals(read)
    assert proxy.requests == []


@pytest.mark.s3
def test_a_batch_is_fetched_side_by_side(
    s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, fs: PackageFileSystem, tmp_path: Path
) -> None:
    folder, bucket = trees.small(tmp_path / "small"), s3.bucket()
    fusepkg("push", folder, f"{bucket}/small:v1")
    wanted = sorted(path.relative_to(folder) for path in (folder / "train").rglob("*.bin"))
    assert len(fs.find(f"{bucket}/small:v1/train")) == len(wanted)
    proxy.forget()
    proxy.fail(Stall(), operation="GetObject", times=None)
    found: list[list[bytes]] = []
    paths = [f"{bucket}/small:v1/{path}" for path in wanted]
    reader = Thread(target=lambda: found.append(fs.cat_ranges(paths, 0, None)))
    reader.start()
    proxy.wait_for(len(wanted), operation="GetObject")  # all of them, although none has been answered
    proxy.heal()
    reader.join()
    assert found == [[(folder / path).read_bytes() for path in wanted]]
