from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.failed import SubjectFailed
from bench.memory import CpuMeter, memory_of, own_process, processes_of_mount

BUSY = "import time; end = time.process_time() + 0.05\nwhile time.process_time() < end: pass"


def test_the_cpu_of_a_child_that_has_ended_counts() -> None:
    meter = CpuMeter(own_process(os.getpid()))
    before = meter.seconds()
    subprocess.run([sys.executable, "-S", "-c", BUSY], check=True)
    assert meter.seconds() - before >= 0.03  # counted in hundredths


def test_a_process_that_is_lost_makes_no_figure() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as lost:
        meter = CpuMeter(own_process(lost.pid))
        lost.communicate()
    with pytest.raises(SubjectFailed, match="not known"):
        meter.seconds()


def test_a_subject_without_a_process_costs_not_nothing() -> None:
    with pytest.raises(SubjectFailed, match="no process"):
        CpuMeter(list)


def test_workers_and_supervisors_in_sessions_of_their_own_are_found() -> None:
    environ = {**os.environ, "FUSEPKG_CACHE_DIR": "/a/cache/of/this/test"}
    started = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=environ, start_new_session=True) for _ in range(2)]
    try:
        found = processes_of_mount(started[0].pid, "FUSEPKG_CACHE_DIR=/a/cache/of/this/test")
        assert found == sorted(one.pid for one in started)
    finally:
        for one in started:
            one.communicate()


def test_memory_without_file_pages_is_less_than_all() -> None:
    found = memory_of([os.getpid()])
    assert 0 < found["nofile"] < found["rss"]
