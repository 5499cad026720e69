"""Every command the documents print does what they say, run as it is printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests import command_shim
from tests.command import server_descriptors
from tests.docs.consoles import BUCKET, Programs, find_commands, run_commands
from tests.machine import why_no_s3
from tests.rgw import Gateway

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if find_commands(path)
}


def _that_need(need: str) -> list[str]:
    return [name for name, path in DOCUMENTS.items() if any(one.need == need for one in find_commands(path))]


@pytest.fixture
def plain_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home as a new user has it: nothing says where the cache and the embedded registry are."""
    for name in ("FUSEPKG_CACHE_DIR", "FUSEPKG_DATA_DIR", "FUSEPKG_CONFIG", "FUSEPKG_COPY_LOCAL", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name)
    home = home.parent / "ada"  # without the directories the other names made
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    return home


NEED_S3 = _that_need("s3")
STARTED = ("docs/getting-started.md",)
"""In this one the installed script starts each time; in the others ``fusepkg`` and ``python -`` are forked, for a tenth
of the CPU."""


@pytest.mark.fuse
@pytest.mark.parametrize("name", [name for name in _that_need("") if name not in NEED_S3 or why_no_s3()])
def test_local(name: str, plain_home: Path) -> None:
    _check(name, {""}, plain_home)


@pytest.mark.fuse
@pytest.mark.s3
@pytest.mark.parametrize("name", NEED_S3)
def test_all_of_a_document_that_needs_s3(name: str, plain_home: Path, s3: Gateway) -> None:
    s3.s3.create_bucket(Bucket=BUCKET)
    for item in s3.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        s3.s3.delete_object(Bucket=BUCKET, Key=item["Key"])
    _check(name, {"", "s3"}, plain_home)


@pytest.mark.fuse
@pytest.mark.parametrize("name", _that_need("torch"))
def test_with_torch(name: str, plain_home: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not in this environment: make test-heavy")
    _check(name, {"", "torch"}, plain_home)


@pytest.mark.parametrize("name", _that_need("spark"))
def test_with_spark(name: str, plain_home: Path) -> None:
    pytest.importorskip("pyspark", reason="PySpark is not in this environment: make test-heavy")
    _check(name, {"", "spark"}, plain_home)


@pytest.mark.fuse
@pytest.mark.parametrize("name", _that_need("dvc"))
def test_with_dvc(name: str, plain_home: Path) -> None:
    if not shutil.which("dvc", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        pytest.skip("DVC is not in this environment: make test-heavy")
    _check(name, {"", "dvc"}, plain_home)


def test_the_readme_is_among_them() -> None:
    assert "README.md" in NEED_S3


def _forked(directory: Path) -> Programs:
    directory.mkdir()
    for name in ("fusepkg", "python-from-input"):
        (directory / name).write_text(f"#!{sys.executable} -IS\n{Path(command_shim.__file__).read_text()}")
        (directory / name).chmod(0o755)
    plain, extras = server_descriptors()
    return Programs(directory, (plain, extras), {command_shim.SERVERS: f"{plain} {extras}"})


def _check(name: str, there: set[str], home: Path) -> None:
    commands = [command for command in find_commands(DOCUMENTS[name]) if command.need in there]
    done = run_commands(commands, home, None if name in STARTED else _forked(home.parent / "programs"))
    for ran in done:
        if difference := ran.difference():
            pytest.fail(
                f"{name}:{ran.command.line}: {ran.command.text!r} {difference}\n"
                + "\n".join(("--- the document", *ran.command.output, "--- here", *ran.output)),
                pytrace=False,
            )
    assert len(done) == len(commands), "the shell ended early"
