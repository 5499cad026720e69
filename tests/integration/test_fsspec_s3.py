"""What reading through fsspec asks of the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fusepkg.fsspec.filesystem import PackageFileSystem
from fusepkg.model.block_hashes import BLOCK_BYTES
from fusepkg.opened.contexts import close_contexts
from tests import trees
from tests.command import Fusepkg
from tests.proxy import Proxy, Stall
from tests.rgw import Gateway

COLUMNS, ROWS = 8, 400_000
"""Of random 8-byte numbers: 25.6 MB, in which a column has 3.2 MB."""

CHUNK = 8 << 20


@pytest.fixture
def fs(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageFileSystem]:
    monkeypatch.setattr("fusepkg.fetch.blocks.HASHES_WAIT_S", 600.0)  # on a busy machine nothing is asked for twice
    monkeypatch.setattr("fusepkg.fetch.pipeline.AGAIN_S", 600.0)
    fs = PackageFileSystem()
    fs.invalidate_cache()
    yield fs
    fs.clear_instance_cache()
    close_contexts()


@dataclass(frozen=True)
class Table:
    """A Parquet file in a bucket, pushed as anybody does (``v1``) and without block hashes (``chunks``)."""

    bucket: str
    table: pa.Table
    file: Path

    def span(self, column: int) -> tuple[int, int]:
        """Where in the file a column lies."""
        groups = pa.parquet.read_metadata(self.file)
        assert groups.num_row_groups == 1
        found = groups.row_group(0).column(column)
        return found.data_page_offset, found.data_page_offset + found.total_compressed_size


@pytest.fixture
def table(s3: Gateway, fusepkg: Fusepkg, tmp_path: Path) -> Table:
    folder, bucket = tmp_path / "table", s3.bucket()
    folder.mkdir()
    numbers = np.random.default_rng(1)
    table = pa.table({f"c{n}": numbers.random(ROWS) for n in range(COLUMNS)})
    file = folder / "t.parquet"
    pa.parquet.write_table(table, file, compression="none", use_dictionary=False)
    assert 3 * CHUNK < file.stat().st_size < 4 * CHUNK
    fusepkg("push", folder, f"{bucket}/table:v1")
    fusepkg("push", folder, f"{bucket}/table:chunks", "--no-block-hashes")
    return Table(bucket, table, file)


@pytest.mark.s3
@pytest.mark.parametrize("column", [0, 4, COLUMNS - 1])
def test_a_parquet_column_costs_the_footer_and_the_columns_ranges(
    table: Table, proxy: Proxy, fs: PackageFileSystem, column: int
) -> None:
    assert fs.exists(f"fusepkg://{table.bucket}/table:v1/t.parquet")
    proxy.forget()
    name, size = f"c{column}", table.file.stat().st_size
    read = pa.parquet.read_table(f"{table.bucket}/table:v1/t.parquet", columns=[name], filesystem=fs)
    assert read.equals(table.table.select([name]))
    data = [request for request in proxy.requests if request.key == "table/t.parquet"]
    first, end = table.span(column)
    blocks = range(first // BLOCK_BYTES * BLOCK_BYTES, min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, size))
    asked = {at for one in data for at in range(one.range[0] // BLOCK_BYTES, one.range[1] // BLOCK_BYTES + 1)}
    wanted = {at // BLOCK_BYTES for at in blocks} | {at // BLOCK_BYTES for at in (size - 65536, size - 1)}
    assert asked == wanted, "the blocks of the column, and of the 64 KiB that PyArrow reads for the footer"
    assert len(data) == 2
    assert sum(request.sent for request in data) <= 1.1 * (end - first) + 2 * BLOCK_BYTES
    lists = [request for request in proxy.requests if request not in data]
    assert [request.key[:14] for request in lists] == [".quilt/blocks/"] * 2, "its head, and the rest"
    assert sum(request.sent for request in lists) < size / 2000
    proxy.forget()
    again = pa.parquet.read_table(f"{table.bucket}/table:v1/t.parquet", columns=[name], filesystem=fs)
    assert again.equals(read)
    assert proxy.requests == []


@pytest.mark.s3
def test_without_block_hashes_a_parquet_column_costs_verified_chunks(
    table: Table, proxy: Proxy, fs: PackageFileSystem
) -> None:
    assert fs.exists(f"fusepkg://{table.bucket}/table:chunks/t.parquet")
    size = table.file.stat().st_size
    proxy.forget()
    read = pa.parquet.read_table(f"{table.bucket}/table:chunks/t.parquet", columns=["c0"], filesystem=fs)
    assert read.equals(table.table.select(["c0"]))
    data = [request for request in proxy.requests if request.key == "table/t.parquet"]
    # The last chunk has the footer, the first one the column; beside them the list of the chunks' hashes.
    assert sorted(request.range for request in data) == [(0, CHUNK - 1), (3 * CHUNK, size - 1)]
    assert sum(request.sent for request in data) == size - 2 * CHUNK
    assert [request.key.startswith(".quilt/chunks/") for request in proxy.requests if request not in data] == [True]


@pytest.mark.s3
def test_ranges_of_a_batch_that_lie_side_by_side_are_one_request(
    table: Table, proxy: Proxy, fs: PackageFileSystem
) -> None:
    path, start = f"{table.bucket}/table:v1/t.parquet", CHUNK - 3 * BLOCK_BYTES
    assert fs.exists(path)
    proxy.forget()
    starts = [start + 10_000 * number for number in range(60)]
    found = fs.cat_ranges([path] * 60, starts, [at + 10_000 for at in starts])
    with table.file.open("rb") as file:
        file.seek(start)
        assert b"".join(found) == file.read(600_000)
    data = [request for request in proxy.requests if request.key == "table/t.parquet"]
    assert [request.range for request in data] == [(start, start + 10 * BLOCK_BYTES - 1)]


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
