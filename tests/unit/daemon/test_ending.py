"""Starts that are interrupted: what they had begun is undone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fusepkg.daemon.ending import ending_signals, signals_unwind
from fusepkg.work.scratch import scratch_directory


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_start_that_is_ended_removes_the_manifest_it_was_fetching(tmp_path: Path, number: signal.Signals):
    before = signal.signal(number, signal.default_int_handler)  # a run under nohup ignores SIGHUP

    def start() -> None:
        with signals_unwind(), scratch_directory(tmp_path / "index", "manifest-") as scratch:
            (scratch / "manifest.jsonl").touch()
            os.kill(os.getpid(), number)

    try:
        with pytest.raises(SystemExit) as caught:
            start()
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert caught.value.code == 128 + number
    assert list((tmp_path / "index").iterdir()) == []


def test_under_nohup_a_hangup_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in ending_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
