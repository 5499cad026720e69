from __future__ import annotations

import hashlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from bench.readers import ReaderFailed, run_readers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_all_start_when_all_are_prepared_and_their_work_is_gathered(tmp_path: Path) -> None:
    def reader(number: int) -> Callable[[], Callable[[], float]]:
        def prepare() -> Callable[[], float]:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1 + number * 200_000)  # the later, the slower
            (tmp_path / f"prepared-{number}").touch()
            return lambda: len(list(tmp_path.glob("prepared-*")))

        return prepare

    assert run_readers([reader(number) for number in range(4)]).work == 4 * 4


def test_a_reader_that_fails_fails_the_row_with_its_reason() -> None:
    def fail() -> float:
        raise ValueError("no such bytes")

    with pytest.raises(ReaderFailed, match="ValueError: no such bytes"):
        run_readers([lambda: lambda: 1.0, lambda: fail])


def test_one_that_cannot_even_prepare_starts_nobody() -> None:
    def prepare() -> Callable[[], float]:
        raise OSError("no directory")

    with pytest.raises(ReaderFailed, match="no directory"):
        run_readers([lambda: lambda: 1.0, prepare])


def test_a_reader_that_is_killed_fails_the_row() -> None:
    def die() -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    with pytest.raises(ReaderFailed, match="killed"):
        run_readers([lambda: die])
