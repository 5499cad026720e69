"""Code that was read before an upgrade is what runs after it."""

from __future__ import annotations

import os
import py_compile
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusepkg.daemon.held_code import hold

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "package_of_a_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two modules, whose files the test replaces."""
    place = tmp_path / NAME
    write(place, "old")
    monkeypatch.syspath_prepend(tmp_path)
    finders = sys.meta_path[:]
    yield place
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def write(place: Path, version: str) -> None:
    (place / "below").mkdir(parents=True)
    for file in (place / "__init__.py", place / "below" / "__init__.py", place / "below" / "module.py"):
        file.write_text(f"VERSION = {version!r}\n")


def versions() -> set[str]:
    return {import_module(NAME + rest).VERSION for rest in ("", ".below", ".below.module")}


@pytest.mark.parametrize("bytecode", ["none", "right", "stale"])
def test_modules_that_are_held_are_those_of_before_an_upgrade(package: Path, bytecode: str) -> None:
    sources = list(package.rglob("*.py"))
    if bytecode == "stale":
        for source in sources:
            source.write_text("VERSION = 'staler'\n")
    if bytecode != "none":
        for source in sources:
            py_compile.compile(str(source))
    if bytecode == "stale":
        for source in sources:
            source.write_text("VERSION = 'old'\n")
    hold([NAME])
    shutil.rmtree(package)
    write(package, "new")
    assert versions() == {"old"}


def test_modules_that_are_held_are_there_when_their_files_are_gone(package: Path) -> None:
    hold([NAME, "no_such_package_of_a_test"])
    shutil.rmtree(package)
    assert versions() == {"old"}
    assert [str(path) for path in import_module(NAME).__path__] == [str(package)]


def test_a_module_is_loaded_again_from_its_file_once_it_has_run(package: Path) -> None:
    hold([NAME])
    assert versions() == {"old"}
    shutil.rmtree(package)
    write(package, "new")
    for name in (f"{NAME}.below.module", f"{NAME}.below", NAME):
        del sys.modules[name]
    assert versions() == {"new"}


def test_machine_code_is_held_as_an_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = find_spec("_lsprof")
    assert spec is not None
    assert spec.origin is not None
    copy = Path(shutil.copy(spec.origin, tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.delitem(sys.modules, "_lsprof", raising=False)
    before = len(os.listdir("/proc/self/fd"))
    hold(["_lsprof"])
    copy.unlink()
    module = import_module("_lsprof")
    assert module.__file__ == str(copy)
    assert callable(module.Profiler)
    assert len(os.listdir("/proc/self/fd")) == before
