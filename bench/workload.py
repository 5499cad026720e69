"""What is read: trees of files, and the loops that walk and read them.

A ``Loop`` is called in the reader's own process: it prepares (encodes paths) and gives a function, which does the work
and says how much that was. A loop that finds fewer bytes than there are raises: a broken mount must not look fast.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Loop = Callable[[], Callable[[], float]]
"""Prepares, then gives what is timed; that returns the work done, in the row's unit."""

MIB = 1024 * 1024
SMALL_FILE_BYTES = 10 * 1024
"""An image of a training set, or a record: the size at which every cost per file shows."""

READ_BYTES = 64 * 1024
"""What one read(2) of a small file asks for."""

LARGE_READ_BYTES = MIB
"""What one read(2) of a large file asks for."""


BUDGET_S = 10.0
"""A reader of what was read before stops after this, and its rate counts as it is: some peers would take minutes."""


class WrongBytes(Exception):
    """A reader did not find what had been written."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Files of one size, by their paths in the tree."""

    paths: tuple[str, ...]
    file_bytes: int


def write_tree(root: Path, *, directories: int, files: int, file_bytes: int = SMALL_FILE_BYTES) -> Tree:
    """Write ``files`` small files of random bytes, spread over ``directories``."""
    paths = tuple(f"d{number % directories:03}/f{number:06}" for number in range(files))
    for number in range(directories):
        (root / f"d{number:03}").mkdir(parents=True)
    for path in paths:
        file = os.open(f"{root}/{path}", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(file, os.urandom(file_bytes))
        os.close(file)
    return Tree(tuple(sorted(paths)), file_bytes)


def write_large(root: Path, size: int) -> Tree:
    """Write one file of random bytes."""
    root.mkdir(parents=True)
    with (root / "large").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    return Tree(("large",), size // MIB * MIB)


def walk(directory: Path, tree: Tree) -> Loop:
    """Every directory listed, every file's stat taken; the work is files."""

    def prepare() -> Callable[[], float]:
        top = os.fsencode(directory)
        return lambda: expect(_walk(top), len(tree.paths), "files")

    return prepare


def read_files(directory: Path, tree: Tree, readers: int, budget_s: float = math.inf) -> list[Loop]:
    """Each reader opens, reads and closes every ``readers``-th file, in order; the work is files."""

    def loop_over(paths: Sequence[str]) -> Loop:
        def prepare() -> Callable[[], float]:
            places = [os.fsencode(directory / path) for path in paths]

            def work() -> float:
                files, found = _read_all(places, READ_BYTES, budget_s)
                expect(found, files * tree.file_bytes, "bytes")
                return files

            return work

        return prepare

    return [loop_over(tree.paths[number::readers]) for number in range(readers)]


def read_large(directory: Path, tree: Tree) -> list[Loop]:
    """One reader reads the one file; the work is MB (10**6 bytes)."""

    def prepare() -> Callable[[], float]:
        places = [os.fsencode(directory / path) for path in tree.paths]
        return lambda: expect(_read_all(places, LARGE_READ_BYTES)[1], len(places) * tree.file_bytes, "bytes") / 1e6

    return [prepare]


def _walk(top: bytes) -> int:
    found = 0
    for directory, _, names in os.walk(top):
        for name in names:
            os.stat(directory + b"/" + name)
        found += len(names)
    return found


def _read_all(places: Sequence[bytes], size: int, budget_s: float = math.inf) -> tuple[int, int]:
    """Files and bytes read within the budget."""
    files = found = 0
    end = time.monotonic() + budget_s
    for place in places:
        file = os.open(place, os.O_RDONLY)
        while data := os.read(file, size):
            found += len(data)
        os.close(file)
        files += 1
        if time.monotonic() > end:
            break
    return files, found


def expect(found: int, wanted: int, what: str) -> int:
    """Give ``found`` back. Raises WrongBytes unless it is what was wanted."""
    if found != wanted:
        raise WrongBytes(f"found {found} {what}, not {wanted}")
    return found
