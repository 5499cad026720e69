"""What another distribution adds is found by its name: the example of the page on extras, installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fusepkg import PackageBuilder
from fusepkg.errors import MissingExtra, UsageError
from fusepkg.pool.embedders import open_embedder
from fusepkg.work import entry_points
from fusepkg.work.entry_points import load_entry_point

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "extras.md"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example."""
    project, module = re.findall(r"```(?:toml|python)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(module.splitlines()) <= 30
    facts = tomllib.loads(project)["project"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
        for group, names in facts["entry-points"].items()
    )
    wheel = tmp_path / "fusepkg_example-1.0-py3-none-any.whl"
    about = "fusepkg_example-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("fusepkg_example.py", module)
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/entry_points.txt", points)
        file.writestr(f"{about}/RECORD", "")
    target = tmp_path / "site"
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", target, wheel]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    monkeypatch.syspath_prepend(target)


@pytest.mark.usefixtures("example")
def test_the_example_brings_a_source_an_embedder_and_an_executor() -> None:
    package = PackageBuilder("local/numbers", quiet=True).add("numbers://5").push_data_and_manifest(tag="v1")
    assert [entry.logical_key for entry in package] == [f"{number}.txt" for number in range(5)]
    made = package.map(lambda entry: entry.get_bytes() * 2, out="local/twice:v1", executor="serial")
    assert made.package.get("4.txt") == b"4\n4\n"
    embedder = open_embedder(SimpleNamespace(embedder="brightness"))
    assert embedder.identity == "plugin:brightness"
    assert embedder.vectors([np.zeros((2, 2, 3))]).tolist() == [[1.0]]


def test_what_is_not_there_or_does_not_work_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="has the unknown scheme 'numbers'"):
        PackageBuilder("local/numbers", quiet=True).add("numbers://5")
    with pytest.raises(UsageError, match=r"nothing called .x. among the executors\. There are: threads"):
        load_entry_point("fusepkg.executors", "x", also=("threads",))

    def broken(error: Exception) -> SimpleNamespace:
        def load() -> None:
            raise error

        return SimpleNamespace(dist=SimpleNamespace(name="other"), value=str(error), name="x", load=load)

    for found, kind, said in (
        ([broken(ImportError("no", name="torch"))], MissingExtra, "'x' of other needs torch"),
        ([broken(ValueError("no"))], UsageError, "'x' of other cannot be loaded"),
        ([broken(ValueError("a")), broken(ValueError("b"))], UsageError, "both bring|bring 'x'"),
    ):
        monkeypatch.setattr(entry_points, "entry_points", lambda found=found, **_: found)
        with pytest.raises(kind, match=said):
            load_entry_point("fusepkg.executors", "x")
