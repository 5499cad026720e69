"""The libraries that people read tables with, reading a package as they read a folder."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

from fusepkg.fsspec.filesystem import PackageFileSystem

ROWS = 1000
ROOT = "fusepkg://local/tables:v1"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table in two Parquet files below directories named for a column, and as CSV and JSON Lines."""
    folder = tmp_path_factory.mktemp("tables")
    frame = pd.DataFrame({"number": range(ROWS), "text": [f"row {n}" for n in range(ROWS)]})
    for split in ("test", "train"):
        (folder / f"split={split}").mkdir()
        frame.to_parquet(folder / f"split={split}" / "part.parquet", index=False)
    frame.to_csv(folder / "table.csv", index=False)
    frame.to_json(folder / "table.jsonl", orient="records", lines=True)
    return folder


@pytest.fixture(autouse=True)
def _pushed(tables: Path, tmp_path: Path, fusepkg, monkeypatch: pytest.MonkeyPatch, fs: PackageFileSystem) -> None:
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "data"))
    fusepkg("push", tables, "local/tables:v1")


def test_pandas(tables: Path) -> None:
    part = "split=train/part.parquet"
    assert pd.read_parquet(f"{ROOT}/{part}", columns=["text"]).equals(pd.read_parquet(tables / part, columns=["text"]))
    assert pd.read_csv(f"{ROOT}/table.csv").equals(pd.read_csv(tables / "table.csv"))
    assert pd.read_json(f"{ROOT}/table.jsonl", lines=True).equals(pd.read_json(tables / "table.jsonl", lines=True))
    with pytest.raises(OSError, match="never changes"):
        pd.DataFrame().to_csv(f"{ROOT}/new.csv")


def test_pyarrow_datasets(tables: Path, fs: PackageFileSystem) -> None:
    ours = pyarrow.dataset.dataset("local/tables:v1", filesystem=fs, partitioning="hive", exclude_invalid_files=True)
    theirs = pyarrow.dataset.dataset(tables, partitioning="hive", exclude_invalid_files=True)
    assert ours.to_table().equals(theirs.to_table())
    assert ours.to_table(filter=pyarrow.dataset.field("split") == "train").num_rows == ROWS
    assert pyarrow.parquet.read_table(f"{ROOT}/split=test/part.parquet", filesystem=fs).num_rows == ROWS


def test_duckdb(tables: Path, fs: PackageFileSystem) -> None:
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        for query in (
            "select split, sum(number) from read_parquet('{}/*/*.parquet', hive_partitioning=1) group by 1 order by 1",
            "select sum(number) from read_csv('{}/table.csv')",
            "select sum(number) from read_json('{}/table.jsonl')",
        ):
            ours, theirs = (connection.sql(query.format(root)).fetchall() for root in (ROOT, tables))
            assert ours == theirs
