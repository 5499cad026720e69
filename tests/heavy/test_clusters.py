"""Transforms run on Dask, Ray and Spark, in clusters on this machine, and give the same version as threads do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts
from tests.unit.transforms.functions import doubled

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

COUNT = 60
LIBRARIES = {"dask": "distributed", "ray": "ray", "spark": "pyspark"}


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    (folder := tmp_path / "in").mkdir()
    for number in range(COUNT):
        (folder / f"{number:03}.txt").write_text(f"{number}\n")
    yield PackageBuilder("local/in", quiet=True).add(f"{folder}/", "in/").push_data_and_manifest(tag="v1")
    close_contexts()


@pytest.fixture
def _without_java() -> Iterator[None]:
    """End the process of Spark's, which would stay until this one ends."""
    yield
    if (spark := sys.modules.get("pyspark")) is not None and (gateway := spark.SparkContext._gateway) is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()
        spark.SparkContext._gateway = None


@pytest.mark.usefixtures("_without_java")
@pytest.mark.parametrize("name", LIBRARIES)
def test_the_same_version_on_each(name: str, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(LIBRARIES[name], reason=f"{LIBRARIES[name]} is not in this environment: make test-heavy")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # workers import the function
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    made = package.map(doubled, out=f"local/{name}:v1", executor=name, jobs=2)
    assert (made.done, made.failures, len(made.package)) == (COUNT, (), COUNT)
    assert package.map(doubled, out=f"local/{name}:v1", executor="threads").reused == COUNT
    assert package.map(doubled, out="local/threads:v1").package.hash == made.package.hash
