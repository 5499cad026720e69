"""Standard streams that are closed, full, or of a poor encoding, and users without a home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.command import Fusepkg

NAME = "caf\u00e9 \u2603"


@pytest.fixture
def package(fusepkg: Fusepkg, tmp_path: Path) -> str:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / NAME).write_text("a")
    fusepkg("push", tmp_path / "tree", "local/x:v1")
    return "local/x:v1"


def run(command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A line of shell in which ``fusepkg`` is a fresh interpreter's."""
    script = f'fusepkg() {{ "{sys.executable}" -m fusepkg "$@"; }}; {command}'
    return subprocess.run(
        ["/bin/bash", "-c", script], capture_output=True, env={**os.environ, **variables}, check=False
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_stops_no_command(package: str, closed: str):
    done = run(f"fusepkg ls {package} {closed}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == ("" if ">&-" in closed.replace("2>&-", "") else f"{NAME}\n")


def test_a_full_disk_under_the_output_is_told_and_is_no_bug(package: str):
    done = run(f"fusepkg ls {package} > /dev/full")
    assert done.returncode == 14
    assert done.stderr.decode().startswith("Error: standard output cannot be written: No space left on device")


def test_names_that_the_encoding_does_not_have_are_escaped(package: str):
    done = run(f"fusepkg ls {package}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"caf\\xe9 \\u2603\n")
    assert run(f"fusepkg ls {package}", PYTHONIOENCODING="latin-1").stdout == b"caf\xe9 \\u2603\n"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch):
    for name in ("HOME", "FUSEPKG_DATA_DIR", "XDG_DATA_HOME", "FUSEPKG_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    program = (
        "import os, pwd, sys; os.environ.pop('HOME', None)\n"
        "def missing(_uid): raise KeyError('no such user')\n"
        "pwd.getpwuid = missing; from fusepkg.cli.main import main; sys.argv = ['fusepkg', 'list', 'local']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "has no home directory" in done.stderr
    assert "FUSEPKG_DATA_DIR" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("ls", "local/none:v1"), 3, "package.not_found"),
        (("ls",), 2, "usage"),
        (("hash", "local/none:v1"), 3, "package.not_found"),
        (("umount", "/"), 7, "mount.not_mounted"),
        (("rm", "key"), 10, "publish.builder_unfit"),
        (("cache", "info", "--cache-dir", "/dev/null"), 2, "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("package")
def test_errors_are_json_for_programs(
    fusepkg: Fusepkg, tmp_path: Path, arguments: tuple[str, ...], status: int, code: str
):
    done = fusepkg(*arguments, "--json", check=False, cwd=tmp_path)
    error: dict[str, Any] = json.loads(done.stderr)["error"]
    assert (done.returncode, error["exit_code"], error["code"]) == (status, status, code)
    assert error["message"]
