"""Transforms run on Dask, Ray and Spark, in clusters on this machine, and give the same version as threads do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusepkg import Package, PackageBuilder
from fusepkg.opened.contexts import close_contexts
from tests.unit.transforms.functions import dies_at_first, doubled

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

COUNT = 110
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
        spark.SparkContext._gateway = spark.SparkContext._jvm = None


@pytest.fixture(params=LIBRARIES)
def name(request: pytest.FixtureRequest, _without_java: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an executor whose library is here, and whose workers find the functions of the tests."""
    name: str = request.param
    pytest.importorskip(LIBRARIES[name], reason=f"{LIBRARIES[name]} is not in this environment: make test-heavy")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # its token lies in the home, and each test has another one
    return name


def test_the_same_version_on_each(name: str, package: Package) -> None:
    made = package.map(doubled, out=f"local/{name}:v1", executor=name, jobs=2, names="in/0[0-4]*")
    assert (made.done, made.failures, len(made.package)) == (50, (), 50)
    again = package.map(doubled, out=f"local/{name}:v1", executor="threads", names="in/0[0-4]*")
    assert (again.reused, again.package.hash) == (50, made.package.hash)
    assert package.map(doubled, out="local/threads:v1", names="in/0[0-4]*").package.hash == made.package.hash


@pytest.mark.timeout(600)  # each worker that dies is started again, on a busy machine slowly
def test_workers_that_die(name: str, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    made = package.map(dies_at_first, out=f"local/{name}:v1", executor=name, jobs=2, names="in/*0.txt")
    assert [failure.logical_keys for failure in made.failures] == [("in/100.txt",)]
    assert "its worker was lost" in made.failures[0].error
    assert (len(made.package), made.package.get("in/070.txt")) == (COUNT // 10 - 1, b"70\n70\n")
