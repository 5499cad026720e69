"""A test's home is its own, and what a machine lacks is said aloud."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Fusepkg
from tests.plugins import leftovers


@pytest.fixture(autouse=True, scope="module")
def users_settings() -> Iterator[None]:
    """What a developer might have set; set before the home of any test here is made."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "FUSEPKG_CACHE_SIZE", "https_proxy", "NO_PROXY"):
            patch.setenv(name, "the user's")
        yield


def test_nothing_of_the_users_reaches_a_test() -> None:
    assert [name for name, value in os.environ.items() if value == "the user's"] == []


def test_the_home_is_private_and_below_the_tests_directory(home: Path, tmp_path: Path) -> None:
    assert home.is_relative_to(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "FUSEPKG_CACHE_DIR", "FUSEPKG_DATA_DIR"):
        directory = Path(os.environ[name])
        assert directory.is_relative_to(tmp_path)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_runs_mark_stays() -> None:
    assert leftovers.MARK in os.environ


def test_the_command_line_runs(fusepkg: Fusepkg) -> None:
    assert "Usage" in fusepkg("--help").stdout


def test_a_failing_command_fails_the_test_and_shows_what_it_said(fusepkg: Fusepkg) -> None:
    with pytest.raises(pytest.fail.Exception, match="no-such-command"):
        fusepkg("no-such-command")
    assert fusepkg("no-such-command", check=False).returncode == 2
