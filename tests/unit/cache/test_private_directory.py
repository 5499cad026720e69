from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from fusepkg_cache.private_directory import NotPrivate, check_private, make_private


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0o002)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(autouse=True)
def shared_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups have other members, whoever runs the tests."""
    monkeypatch.setattr("fusepkg_cache.private_directory._group_is_ours", lambda _: False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("loose_umask")
def test_what_is_made_is_private_whatever_the_umask(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_a_directory_that_others_may_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    check_private(tmp_path / "a")
    make_private(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o700


@pytest.mark.parametrize("loose", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_have_changed_is_refused_and_named(tmp_path: Path, loose: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(loose)
    with pytest.raises(NotPrivate, match="write to it") as caught:
        make_private(tmp_path / "a")
    assert str(tmp_path / "a") in caught.value.message
    assert f"chmod 700 {tmp_path / 'a'}" in caught.value.hint
    assert mode(tmp_path / "a") == loose


@pytest.mark.parametrize("loose", [0o777, 0o775])
def test_a_directory_above_that_others_can_write_to_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, loose: int
) -> None:
    make_private(tmp_path / "a" / "b" / "c")
    (tmp_path / "a").chmod(loose)
    with pytest.raises(NotPrivate) as caught:
        make_private(tmp_path / "a" / "b" / "c")
    assert f"chmod go-w {tmp_path / 'a'}" in caught.value.hint
    (tmp_path / "a").chmod(0o1777)  # sticky: others can remove nothing of ours
    check_private(tmp_path / "a" / "b" / "c")


def test_a_group_of_ones_own_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusepkg_cache.private_directory._group_is_ours", lambda _: True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o775)
    make_private(tmp_path / "a" / "b")


def test_where_a_link_leads_is_looked_at_too(tmp_path: Path) -> None:
    make_private(tmp_path / "loose" / "real")
    (tmp_path / "link").symlink_to(tmp_path / "loose" / "real")
    check_private(tmp_path / "link")
    (tmp_path / "loose").chmod(0o777)
    with pytest.raises(NotPrivate, match="loose"):
        check_private(tmp_path / "link")


def test_another_users_directory_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotPrivate, match="not a directory"):
        make_private(tmp_path / "file")
    if os.geteuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 4711, -1)
        with pytest.raises(NotPrivate, match="belongs to user 4711"):
            make_private(tmp_path / "theirs")
