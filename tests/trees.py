"""Real folders for tests to publish, always the same bytes under the same names."""

from __future__ import annotations

import os
import random
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

MIB = 1024 * 1024
CHUNK_BYTES = 8 * MIB
LARGE_BYTES = 9 * CHUNK_BYTES + 12_345
"""More than 64 MiB, not a whole number of chunks, pages or blocks."""

STRANGE_NAMES = (
    "with space", " leading space", "trailing space ", "hash#sign", "percent%sign", "percent%41encoded", "a+b",
    "what?", "this&that", "key=value", "semi;colon", "comma,", "colon:at@", "*star*", "[brackets]", "{braces}",
    "(parentheses)", "$dollar", "!bang", "~tilde", "`backquote`", "pipe|", "<angle>", "^caret", "back\\slash",
    "new\nline", "tab\tulator", "carriage\rreturn", "control\x01", "delete\x7f", "'single'", '"double"', "-dash",
    "--help",
    ".hidden", "..two-dots", "...", ".fusepkg", ".quilt", "CON", "UPPER", "upper", "a.", "0", "true", "null",
    unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café"), "日本語", "Ελληνικά", "עברית",
    "\U0001f600", "\U00010348 gothic", "zero\u200bwidth", "no\u00a0break", "line\u2028separator", "\ufeffbom",
    "\uff0e\uff0e",
    "i\u0307", "\u0130stanbul", "ﬃ ligature", "\ue000 private", "\U0010ffff last", "n" * 255, "ü" * 127,
)  # fmt: skip
"""Names of one file each; the last two are the longest a kernel takes."""

EDGE_SIZES = (0, 1, 2, 511, 512, 513, 4095, 4096, 4097, 8191, 8192, 8193, 65_535, 65_536, 65_537, 131_071, 131_072,
              131_073, MIB - 1, MIB, MIB + 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1)  # fmt: skip


def content(seed: object, size: int) -> bytes:
    """Bytes that do not compress, always the same for one seed."""
    return random.Random(f"{seed}").randbytes(size)


def small(root: Path) -> Path:
    """Fourteen files below ``root``: nested, empty, executable, linked, a strange name, a file of two chunks' size."""
    _write(root / "README.md", b"# A dataset\n")
    _write(root / "empty", b"")
    for split in ("train", "test"):
        for number in range(4):
            _write(
                root / split / f"class{number % 2}" / f"{number}.bin", content(f"{split}{number}", 1000 * number + 1)
            )
    _write(root / "a b" / "ü+%#.txt", "grüße\n".encode())
    _write(root / "large.bin", content("large", CHUNK_BYTES + 4097))
    _write(root / "run.sh", b"#!/bin/sh\necho it runs\n", mode=0o755)
    _write(root / "same.bin", content("train1", 1001))  # the bytes of train/class1/1.bin
    (root / "link").symlink_to("train/class1/1.bin")
    (root / "nothing-here").mkdir()
    return root


def everything(root: Path) -> Path:
    """More than 1,000 files and 150 MB below ``root``."""
    _many(root / "many")
    _names(root / "names")
    _sizes(root / "sizes")
    _links(root / "links")
    _deep(root / "deep")
    _programs(root)
    _database(root / "labels.sqlite")
    for number in range(20):
        _write(root / "duplicates" / f"{number}.bin", content("duplicate", 20_000))
    for directory in ("empty", "empty in empty/empty", " empty #+%"):
        (root / "directories" / directory).mkdir(parents=True)
    return root


def _write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _many(root: Path) -> None:
    """1,000 files like a training set's: 10 classes, a few hundred to a few thousand bytes each."""
    chooser = random.Random("many")
    for number in range(1000):
        name = f"class{number % 10:02}/img_{number:06}.jpg"
        _write(root / name, content(name, chooser.randrange(200, 4000)))


def _names(root: Path) -> None:
    """Each strange name as a file, and (where it is not too long to nest) as a directory with a file in it."""
    for number, name in enumerate(STRANGE_NAMES):
        _write(root / "files" / name, f"{number} {name!r}\n".encode())
        _write(root / "directories" / name / name, f"nested {number} {name!r}\n".encode())
    # Byte order, code point order, path order and the order of whole strings all differ on these.
    for name in ("a/b", "a b", "a!/x", "a-b", "a.b", "a0", "\uffee", "\U0001f601", "Z", "z"):
        _write(root / "order" / name, name.encode())


def _sizes(root: Path) -> None:
    for size in EDGE_SIZES:
        _write(root / f"{size:08}.bin", content(size, size))
    _write(root / "large.bin", content("large", LARGE_BYTES))
    _write(root / "zeros.bin", bytes(3 * MIB + 1))
    _write(root / "text.txt", b"the same line over and over\n" * 100_000)


def _links(root: Path) -> None:
    _write(root / "target" / "file.txt", b"linked to\n")
    (root / "to-file").symlink_to("target/file.txt")
    (root / "to-directory").symlink_to("target")
    (root / "target" / "up").symlink_to("../../sizes/00000001.bin")
    (root / "to-link").symlink_to("to-file")
    (root / "übers eck").symlink_to("./target/../target/file.txt")


def _deep(root: Path) -> None:
    path = root
    for level in range(60):
        path = path / f"level-{level}"
        if level % 10 == 0:
            _write(path / "file", f"at level {level}\n".encode())
    _write(path / "bottom", b"the bottom\n")


def _programs(root: Path) -> None:
    _write(root / "bin" / "hello", b'#!/bin/sh\necho "hello $1"\n', mode=0o755)
    _write(root / "bin" / "also executable.bin", content("program", 5000), mode=0o755)
    _write(root / "python" / "treepackage" / "__init__.py", b"from treepackage.answer import ANSWER\n")
    _write(root / "python" / "treepackage" / "answer.py", b"ANSWER = 42\n")
    _write(root / "python" / "treepackage" / "data.json", b'{"answer": 42}\n')


def _database(path: Path) -> None:
    """SQLite: 20,000 labels; random access, locks that a read-only tree must refuse kindly."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table labels (image text primary key, label integer)")
        rows = ((f"img_{number:06}.jpg", number % 40) for number in range(20_000))
        database.executemany("insert into labels values (?, ?)", rows)
    os.chmod(path, 0o644)
