"""Every command the documents print does what they say, run as it is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.consoles import BUCKET, Ran, find_commands, run_commands
from tests.rgw import Gateway

ROOT = Path(__file__).parents[2]
DOCUMENTS = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if find_commands(path)
}
ON_S3 = {name: path for name, path in DOCUMENTS.items() if any(one.needs_s3 for one in find_commands(path))}


@pytest.fixture
def plain_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home as a new user has it: nothing says where the cache and the embedded registry are."""
    for name in ("FUSEPKG_CACHE_DIR", "FUSEPKG_DATA_DIR", "FUSEPKG_CONFIG", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name)
    return home


@pytest.mark.fuse
@pytest.mark.parametrize("name", DOCUMENTS)
def test_local_commands(name: str, plain_home: Path) -> None:
    commands = [command for command in find_commands(DOCUMENTS[name]) if not command.needs_s3]
    _check(name, run_commands(commands, plain_home), len(commands))


@pytest.mark.fuse
@pytest.mark.s3
@pytest.mark.parametrize("name", ON_S3)
def test_all_commands(name: str, plain_home: Path, s3: Gateway) -> None:
    _empty_bucket(s3)
    commands = find_commands(ON_S3[name])
    _check(name, run_commands(commands, plain_home), len(commands))


def test_the_readme_is_among_them() -> None:
    assert "README.md" in ON_S3


def _empty_bucket(s3: Gateway) -> None:
    s3.s3.create_bucket(Bucket=BUCKET)
    for item in s3.s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        s3.s3.delete_object(Bucket=BUCKET, Key=item["Key"])


def _check(name: str, done: list[Ran], count: int) -> None:
    for ran in done:
        if difference := ran.difference():
            pytest.fail(
                f"{name}:{ran.command.line}: {ran.command.text!r} {difference}\n"
                + "\n".join(("--- the document", *ran.command.output, "--- here", *ran.output)),
                pytrace=False,
            )
    assert len(done) == count, "the shell ended early"
