"""Repositories that the real DVC 3 and DVC 2 have made are read as it reads them, file by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusepkg import Package
from tests.dvc_repositories import unpack


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    root = tmp_path_factory.mktemp("dvc")
    return root, unpack(root)


def contents(reference: str) -> dict[str, str]:
    """Every file of a package, read and checked."""
    package = Package(reference)
    return {str(entry): package.get(entry.logical_key).decode("latin-1") for entry in package}


@pytest.mark.parametrize("what", ["registry@v1", "registry@v2", "dataset@v1", "third@v1", "old@v1"])
def test_a_revision_holds_what_dvc_brings(repositories: tuple[Path, dict[str, dict[str, str]]], what: str) -> None:
    root, expected = repositories
    assert contents(f"dvc+{root}/{what}") == expected[what]


@pytest.mark.parametrize("project", ["one", "two"])
def test_a_git_repository_may_hold_several_of_dvc(
    repositories: tuple[Path, dict[str, dict[str, str]]], project: str
) -> None:
    root, expected = repositories
    here = {"data.txt": expected["several@v1"][f"{project}/data.txt"]}
    assert contents(f"dvc+{root}/several@v1//{project}") == here
    assert contents(f"dvc+{root}/several/{project}") == here


def test_a_directory_or_a_file_of_it(repositories: tuple[Path, dict[str, dict[str, str]]]) -> None:
    root, expected = repositories
    registry = expected["registry@v2"]
    for directory in ("raw", "raw/01", "raw/01/deep"):
        below = {key[len(directory) + 1 :]: text for key, text in registry.items() if key.startswith(f"{directory}/")}
        assert contents(f"dvc+{root}/registry@v2//{directory}") == below
    assert contents(f"dvc+{root}/registry@v2//raw/02/z.jpg") == {"z.jpg": "z"}


def test_executables_are_executable(repositories: tuple[Path, dict[str, dict[str, str]]]) -> None:
    root, _ = repositories
    kinds = {entry.logical_key: entry.record.meta for entry in Package(f"dvc+{root}/registry@v1")}
    assert kinds["model.bin"] == {"fusepkg": {"executable": True}}
    assert not kinds["raw/01/a.jpg"]


def test_a_revision_by_hash_is_read_without_its_repository(
    repositories: tuple[Path, dict[str, dict[str, str]]], tmp_path: Path
) -> None:
    unpack(tmp_path)
    opened = Package(f"dvc+{tmp_path}/registry@v1")
    (tmp_path / "registry").rename(tmp_path / "elsewhere")
    again = Package(f"dvc+{tmp_path}/registry", hash=opened.hash)
    assert again == opened
    assert again.get("raw/01/a.jpg") == b"a"
