"""Readers: forked processes that start together and time only their own loops."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from bench.workload import Loop

LOOK_EVERY_S = 0.3
"""How often ``meanwhile`` is called: often enough to see a peak of memory, too seldom to cost a reader anything."""

_PR_SET_PDEATHSIG = 1

_fork = multiprocessing.get_context("fork")


class ReaderFailed(Exception):
    """A reader ended with an error; the message is its."""


@dataclass(frozen=True, slots=True)
class Timing:
    """``work`` of all readers together, done between the first one's start and the last one's end."""

    work: float
    seconds: float

    @property
    def rate(self) -> float:
        """Work per second."""
        return self.work / self.seconds


def run_readers(loops: Sequence[Loop], meanwhile: Callable[[], object] = lambda: None) -> Timing:
    """Run each loop in a process of its own, all from one moment on. Raises ReaderFailed.

    The readers prepare first, then wait at a pipe; closing its other end starts them all.
    """
    gate_read, gate_write = os.pipe()
    readers = []
    try:
        for loop in loops:
            ours, theirs = _fork.Pipe()
            process = _fork.Process(target=_run, args=(loop, theirs, gate_read, gate_write), daemon=True)
            process.start()
            theirs.close()
            readers.append((process, ours))
        pipes = [ours for _, ours in readers]
        for pipe in pipes:
            _receive(pipe)
        os.close(gate_write)
        gate_write = -1
        waiting = list(pipes)
        while waiting:
            arrived = wait(waiting, LOOK_EVERY_S)
            waiting = [pipe for pipe in waiting if pipe not in arrived]
            if waiting and not arrived:
                meanwhile()
        spans = [_receive(pipe) for pipe in pipes]
    finally:
        os.close(gate_read)
        if gate_write >= 0:
            os.close(gate_write)
        for process, pipe in readers:
            pipe.close()
            process.kill()
            process.join()
            process.close()
    seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    return Timing(sum(work for _, _, work in spans), seconds)


def _receive(pipe: Connection) -> tuple[float, float, float]:
    try:
        answer = pipe.recv()
    except EOFError as exc:
        raise ReaderFailed("a reader was killed") from exc
    if isinstance(answer, str):
        raise ReaderFailed(answer)
    span: tuple[float, float, float] = answer
    return span


def _run(loop: Loop, pipe: Connection, gate_read: int, gate_write: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # the parent cleans up, a reader just ends
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # and does not outlive a parent that was killed
    try:
        os.close(gate_write)
        work = loop()
        gc.collect()
        gc.disable()
        pipe.send((0.0, 0.0, 0.0))
        os.read(gate_read, 1)
        start = time.monotonic()
        done = work()
        pipe.send((start, time.monotonic(), done))
    except Exception as exc:  # noqa: BLE001  # the parent reports it, whatever it is
        pipe.send(f"{type(exc).__name__}: {exc}")
