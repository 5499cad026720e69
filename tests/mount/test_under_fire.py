"""Mounts that are killed, switched, and fed by a bucket at its worst, while programs compare every byte.

Each is short in `make test`, and goes on for two minutes with eight programs in `make stress`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from fusepkg.errors import ControlError, SwitchUnderWay
from tests.command import run_fusepkg
from tests.mount.comparing import comparing
from tests.mount.mounting import mounted
from tests.mount.test_supervision import local, record_of
from tests.mount.test_switching import switch, wait_until
from tests.proxy import SLOW_DOWN, Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.mount.comparing import Seen
    from tests.mount.conftest import Originals
    from tests.mount.mounting import Mount
    from tests.mount.places import Bucket, Place
    from tests.proxy.plan import Request

pytestmark = pytest.mark.fuse

__all__ = ["local"]

SOAK_S = 120.0
PROGRAMS = 8
SWITCH_S = 0.2


def report(what: str, seen: Seen, more: str = "") -> None:
    """Print figures; `make stress` shows them with -s."""
    print(f"\n{what}: {seen.files:,} files, {seen.bytes / 1e9:.2f} GB compared, {len(seen.errors)} errors{more}")


class Killer:
    """Kills the processes of a mount: the worker, and every third time the supervisor."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self.kills = 0

    def kill(self) -> None:
        record = record_of(self._mount)
        is_supervisor_s_turn = self.kills % 3 == 1 and record.supervisor is not None
        with suppress(ProcessLookupError):  # it was killed before, and the next one is not there yet
            os.kill(record.supervisor if is_supervisor_s_turn else record.pid, signal.SIGKILL)
            self.kills += 1

    def kill_every_second(self, stop: threading.Event) -> None:
        """Kill until ``stop`` is set."""
        while not stop.wait(1):
            self.kill()

    def kill_and_wait(self) -> None:
        """Kill, and wait for the next one."""
        before, kills = record_of(self._mount), self.kills
        self.kill()
        assert self.kills == kills + 1

        def is_replaced() -> bool:
            now = record_of(self._mount)
            return (now.pid, now.supervisor) != (before.pid, before.supervisor) and now.supervisor is not None

        wait_until(is_replaced, "what was killed is replaced")


@contextmanager
def killing_every_second(killer: Killer) -> Iterator[None]:
    """Kill while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=killer.kill_every_second, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_killed_again_and_again(local: Place, engine: str, originals: Originals, tmp_path: Path):
    """kill -9 of worker and supervisor again and again: programs that compare every byte see no error."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        killer = Killer(mount)
        with comparing(2, mount.root, originals.small) as seen:
            for _ in range(3):
                killer.kill_and_wait()
        assert (seen[0].wrong, seen[0].errors) == ((), ())
        assert seen[0].files > 10


@pytest.mark.stress
def test_killed_every_second(local: Place, engine: str, originals: Originals, tmp_path: Path):
    """The same every second for two minutes, with eight programs."""
    with mounted(local.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        killer = Killer(mount)
        with comparing(PROGRAMS, mount.root, originals.small) as seen, killing_every_second(killer):
            time.sleep(SOAK_S)
        report(f"{engine}, {killer.kills} kills", seen[0])
        assert (seen[0].wrong, seen[0].errors) == ((), ())
        assert killer.kills > SOAK_S / 2


def switch_by_the_clock(mount: Mount, seconds: float) -> int:
    """Switch to and fro so often as ``SWITCH_S`` says; return how often a command said that it has."""
    start = due = time.monotonic()
    switches = 0
    while due < start + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + SWITCH_S, time.monotonic())
        with suppress(ControlError, SwitchUnderWay):  # three processes in a row were killed over it
            switch(mount, "v1" if switches % 2 else "v2")
            switches += 1
    return switches


