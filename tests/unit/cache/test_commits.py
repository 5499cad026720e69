from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fusepkg_cache import CacheClosed
from fusepkg_cache.changes import Changes
from fusepkg_cache.commits import BATCH_BYTES, Commits
from fusepkg_cache.environment import Environment
from fusepkg_cache.layout import prepare


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(prepare(tmp_path / "cache"))
    yield environment
    environment.close()


@pytest.fixture
def commits(environment: Environment) -> Iterator[Commits]:
    commits = Commits(environment)
    yield commits
    commits.close()


def transactions(environment: Environment) -> int:
    return environment._lmdb().info()["last_txnid"]


def put(changes: Changes, number: int) -> int:
    changes.put_small(b"%d" % number, b"12345678value")
    return number


class Held:
    """Keeps the writer busy with one change until it is let go."""

    def __init__(self, commits: Commits, pool: ThreadPoolExecutor) -> None:
        self._busy, self._go_on = threading.Event(), threading.Event()
        self.done = pool.submit(commits.change, self._wait)
        self._busy.wait()

    def _wait(self, changes: Changes) -> None:
        put(changes, -1)
        self._busy.set()
        self._go_on.wait()

    def let_go(self, commits: Commits, waiting: int) -> None:
        while len(commits._queue) < waiting:
            pass
        self._go_on.set()


def test_a_change_returns_what_was_made(commits: Commits) -> None:
    assert commits.change(lambda changes: put(changes, 7)) == 7


def test_changes_that_wait_share_one_transaction(environment: Environment, commits: Commits) -> None:
    with ThreadPoolExecutor(9) as pool:
        held = Held(commits, pool)
        before = transactions(environment)
        waiting = [pool.submit(commits.change, lambda changes, n=n: put(changes, n)) for n in range(8)]
        held.let_go(commits, 8)
        assert [future.result() for future in waiting] == list(range(8))
    assert transactions(environment) - before == 2  # the one that was held, and one for the eight


def test_a_transaction_takes_a_bounded_amount(environment: Environment, commits: Commits) -> None:
    with ThreadPoolExecutor(9) as pool:
        held = Held(commits, pool)
        before = transactions(environment)
        waiting = [
            pool.submit(commits.change, lambda changes, n=n: put(changes, n), BATCH_BYTES // 2) for n in range(8)
        ]
        held.let_go(commits, 8)
        assert [future.result() for future in waiting] == list(range(8))
    assert transactions(environment) - before == 5


def test_a_change_that_fails_fails_alone(environment: Environment, commits: Commits) -> None:
    def fail(changes: Changes) -> None:
        put(changes, 100)
        raise ZeroDivisionError

    with ThreadPoolExecutor(9) as pool:
        held = Held(commits, pool)
        waiting = [pool.submit(commits.change, lambda changes, n=n: put(changes, n)) for n in range(3)]
        failing = pool.submit(commits.change, fail)
        held.let_go(commits, 4)
        assert [future.result() for future in waiting] == [0, 1, 2]
        with pytest.raises(ZeroDivisionError):
            failing.result()
    assert commits.change(lambda changes: changes.small(b"2")) is not None
    assert commits.change(lambda changes: changes.small(b"100")) is None


def test_closing_makes_what_waits_and_takes_no_more(environment: Environment, commits: Commits) -> None:
    with ThreadPoolExecutor(3) as pool:
        held = Held(commits, pool)
        waiting = pool.submit(commits.change, lambda changes: put(changes, 1))
        while not commits._queue:
            pass
        closing = pool.submit(commits.close)
        while not commits._closed:
            pass
        held.let_go(commits, 1)
        assert waiting.result() == 1
        closing.result()
    with pytest.raises(CacheClosed):
        commits.change(lambda changes: put(changes, 2))


def test_no_thread_runs_before_the_first_change(environment: Environment) -> None:
    commits = Commits(environment)
    assert commits._thread is None
    commits.close()
