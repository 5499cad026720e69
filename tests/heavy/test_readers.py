"""Polars, Dask, Zarr and xarray read a package as they read the folder it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest

from fusepkg.fsspec.filesystem import PackageFileSystem
from fusepkg.fsspec.versions import forget_versions
from fusepkg.opened.contexts import close_contexts
from tests.command import run_fusepkg
from tests.mount.places import surroundings

dd = pytest.importorskip("dask.dataframe", reason="Dask is not in this environment: make test-heavy")
pl = pytest.importorskip("polars", reason="Polars is not in this environment: make test-heavy")
zarr = pytest.importorskip("zarr", reason="Zarr is not in this environment: make test-heavy")
xarray = pytest.importorskip("xarray", reason="xarray is not in this environment: make test-heavy")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own
ROOT = "fusepkg://local/stacks:v1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("stacks")
    folder = base / "stacks"
    folder.mkdir()
    frame = pd.DataFrame({"number": range(1000), "text": [f"row {n}" for n in range(1000)]})
    for part in range(3):
        frame.assign(part=part).to_parquet(folder / f"part{part}.parquet", index=False)
    frame.to_csv(folder / "table.csv", index=False)
    cube = xarray.Dataset({"warm": (("x", "y"), np.arange(10_000.0).reshape(100, 100))}, {"x": range(100)})
    cube.to_zarr(folder / "cube.zarr", encoding={"warm": {"chunks": (30, 30)}})
    with surroundings(base / "publisher", {"FUSEPKG_DATA_DIR": str(base / "data")}):
        run_fusepkg("push", folder, "local/stacks:v1")
    return folder


@pytest.fixture(autouse=True)
def _registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(folder.parent / "data"))
    yield
    PackageFileSystem.clear_instance_cache()
    forget_versions()
    close_contexts()


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


def test_zarr(folder: Path) -> None:
    ours, theirs = (zarr.open_group(f"{root}/cube.zarr", mode="r")["warm"] for root in (ROOT, folder))
    assert (ours[10:50, 20:80] == theirs[10:50, 20:80]).all()


def test_xarray(folder: Path) -> None:
    ours, theirs = (xarray.open_zarr(f"{root}/cube.zarr") for root in (ROOT, folder))
    assert ours.equals(theirs)