@pytest.mark.stress
@pytest.mark.s3
def test_killed_and_switched(
    bucket: Bucket, engine: str, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same with a switch every 200 ms: each file is wholly of one version, and only what a killed process was
    fetching is fetched twice."""
    use(bucket, monkeypatch)
    with mounted(bucket.reference("small:v1"), tmp_path / "m", engine, "--supervise") as mount:
        killer = Killer(mount)
        with comparing(PROGRAMS, mount.root, originals.small, originals.later) as seen, killing_every_second(killer):
            switches = switch_by_the_clock(mount, SOAK_S)
        fetched = [request.key for request in bucket.data_requests() if request.method == "GET"]
        again = len(fetched) - len(set(fetched))
        report(f"{engine}, {killer.kills} kills, {switches} switches", seen[0], f", {len(fetched)} GETs, {again} again")
        assert (seen[0].wrong, seen[0].errors) == ((), ())
        assert switches > 5
        assert again <= killer.kills


def use(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.settings.items():
        monkeypatch.setenv(name, value)
    bucket.proxy.heal()
    bucket.proxy.forget()


class Spoiled:
    """A bucket of which a share of all answers with data is throttled, and a share has a wrong byte."""

    def __init__(self, bucket: Bucket, throttled: float, corrupted: float) -> None:
        self._chance = random.Random(11)
        self.throttled = bucket.proxy.fail(SLOW_DOWN, when=self._one_in(throttled), times=None)
        self.corrupted = bucket.proxy.fail(Corrupt(), when=self._one_in(corrupted), times=None)

    def _one_in(self, share: float) -> Callable[[Request], bool]:
        def is_taken(request: Request) -> bool:
            data = ("big/", "small/", ".quilt/packs/data/")
            is_data = request.operation == "GetObject" and request.key.startswith(data)
            return is_data and self._chance.random() < share

        return is_taken


def read_from_spoiled(
    mount: Mount, bucket: Bucket, original: Path, spoiled: Spoiled, programs: int, soak_s: float
) -> Seen:
    """Let programs read for so long (0: until an answer was wrong); what is cached is removed again and again."""
    end = time.monotonic() + soak_s
    with comparing(programs, mount.root, original) as seen:
        while time.monotonic() < end or (soak_s == 0 and spoiled.corrupted.hits < 1):
            run_fusepkg("cache", "clear")
            time.sleep(0.1)
        bucket.proxy.heal()
    assert seen[0].wrong == ()
    assert mount.counters["wrong_answers"] == spoiled.corrupted.hits
    return seen[0]


@pytest.mark.s3
def test_a_bucket_at_its_worst(
    bucket: Bucket, engine: str, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While a bucket throttles and corrupts answers, programs get right bytes or EIO; each wrong answer is counted."""
    use(bucket, monkeypatch)
    with mounted(bucket.reference("small:v1"), tmp_path / "m", engine) as mount:
        spoiled = Spoiled(bucket, 0.3, 0.2)
        seen = read_from_spoiled(mount, bucket, originals.small, spoiled, 2, 0)
        assert seen.files > 10


@pytest.mark.stress
@pytest.mark.s3
def test_a_bucket_at_its_worst_for_long(
    bucket: Bucket, engine: str, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same for two minutes with eight programs: 30 % throttled, 1 % corrupted."""
    use(bucket, monkeypatch)
    # The large package: a mount holds 32 MiB of what is being read in memory, where clearing the cache does not reach.
    with mounted(bucket.reference("big:v1"), tmp_path / "m", engine) as mount:
        spoiled = Spoiled(bucket, 0.3, 0.01)
        seen = read_from_spoiled(mount, bucket, originals.big, spoiled, PROGRAMS, SOAK_S)
        report(
            f"{engine}, {spoiled.throttled.hits} answers throttled, {spoiled.corrupted.hits} corrupted",
            seen,
            f", {len(bucket.data_requests())} GETs",
        )
        assert spoiled.corrupted.hits > 0
