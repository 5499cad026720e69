"""What is missing is said in one message, with the command that installs it."""

from __future__ import annotations

import runpy
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusepkg.dvc.files import parse_yaml
from fusepkg.errors import MissingExtra
from fusepkg.pool.embedders import open_embedder
from fusepkg.transforms.executors import find_workers

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def _installs(extra: str) -> str:
    return rf'pip install "fusepkg\[{extra}\]"'


MODULES = [
    ("fsspec.spec", "fusepkg/fsspec/filesystem.py", "fsspec"),
    ("duckdb", "fusepkg/query/engine.py", "query"),
    ("pyarrow", "fusepkg/query/engine.py", "query"),
    ("PIL", "fusepkg/datasets/media.py", "datasets"),
    ("pydicom", "fusepkg/datasets/dicom.py", "datasets"),
    ("torch", "fusepkg/torch/__init__.py", "torch"),
    ("yaml", "fusepkg/schemas/libraries.py", "check"),
    ("re2", "fusepkg/schemas/libraries.py", "check"),
    ("PIL", "fusepkg/fit/pictures.py", "check"),
    ("pyarrow", "fusepkg/fit/tables.py", "check"),
    ("av", "fusepkg/pool/libraries.py", "pool"),
    ("PIL", "fusepkg/pool/libraries.py", "pool"),
    ("matplotlib", "fusepkg/pool/libraries.py", "pool"),
    ("prometheus_client", "fusepkg/metrics/exposition.py", "metrics"),
    ("opentelemetry.sdk.resources", "fusepkg/metrics/otlp.py", "otel"),
    ("grpc", "fusepkg/csi/libraries.py", "csi"),
    ("google.protobuf", "fusepkg/csi/libraries.py", "csi"),
]
"""Libraries, the module that asks for each, and the extra that brings it."""

CLUSTERS = {"dask": "distributed", "ray": "ray", "spark": "pyspark.sql"}


@pytest.mark.parametrize(("library", "module", "extra"), MODULES)
def test_a_missing_library(library: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=_installs(extra)):
        runpy.run_path(str(ROOT / module))


@pytest.mark.parametrize("executor", CLUSTERS)
def test_a_missing_cluster(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, CLUSTERS[executor], None)
    with closing(find_workers(executor, 1)) as workers, pytest.raises(MissingExtra, match=_installs(executor)):
        workers.executor.submit(int)


def test_a_missing_library_of_dvc_and_of_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    with pytest.raises(MissingExtra, match=_installs("dvc")):
        parse_yaml(b"outs: []", "data.dvc")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (model := tmp_path / "model.onnx").touch()
    with pytest.raises(MissingExtra, match=_installs("onnx")):
        open_embedder(SimpleNamespace(embedder=str(model), onnx=None))


def test_each_extra_is_missed_above() -> None:
    assert {extra for _, _, extra in MODULES} | {*CLUSTERS, "dvc", "onnx"} == set(EXTRAS) - {"all"}


def test_all_is_every_extra_and_each_has_its_row() -> None:
    (everything,) = EXTRAS["all"]
    assert everything == f"fusepkg[{','.join(sorted(extra for extra in EXTRAS if extra != 'all'))}]"
    page = (ROOT / "docs" / "reference" / "extras.md").read_text()
    assert [extra for extra in EXTRAS if extra != "all" and f"| `{extra}` |" not in page] == []
