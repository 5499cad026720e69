"""Everyday programs: ``ls -lR``, ``find`` and ``grep -r`` on a source tree and on a million names, ``cp -r``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine, workload
from bench.beside_folder import beside_folder, in_sessions
from bench.failed import SubjectFailed
from bench.manifests import synthetic_entries, synthetic_names
from bench.processes import run_program
from bench.rows import Row, Run, in_order_of_round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import ExitStack

    from bench.rows import Measure
    from bench.subjects.subject import Subject
    from bench.workload import Loop

NO_SUCH_WORDS = "no such words " + "here"
"""In two pieces, as this file may lie in the tree that is searched."""

LS = ["ls", "-lR"]
FIND = ["find", ".", "-type", "f"]
GREP = ["grep", "-rc", NO_SUCH_WORDS, "."]
"""Prints a line for each file, so that it can be seen that all were read."""

SOURCE_FILES = 30_000
NAMES = 1_000_000
TINY_FILES, TINY_BYTES, DIRECTORIES = 200_000, 100, 1_000


def programs(run: Run, _stack: ExitStack) -> Measure:
    """``ls -lR``, ``find`` and ``grep -r``, warm, on a source tree: ``--sources`` or Python's standard library."""
    source = run.scratch / "source"
    origin = run.sources or Path(sysconfig.get_path("stdlib"))
    count = _copy_sources(origin, source, run.scaled(SOURCE_FILES))
    where = f"{count:,} files of {origin.name}"
    rows = [
        Row(f"programs.{key}", f"{title}, warm, {where}", "files/s", partial(_running, command=command, count=count))
        for key, title, command in (("ls", "ls -lR", LS), ("find", "find", FIND), ("grep", "grep -r", GREP))
    ]
    reading = partial(_running, command=GREP, count=count)
    warm = Row("programs.read", f"grep -r, the first time, {where}", "files/s", reading, once=True)
    return in_sessions(run, beside_folder(run, source), [warm, *rows])


def names(run: Run, _stack: ExitStack) -> Measure:
    """``find`` and ``ls -lR`` on a million names, the caches dropped before, and again."""
    source = run.scratch / "names"
    count = run.scaled(NAMES)
    _write_empty(source, synthetic_names(count))
    rows = [
        Row(
            f"names.{key}.{when}",
            f"{title}, {count:,} files, {words}",
            "files/s",
            partial(_running, command=command, count=count),
            drops,
            once=True,
        )
        for key, title, command in (("find", "find", FIND), ("ls", "ls -lR", LS))
        for when, words, drops in (("first", "caches dropped", machine.ALL), ("again", "again", 0))
    ]
    return in_sessions(run, beside_folder(run, source, synthetic_entries(count)), rows)


def copying(run: Run, _stack: ExitStack) -> Measure:
    """``cp -r`` of many tiny files onto the disk, the caches dropped before."""
    source = run.scratch / "tiny"
    count = run.scaled(TINY_FILES)
    workload.write_tree(source, directories=min(DIRECTORIES, count), files=count, file_bytes=TINY_BYTES)
    subjects = beside_folder(run, source)
    run.results.add_row("copy.first", f"cp -r of {count:,} files of {TINY_BYTES} bytes", "files/s")

    def measure(number: int) -> None:
        for subject in in_order_of_round(subjects, number):
            with run.attempt(f"{subject.name}, copy.first"):
                _copy(run, subject, count, number)

    return measure


def _copy(run: Run, subject: Subject, count: int, number: int) -> None:
    with run.place() as place, subject.open(place) as opened:
        if not run.dry:
            run.forget_caches()
        load, target = machine.load(), place / "copy"
        seconds = run_program(["cp", "-r", str(opened.directory), str(target)], os.environ).seconds
        found = sum(len(files) for _, _, files in os.walk(target))
        if found != count:
            raise SubjectFailed(f"cp copied {found} files, not {count}")
        run.record_value("copy.first", subject.name, number, count / seconds, load)


def _write_empty(root: Path, keys: Iterable[str]) -> None:
    """Write empty files, one directory after another."""
    root.mkdir()
    last = ""
    for key in keys:
        directory = key.partition("/")[0]
        if directory != last:
            (root / directory).mkdir()
            last = directory
        os.close(os.open(f"{root}/{key}", os.O_CREAT | os.O_WRONLY, 0o644))


def _copy_sources(origin: Path, target: Path, limit: int) -> int:
    """Copy text files of a tree, at most ``limit``; return how many."""
    count = 0
    for path in sorted(origin.rglob("*")):
        if path.suffix not in (".py", ".c", ".h", ".S", ".rst", ".txt", ".dts", ".dtsi", ".yaml") or path.is_symlink():
            continue
        if "site-packages" in path.parts or not path.is_file():
            continue
        place = target / path.relative_to(origin)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        count += 1
        if count == limit:
            break
    return count


def _running(directory: Path, command: list[str], count: int) -> list[Loop]:
    """A program that prints at least a line for each file: a mount that gives fewer must not look fast."""

    def prepare() -> Callable[[], float]:
        def work() -> float:
            with tempfile.TemporaryFile(dir=directory.parent) as output:
                done = subprocess.run(command, cwd=directory, stdout=output, check=False)
                output.seek(0)
                lines = sum(part.count(b"\n") for part in iter(partial(output.read, workload.MIB), b""))
            if done.returncode > (1 if command[0] == "grep" else 0):
                raise SubjectFailed(f"{' '.join(command)} ended with {done.returncode}")
            if lines < count:
                raise SubjectFailed(f"{' '.join(command)} printed {lines} lines for {count} files")
            return count

        return work

    return [prepare]
