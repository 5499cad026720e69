"""A command that a test runs is a process of its own, with the test's environment, directory, umask and files."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tests.command import Fusepkg
from tests.plugins.leftovers import MARK, processes_of


def test_directory_environment_and_umask_are_the_tests(
    fusepkg: Fusepkg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    before = os.umask(0o027)
    try:
        fusepkg("push", "tree", "local/x:v1", cwd=tmp_path, env={"FUSEPKG_DATA_DIR": str(tmp_path / "there")})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "there" / "local").stat().st_mode) & 0o027 == 0
    monkeypatch.setenv("FUSEPKG_DATA_DIR", str(tmp_path / "there"))
    assert fusepkg("ls", "local/x:v1").stdout == "a\n"
    monkeypatch.chdir(tmp_path)
    assert fusepkg("push", "tree", "local/x:v2").returncode == 0


@pytest.mark.fuse
def test_a_mounts_process_shows_its_command_and_its_test(fusepkg: Fusepkg, tmp_path: Path) -> None:
    """The plugin that finds what a run left behind reads both."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    fusepkg("push", tmp_path / "tree", "local/x:v1")
    (tmp_path / "m").mkdir()
    fusepkg("mount", "local/x:v1", tmp_path / "m")
    try:
        (found,) = [one for one in processes_of(os.environ[MARK]) if " mount " in one.command]
        assert f"-m fusepkg mount local/x:v1 {tmp_path / 'm'}" in found.command
        assert "test_a_mounts_process_shows" in found.test
    finally:
        fusepkg("umount", tmp_path / "m")


def test_a_command_that_hangs_is_killed_and_fails_the_test(fusepkg: Fusepkg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config")
    with pytest.raises(pytest.fail.Exception, match="no end after 1 s"):
        fusepkg("ls", "local/x", timeout=1, env={"FUSEPKG_CONFIG": str(tmp_path / "config")})


def test_commands_run_beside_each_other(fusepkg: Fusepkg) -> None:
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(fusepkg("--version").returncode)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4
