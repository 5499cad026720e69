"""A PyTorch ``DataLoader`` with 4 workers over shuffled JPEG pictures: the folder, the mounts, and ``fusepkg.torch``.

Three epochs in one process, from empty caches on: the first fetches from a bucket 5 ms away, the others find what it
left.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from bench import machine
from bench.processes import run_program
from bench.remote import SEED, make_bucket
from bench.rows import in_order_of_round, usable
from bench.server import start_server, why_no_server
from bench.subjects import fusepkg
from bench.subjects.local import local
from bench.subjects.subject import Opened, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from bench.rows import Measure, Run
    from bench.server import Server

FILES, DIRECTORIES = 20_000, 100
WIDTH, HEIGHT = 500, 375
"""Of a common picture of ImageNet; ours have 100 KB, as those have."""

DISTINCT = 50
"""Pictures that are really different; the others are these with some bytes after their end."""

EPOCHS = 3
NEAR_MS = 5
KINDS = {"decoded": "decoded to 224 x 224", "bytes": "only read"}
BUCKET, PACKAGE = "bench-loader", "package"
REFERENCE = f"{BUCKET}/pictures:bench"


def decoded(run: Run, _stack: ExitStack) -> Measure:
    """Read pictures and decode them, as for training."""
    return _loading(run, "decoded")


def only_read(run: Run, _stack: ExitStack) -> Measure:
    """Read pictures and do nothing with them."""
    return _loading(run, "bytes")


def _loading(run: Run, kind: str) -> Measure:
    """Three epochs of each way to read the same pictures."""
    if reason := why_no_server() or _why_no_torch():
        run.results.skipped["dataloader"] = reason
        return lambda _: None
    there = run.once("pictures", partial(_set_up, run))
    settings = there.server.environment(NEAR_MS)
    mounts = (fusepkg.fusepkg(engine, REFERENCE, settings) for engine in fusepkg.ENGINES)
    subjects = usable(run, [local(there.source), *mounts, Subject(PACKAGE, _unmounted)])
    for epoch in range(1, EPOCHS + 1):
        run.results.add_row(
            f"loader.{kind}.{epoch}", f"epoch {epoch}, {there.count:,} files {KINDS[kind]}", "samples/s"
        )

    def measure(number: int) -> None:
        for subject in in_order_of_round(subjects, number):
            with run.attempt(f"{subject.name}, loader.{kind}"), run.place() as place, subject.open(place) as opened:
                where = REFERENCE if subject.name == PACKAGE else str(opened.directory)
                _epochs(run, subject.name, kind, where, there.count, number, fusepkg.environment(place, settings))

    return measure


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The server, the folder that was put there, and how many pictures are in it."""

    server: Server
    source: Path
    count: int


def _set_up(run: Run) -> _Pictures:
    source = run.scratch / "pictures"
    count = write_pictures(source, run.scaled(FILES))
    server = start_server(run.scratch / "s3-loader", run.stack, (0, NEAR_MS))
    make_bucket(server, BUCKET)
    with run.place() as home:
        fusepkg.run(fusepkg.environment(home, server.environment(0)), "push", source, REFERENCE)
    return _Pictures(server, source, count)


def write_pictures(root: Path, count: int) -> int:
    """Write so many JPEG files of some 100 KB, no two of them equal; return how many."""
    chance = Random(SEED)
    pictures = [_picture(chance) for _ in range(min(DISTINCT, count))]
    for number in range(count):
        path = root / f"d{number % DIRECTORIES:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures[number % len(pictures)] + number.to_bytes(8, "big"))
    return count


def _picture(chance: Random) -> bytes:
    """Coarse and fine noise: what a photograph of this size takes."""
    from PIL import Image

    coarse = Image.frombytes("RGB", (WIDTH // 8, HEIGHT // 8), chance.randbytes((WIDTH // 8) * (HEIGHT // 8) * 3))
    fine = Image.frombytes("RGB", (WIDTH, HEIGHT), chance.randbytes(WIDTH * HEIGHT * 3))
    written = io.BytesIO()
    Image.blend(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), fine, 0.16).save(written, "JPEG", quality=90)
    return written.getvalue()


def _epochs(run: Run, subject: str, kind: str, where: str, count: int, number: int, environ: dict[str, str]) -> None:
    run.forget_caches()
    load = machine.load()
    command = [sys.executable, "-W", "ignore", "-m", "bench.epochs", kind, where, str(count), str(EPOCHS)]
    rates = json.loads(run_program(command, environ).output.splitlines()[-1])
    for epoch, rate in enumerate(rates, 1):
        run.record_value(f"loader.{kind}.{epoch}", subject, number, rate, load)


@contextmanager
def _unmounted(place: Path) -> Iterator[Opened]:
    yield Opened(place)


def _why_no_torch() -> str:
    missing = [name for name in ("torch", "PIL") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} missing: .venv-heavy/bin/python -m bench has them" if missing else ""
