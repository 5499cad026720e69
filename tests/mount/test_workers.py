"""Processes that answer from the cache beside the one that fetches: `mount --workers`."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import ended, forget_pages, mounted
from tests.mount.test_supervision import wait_until
from tests.mount.test_switching import switch, tree_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Place

pytestmark = pytest.mark.fuse


@pytest.fixture
def local(folder: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The packages in a directory."""
    for name, value in folder.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FUSEPKG_COPY_LOCAL", "yes")  # else nothing of it is in the cache
    return folder


def workers_of(mount: Mount) -> list[int]:
    found: list[int] = mount.status()["workers"]
    return found


def read_again(mount: Mount, names: list[str]) -> None:
    """Read files whose pages the kernel does not have."""
    for name in names:
        forget_pages(mount / name)
        (mount / name).read_bytes()


def test_killed_workers_are_replaced(local: Place, engine: str, originals: Originals, tmp_path: Path) -> None:
    """Any process that answers from the cache may be killed: no reader sees it, and another takes its place."""
    expected = tree_of(originals.small)
    wrong: list[str] = []
    is_over = threading.Event()

    def compare() -> None:
        while not is_over.is_set():
            for name, data in expected.items():
                try:
                    forget_pages(mount / name)
                    if (mount / name).read_bytes() != data:
                        wrong.append(name)
                except OSError as exc:
                    wrong.append(f"{name}: {exc}")

    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--workers", 2) as mount:
        assert tree_of(mount.root) == expected
        wait_until(lambda: len(workers_of(mount)) == 2, "two processes answer from the cache")
        first = workers_of(mount)
        readers = [threading.Thread(target=compare) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            os.kill(first[0], signal.SIGKILL)
            wait_until(lambda: first[0] not in workers_of(mount), "it is gone")
            wait_until(lambda: len(workers_of(mount)) == 2, "another one is there")
        finally:
            is_over.set()
            for reader in readers:
                reader.join()
        assert wrong == []
        last = [*workers_of(mount), mount.record.pid]
    assert all(ended(pid) for pid in last)


def test_workers_answer_and_follow_a_switch(local: Place, engine: str, originals: Originals, tmp_path: Path) -> None:
    """They answer reads of cached files, which `status` counts, and show another version after a switch."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--workers", 1) as mount:
        names = list(tree_of(mount.root))
        mount.wait_until_kept(*names, wholly=True)
        wait_until(lambda: len(workers_of(mount)) == 1, "a process answers from the cache")
        before = mount.counters
        read_again(mount, names)
        assert mount.counters["cache_hits"] > before["cache_hits"]
        assert mount.counters["served_bytes"] > before["served_bytes"]
        switch(mount, "v2")
        assert tree_of(mount.root) == tree_of(originals.later)


def test_a_mount_without_workers(local: Place, engine: str, originals: Originals, tmp_path: Path) -> None:
    """Without `--workers`, or with `--workers 0`, one process does everything."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--workers", 0) as mount:
        assert tree_of(mount.root) == tree_of(originals.small)
        assert workers_of(mount) == []
        switch(mount, "v2")
        assert tree_of(mount.root) == tree_of(originals.later)
