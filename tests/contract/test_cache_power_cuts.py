"""Clauses 6 and 7 of ``cache/README.md``: what a power cut, a lost file or a careless copy leaves of a busy cache."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.cache.busy import BUSY
from tests.unit.cache.namespace import ROOT, in_namespace

CHECK = """
import sys, time
from pathlib import Path
from fusepkg_cache import Cache
from tests.unit.cache.blobs import LARGE, SMALL, blob
from tests.unit.cache.evicting import shrink

told = [tuple(map(int, line.split())) for line in Path(sys.argv[2]).read_text().splitlines()]
found = 0
with Cache(Path(sys.argv[1])) as cache:
    while not cache.info().complete:  # an index that was lost is made again in the background
        time.sleep(0.01)
    for size, seed in told:
        digest, data = blob(size, seed)
        got = cache.get(digest)
        assert got in (None, data)
        found += got is not None
    for size in (SMALL, LARGE):
        digest, data = blob(size, -1)
        cache.put(digest, data)
        assert cache.get(digest) == data
    cache.verify(repair=True)
    again = cache.verify()
    assert again.ok and not again.missing and not again.unrecorded
    assert (cache.info().blobs, cache.info().bytes) == (again.blobs, again.bytes), (cache.info(), again)
    shrink(cache, LARGE)
    cache.clear()
print(found)
"""
"""In a process of its own, as after a restart."""


COPIES = 2


def copy(source: Path, target: Path) -> None:
    """As it is at that moment; files may vanish meanwhile, and the index has holes."""
    subprocess.run(["cp", "-r", "--sparse=always", source, target], check=False, capture_output=True)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Copies of a cache, file by file, while four threads write to it; beside each what had been put by then."""
    place = tmp_path_factory.mktemp("copies")
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(place / "busy"), "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as busy:
        assert busy.stdout is not None
        told: list[str] = []
        for number in range(COPIES):
            told += [busy.stdout.readline() for _ in range(25)]
            copy(place / "busy", place / f"copy-{number}")
            (place / f"copy-{number}.told").write_text("".join(told))
        busy.kill()
        busy.stdout.read()
    yield place
    shutil.rmtree(place)


def as_it_is(left: Path, chance: random.Random) -> None:
    pass


def cut_off(left: Path, chance: random.Random) -> None:
    for path in sorted(path for path in left.rglob("*") if path.is_file()):
        if chance.random() < 0.3:
            path.chmod(0o600)
            os.truncate(path, chance.randrange(min(path.stat().st_size, 2 << 20) + 1))


def without_locks(left: Path, chance: random.Random) -> None:
    for name in ("lock", "claims"):
        (left / "v2" / name).unlink(missing_ok=True)


def without_index(left: Path, chance: random.Random) -> None:
    (left / "v2" / "index").unlink()


def with_garbage(left: Path, chance: random.Random) -> None:
    with (left / "v2" / "index").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for at in [chance.randrange(4096), *(size - chance.randrange(1 << 14) for _ in range(20))]:
            file.seek(at)
            file.write(chance.randbytes(64))


def with_an_old_index(left: Path, chance: random.Random) -> None:
    """What the file system remembers of the index is older than what it remembers of the blobs."""
    (left / "v2" / "index").unlink()
    copy(left.parent / "copy-0" / "v2" / "index", left / "v2" / "index")


@pytest.mark.parametrize("number", range(COPIES))
@pytest.mark.parametrize(
    "lose",
    [as_it_is, cut_off, without_locks, without_index, with_garbage, with_an_old_index],
    ids=lambda lose: lose.__name__,
)
def test_7_what_is_left_is_right(copies: Path, number: int, lose: Callable[[Path, random.Random], None]) -> None:
    left = copies / f"{lose.__name__}-{number}"
    copy(copies / f"copy-{number}", left)
    lose(left, random.Random(number))
    done = subprocess.run(
        [sys.executable, "-c", CHECK, left, copies / f"copy-{number}.told"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    if lose in (as_it_is, without_locks):
        assert int(done.stdout) > 0


def test_7_a_power_cut(tmp_path: Path) -> None:
    """The disk of a busy cache is copied at one moment, and the copy mounted: what had not reached it is gone."""
    (tmp_path / "busy.py").write_text(BUSY)
    found = in_namespace(
        tmp_path,
        "truncate -s 600m image && mkfs.ext4 -q image && mount -o loop,commit=1 image disk && mkdir again",
        f"""
import signal, subprocess, sys, time
busy = subprocess.Popen([sys.executable, "busy.py", "disk/cache", "0"], stdout=subprocess.PIPE, text=True)
outcomes = []
told = []
for cut in range(3):
    told += [busy.stdout.readline() for _ in range(60)]
    if cut == 1:  # what the kernel does by itself within half a minute; the cache never does
        subprocess.run(["sync", "-f", "disk"], check=True)
        reached = len(told)
    busy.send_signal(signal.SIGSTOP)
    subprocess.run(["cp", "--sparse=always", "image", "copy"], check=True)
    busy.send_signal(signal.SIGCONT)
    Path("told").write_text("".join(told))
    subprocess.run(["mount", "-o", "loop", "copy", "again"], check=True)
    check = subprocess.run([sys.executable, "-c", {CHECK!r}, "again/cache", "told"], capture_output=True, text=True)
    subprocess.run(["umount", "again"], check=True)
    outcomes.append([check.returncode, check.stdout, check.stderr[-2000:]])
busy.kill()
busy.wait()
print(json.dumps(dict(outcomes=outcomes, reached=reached)))
""",
    )
    outcomes = found["outcomes"]
    assert isinstance(outcomes, list)
    assert [code for code, _, _ in outcomes] == [0] * 3, outcomes
    assert int(outcomes[-1][1]) >= found["reached"], "what had reached the disk is there"  # type: ignore[operator]
