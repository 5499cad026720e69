"""Rules about the code itself that no reviewer should have to check."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from fusepkg import errors
from fusepkg.errors import FusepkgError

ROOT = Path(__file__).parents[2]


def tree(base: type[FusepkgError]) -> Iterator[type[FusepkgError]]:
    yield base
    for child in base.__subclasses__():
        yield from tree(child)


ERRORS = list(tree(FusepkgError))


@pytest.fixture(scope="module")
def check_sizes() -> ModuleType:
    spec = spec_from_file_location("check_sizes", ROOT / "scripts" / "check_sizes.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_size_check_sees_what_is_too_large(check_sizes: ModuleType) -> None:
    function = "def {}():\n" + "    pass\n" * 60  # 61 lines
    source = function.format("first") + "class C:\n    " + function.format("second").replace("\n", "\n    ") + "\n"
    assert [line.split(": ")[1][:6] for line in check_sizes.too_large(source, "m.py")] == ["first ", "second"]
    assert list(check_sizes.too_large("pass\n" * 500, "m.py")) == []
    assert len(list(check_sizes.too_large("pass\n" * 501, "m.py"))) == 1


def test_the_check_of_names_sees_classes_of_one_name(check_sizes: ModuleType) -> None:
    sources = {
        "a.py": "class One: ...\nclass _Own: ...",
        "b.py": "class _Own: ...\nclass Two: ...",
        "c.py": "class One: ...",
    }
    assert list(check_sizes.repeated_classes(sources)) == ["c.py:1: a.py has a class One too: rename one by what it is"]


def test_modules_are_named_for_what_they_own() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "tools", "lib"}
    modules = [path for folder in ("fusepkg", "cache") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in modules if path.stem in vague] == []


def test_every_error_is_defined_in_the_one_tree() -> None:
    assert {error.__module__.rpartition(".")[0] for error in ERRORS} == {"fusepkg.errors"}
    assert [error.__name__ for error in ERRORS if error.__name__ not in errors.__all__] == []


def test_codes_are_distinct_and_own() -> None:
    counted = Counter(error.code for error in ERRORS)
    assert [code for code, times in counted.items() if times > 1] == []
    assert [error.__name__ for error in ERRORS if "code" not in vars(error)] == []


def test_codes_start_with_their_branch() -> None:
    for branch in FusepkgError.__subclasses__():
        for error in list(tree(branch))[1:]:
            assert re.fullmatch(rf"{re.escape(branch.code)}\.[a-z_]+", error.code), error


def test_exit_codes_are_the_documented_ones() -> None:
    """0 and 1 have meanings of their own; above 125 the shell's begin."""
    assert [error for error in ERRORS if not 2 <= error.exit_code <= 125] == []


def test_the_docstring_names_all_branches() -> None:
    assert errors.__doc__ is not None
    branches = {error.__name__ for error in FusepkgError.__subclasses__()}
    assert set(re.findall(r"``([A-Z]\w+)``", errors.__doc__)) == {"FusepkgError", *branches}


def test_a_branch_is_one_module() -> None:
    for branch in FusepkgError.__subclasses__():
        assert {error.__module__ for error in tree(branch)} == {branch.__module__}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_says_what_it_is_for(error: type[FusepkgError]) -> None:
    assert error.__doc__ is not None
    assert error.__doc__ != FusepkgError.__doc__ or error is FusepkgError
    shown = str(error("bucket/name is gone", hint="Look elsewhere"))
    assert shown.endswith("bucket/name is gone. Look elsewhere")


def test_rows_are_printed_as_tables() -> None:
    """``say`` shows a tab as ``\\t`` on a terminal: publishers choose names freely."""
    lines = [line for file in (ROOT / "fusepkg" / "cli").glob("*.py") for line in file.read_text().splitlines()]
    assert [line for line in lines if re.search(r"\bsay\(.*\\t", line)] == []
