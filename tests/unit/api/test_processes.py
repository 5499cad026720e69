"""A package read by many threads, by forked and by spawned processes, and beside other event loops."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from fusepkg import Package
from fusepkg.opened.contexts import close_contexts, current_context

_WORKERS = 2


def _lengths(part: tuple[Package, int]) -> dict[str, int]:
    package, worker = part
    return {entry.logical_key: len(entry.get_bytes()) for entry in list(package)[worker::_WORKERS]}


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("read_before", [True, False])
def test_worker_processes_read_through_the_package(package: Package, method: str, read_before: bool) -> None:
    if read_before:
        package.get("README.md")
    with multiprocessing.get_context(method).Pool(_WORKERS) as pool:
        parts = pool.map_async(_lengths, [(package, worker) for worker in range(_WORKERS)]).get(timeout=120)
        pool.close()
        pool.join()
    read = {key: size for part in parts for key, size in part.items()}
    assert read == {entry.logical_key: entry.size for entry in package}
    assert package.get("same.bin")  # the parent goes on


def _opened_by_its_parent(package: Package) -> bool:
    context = package.context
    return any((context._cache, context._stores, context._hints, context._readers))


def test_a_forked_worker_touches_nothing_that_its_parent_has_open(package: Package) -> None:
    package.cache("README.md")
    assert _opened_by_its_parent(package)
    child = os.fork()
    if child == 0:
        os._exit(_opened_by_its_parent(package))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _opened_by_its_parent(package)


def test_many_threads(package: Package) -> None:
    wanted = {entry.logical_key: entry.size for entry in package}
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            read = pool.map(lambda entry: (entry.logical_key, len(entry.get_bytes())), list(package))
            assert dict(read) == wanted


def test_inside_other_event_loops(package: Package) -> None:
    async def read() -> bytes:
        return package.get("README.md")

    assert asyncio.run(read()) == trio.run(read) == b"# A dataset\n"


def test_what_was_closed_is_opened_again(package: Package) -> None:
    package.get("README.md")
    close_contexts()
    assert package.get("README.md") == b"# A dataset\n"
    assert current_context() is current_context()


def test_a_program_that_never_closes_anything_ends(tmp_path: Path) -> None:
    program = "from fusepkg import Package; package = Package('local/small:v1'); print(package.readme())"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "# A dataset\n\n"
    assert "Warning" not in done.stderr
