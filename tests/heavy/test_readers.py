"""Polars, Dask, Zarr, xarray and Hugging Face's datasets read a package as they read the folder it came from."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest
from PIL import Image

from fusepkg.model.block_hashes import BLOCK_BYTES
from tests.command import Fusepkg, run_fusepkg
from tests.mount.places import surroundings
from tests.proxy import Proxy
from tests.published import registry as registry
from tests.rgw import Gateway

dd = pytest.importorskip("dask.dataframe", reason="Dask is not in this environment: make test-heavy")
pl = pytest.importorskip("polars", reason="Polars is not in this environment: make test-heavy")
zarr = pytest.importorskip("zarr", reason="Zarr is not in this environment: make test-heavy")
xarray = pytest.importorskip("xarray", reason="xarray is not in this environment: make test-heavy")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own
ROOT = "fusepkg://local/stacks:v1"
COLUMNS, ROWS = 20, 1_310_720
"""Of random 8-byte numbers: 210 MB, in which a column has 10.5 MB."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("stacks")
    folder = base / "stacks"
    folder.mkdir()
    frame = pd.DataFrame({"number": range(1000), "text": [f"row {n}" for n in range(1000)]})
    for part in range(3):
        frame.assign(part=part).to_parquet(folder / f"part{part}.parquet", index=False)
    frame.to_csv(folder / "table.csv", index=False)
    cube = xarray.Dataset({"warm": (("x", "y"), np.arange(10_000.0).reshape(100, 100))}, {"x": range(100)})
    cube.to_netcdf(folder / "cube.nc", engine="h5netcdf")
    for number in range(6):
        path = folder / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    cube.to_zarr(folder / "cube.zarr", encoding={"warm": {"chunks": (30, 30)}})
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        run_fusepkg("push", folder, "local/stacks:v1")
    return base


@pytest.fixture
def folder(published: Path) -> Path:
    """What ``local/stacks:v1`` was made of."""
    return published / "stacks"


def test_polars(folder: Path) -> None:
    with fsspec.open(f"{ROOT}/table.csv") as file:
        assert pl.read_csv(file).equals(pl.read_csv(folder / "table.csv"))
    dataset = pyarrow.dataset.dataset("local/stacks:v1/part1.parquet", filesystem=fsspec.filesystem("fusepkg"))
    ours = pl.scan_pyarrow_dataset(dataset).select("text").collect()
    assert ours.equals(pl.read_parquet(folder / "part1.parquet", columns=["text"]))


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask(folder: Path, scheduler: str) -> None:
    ours, theirs = (dd.read_parquet(f"{root}/*.parquet").groupby("part").number.sum() for root in (ROOT, folder))
    assert ours.compute(scheduler=scheduler).to_dict() == theirs.compute(scheduler="threads").to_dict()
    ours, theirs = (dd.read_csv(f"{root}/table.csv").number.sum() for root in (ROOT, folder))
    assert ours.compute(scheduler=scheduler) == theirs.compute(scheduler="threads")


def test_zarr(folder: Path) -> None:
    ours, theirs = (zarr.open_group(f"{root}/cube.zarr", mode="r")["warm"] for root in (ROOT, folder))
    assert (ours[10:50, 20:80] == theirs[10:50, 20:80]).all()


def test_xarray(folder: Path) -> None:
    ours, theirs = (xarray.open_zarr(f"{root}/cube.zarr") for root in (ROOT, folder))
    assert ours.equals(theirs)
    with fsspec.open(f"{ROOT}/cube.nc") as file:
        ours = xarray.open_dataset(file, engine="h5netcdf")
        assert ours.equals(xarray.open_dataset(folder / "cube.nc", engine="h5netcdf"))


@pytest.mark.parametrize(
    ("kind", "files"),
    [("parquet", "*.parquet"), ("csv", "table.csv"), ("imagefolder", "pictures/*/*.png")],
)
def test_hugging_face_datasets(folder: Path, tmp_path: Path, kind: str, files: str, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    datasets = pytest.importorskip("datasets", reason="datasets is not in this environment: make test-heavy")
    ours, theirs = (
        datasets.load_dataset(kind, data_files=f"{root}/{files}", split="train", cache_dir=tmp_path / name)
        for name, root in (("ours", ROOT), ("theirs", folder))
    )
    assert len(ours) > 5
    if kind == "imagefolder":
        assert ours.features["label"].names == ["cat", "dog"]
        assert [(one["label"], one["image"].tobytes()) for one in ours] == [
            (one["label"], one["image"].tobytes()) for one in theirs
        ]
    else:
        assert ours.to_pandas().equals(theirs.to_pandas())
    streamed = datasets.load_dataset(kind, data_files=f"{ROOT}/{files}", split="train", streaming=True)
    assert sum(1 for _ in streamed) == len(theirs)


@pytest.mark.s3
def test_a_column_of_a_parquet_file_of_210_mb(s3: Gateway, proxy: Proxy, fusepkg: Fusepkg, tmp_path: Path) -> None:
    table_folder, bucket = tmp_path / "table", s3.bucket()
    table_folder.mkdir()
    numbers, file = np.random.default_rng(1), table_folder / "t.parquet"
    table = pyarrow.table({f"c{n:02}": numbers.random(ROWS) for n in range(COLUMNS)})
    pyarrow.parquet.write_table(table, file, compression="none", use_dictionary=False)
    size = file.stat().st_size
    assert size > 200_000_000
    fusepkg("push", table_folder, f"{bucket}/table:v1")
    fs = fsspec.filesystem("fusepkg")
    assert fs.exists(f"fusepkg://{bucket}/table:v1/t.parquet")
    proxy.forget()
    read = pyarrow.parquet.read_table(f"{bucket}/table:v1/t.parquet", columns=["c07"], filesystem=fs)
    assert read.equals(table.select(["c07"]))
    data = [request for request in proxy.requests if request.key.startswith("table/t.parquet")]
    asked = {at for one in data for at in range(one.range[0] // BLOCK_BYTES, one.range[1] // BLOCK_BYTES + 1)}
    groups = pyarrow.parquet.read_metadata(file)
    columns = [groups.row_group(number).column(7) for number in range(groups.num_row_groups)]
    spans = [(one.data_page_offset, one.data_page_offset + one.total_compressed_size) for one in columns]
    parts = [*spans, (size - 65536, size)]  # PyArrow reads 64 KiB for the footer
    wanted = {at for start, end in parts for at in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES))}
    assert asked >= wanted
    column = sum(end - start for start, end in spans)
    assert sum(request.sent for request in proxy.requests) < 1.1 * column
    assert len(data) < 6
