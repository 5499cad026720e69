"""The steps of the document "Image Data Registry with DVC", in their order, with fusepkg in the place of DVC.

Where a command below is not the document's, docs/reference/use-cases.md says why.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Fusepkg

FIRST, SECOND = "01_data_collection_16_oct_2021", "02_data_collection_20_oct_2021"
PICTURES = {"1.jpg": "first", "2.jpg": "", "3.jpg": "third"}


class Steps:
    """The registry and the dataset, each with its repository, at this place in the document."""

    def __init__(self, root: Path, fusepkg: Fusepkg) -> None:
        self.registry = root / "image-data-registry"
        self.dataset = root / "dataset"
        self.storage = root / "image_data_registry_storage"
        self._fusepkg = fusepkg
        for repository in (self.registry, self.dataset):
            repository.mkdir()
            self.git(repository, "init -q -b main")

    def git(self, where: Path, line: str) -> str:
        done = subprocess.run(["git", *line.split()], cwd=where, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fusepkg(self, where: Path, line: str) -> str:
        return self._fusepkg(*line.split(), cwd=where).stdout

    def without_hooks(self, repository: Path) -> None:
        """Have each step start what it needs itself: hooks start interpreters."""
        self.git(repository, "config core.hooksPath /nowhere")

    def collect(self, name: str) -> None:
        for picture, text in PICTURES.items():
            path = self.registry / "raw" / name / picture
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {text}" if text else "")


REMOVE_CORRUPTED = """\
import pathlib, shutil, sys
target = pathlib.Path("data/intermediate/remove_corrupted_images")
target.mkdir(parents=True)
for picture in pathlib.Path(sys.argv[1]).iterdir():
    if picture.stat().st_size:
        shutil.copy(picture, target)
"""


@pytest.fixture
def steps(tmp_path: Path, fusepkg: Fusepkg, monkeypatch: pytest.MonkeyPatch) -> Steps:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "marco")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "marco@example.com")
    return Steps(tmp_path, fusepkg)


def pictures(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def test_the_registry_and_a_dataset_of_it(steps: Steps) -> None:
    registry, dataset = steps.registry, steps.dataset

    # Installation & Configuration: dvc init; dvc remote add -d storage ...
    steps.fusepkg(registry, f"init --git --registry file://{steps.storage}")
    assert (registry / ".git/hooks/pre-push").exists()
    steps.without_hooks(registry)

    # Add a new raw data collection: dvc add; git add; dvc push
    steps.collect(FIRST)
    steps.fusepkg(registry, f"track raw/{FIRST}")
    steps.git(registry, f"add .fusepkg.toml raw/{FIRST}.fusepkg raw/.gitignore")
    assert steps.git(registry, "status --short").split() == [
        "A", ".fusepkg.toml", "A", "raw/.gitignore", "A", f"raw/{FIRST}.fusepkg",
    ]  # fmt: skip
    steps.git(registry, "commit -q -m First")
    assert "is pushed to" in steps.fusepkg(registry, "push")

    # Create a new processed dataset from raw data: dvc import
    inputs = "processed/01_image_dataset/data/inputs"
    (dataset / inputs).mkdir(parents=True)
    steps.fusepkg(dataset, f"init --git --registry file://{steps.storage}")
    steps.without_hooks(dataset)
    steps.fusepkg(dataset, f"import {registry} raw/{FIRST} -o {inputs}")
    assert pictures(dataset / inputs / FIRST) == pictures(registry / "raw" / FIRST)
    steps.git(dataset, f"add .fusepkg.toml {inputs}/{FIRST}.fusepkg {inputs}/.gitignore")
    steps.git(dataset, "commit -q -m Import")

    # How to add more raw data: a branch, track, push, merge
    steps.git(registry, "checkout -q -b add-new-raw-data-collection")
    steps.collect(SECOND)
    steps.fusepkg(registry, f"track raw/{SECOND}")
    steps.git(registry, f"add raw/{SECOND}.fusepkg raw/.gitignore")
    steps.git(registry, "commit -q -m Second")
    assert steps.fusepkg(registry, "push").count("is pushed to") == 1
    assert steps.fusepkg(registry, "diff main main") == ""
    steps.git(registry, "checkout -q main")
    steps.fusepkg(registry, "checkout")
    assert not (registry / "raw" / SECOND).exists(), "main does not track it yet"
    steps.git(registry, "merge -q add-new-raw-data-collection")
    steps.fusepkg(registry, "checkout")
    assert len(pictures(registry / "raw" / SECOND)) == 3

    # How to process the new raw data: import the new collection beside the first
    steps.git(dataset, "checkout -q -b add-new-raw-data-to-dataset")
    steps.fusepkg(dataset, f"import {registry} raw/{SECOND} -o {inputs}")
    steps.git(dataset, f"add {inputs}/.gitignore {inputs}/{SECOND}.fusepkg")
    steps.git(dataset, "commit -q -m Second")
    assert sorted(path.name for path in (dataset / inputs).iterdir() if path.is_dir()) == [FIRST, SECOND]
    assert "not pushed" not in steps.fusepkg(dataset, "status")


def test_a_pipeline_over_imported_data(steps: Steps) -> None:
    registry, project = steps.registry, steps.dataset / "processed/01_image_dataset"
    made = "data/intermediate/remove_corrupted_images"
    (project / "data/inputs").mkdir(parents=True)
    (project / "src").mkdir()
    (project / "src/remove_corrupted_images.py").write_text(REMOVE_CORRUPTED)
    for repository in (registry, steps.dataset):
        steps.fusepkg(repository, f"init --git --registry file://{steps.storage}")
        steps.without_hooks(repository)
    for name in (FIRST, SECOND):
        steps.collect(name)
    steps.fusepkg(registry, f"track raw/{FIRST} raw/{SECOND}")
    steps.git(registry, "add .")
    steps.git(registry, "commit -q -m Both")
    steps.fusepkg(registry, "push")
    steps.fusepkg(project, f"import {registry} raw/{FIRST} -o data/inputs")

    # Create a DVC pipeline: dvc run; git add dvc.lock dvc.yaml
    steps.fusepkg(
        project,
        f"stage add -n remove_corrupted_images -d src/remove_corrupted_images.py -d data/inputs/{FIRST} -o {made}"
        f" -- {sys.executable} src/remove_corrupted_images.py data/inputs/{FIRST}/",
    )
    assert steps.fusepkg(project, "repro") == "remove_corrupted_images runs: it has not run yet\n"
    assert pictures(project / made).keys() == {name for name, text in PICTURES.items() if text}
    steps.git(project, "add dvc.lock dvc.yaml src data/intermediate/.gitignore")
    assert made not in steps.git(project, "status --short")

    # Add new dataset to the list of dependencies; rerun the pipeline: dvc repro
    steps.fusepkg(project, f"import {registry} raw/{SECOND} -o data/inputs")
    assert steps.fusepkg(project, "repro") == "remove_corrupted_images is up to date\n"
    written = (project / "dvc.yaml").read_text()
    first, second = (f"    - data/inputs/{name}\n" for name in (FIRST, SECOND))
    (project / "dvc.yaml").write_text(written.replace(first, first + second))
    assert steps.fusepkg(project, "repro") == f"remove_corrupted_images runs: dependency data/inputs/{SECOND} is new\n"
    assert second.strip(" -\n") in (project / "dvc.lock").read_text()
