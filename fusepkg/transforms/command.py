"""A command as the function of a transform: ``resize {in} {out}``."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

IN, OUT = "{in}", "{out}"

_PROGRAM_BYTES = 16 << 20
"""Largest file named in a command that counts as its code."""


class CommandFailed(Exception):
    """The command ended with another code than 0, or wrote nothing."""


@dataclass(frozen=True)
class Command:
    """Runs words with ``{in}`` and ``{out}`` in them. Pickles.

    One entry: ``{in}`` is a file, ``{out}`` a path for a file, or for a directory of several. Many: both are
    directories, with the entries by their names. ``suffix`` takes the place of the ending of names.
    """

    words: tuple[str, ...]
    suffix: str = ""

    def check(self) -> None:
        """Raise UsageError for a command that reads or writes nothing."""
        text = " ".join(self.words)
        for place in (IN, OUT):
            if place not in text:
                raise UsageError(f"the command has no {place}", hint="Write, for example: -- convert {in} {out}")

    def transform_identity(self) -> tuple[str, str]:
        """Return name and code: the words, and the content of files among them."""
        code = [*self.words, self.suffix]
        for word in self.words:
            path = Path(word)
            if path.is_file() and path.stat().st_size <= _PROGRAM_BYTES:
                code.append(hashlib.sha256(path.read_bytes()).hexdigest())
        return " ".join(self.words), "\0".join(code)

    def __call__(self, what: Any) -> dict[str, Any]:  # noqa: ANN401 - an entry, or a list of them
        """Run it over an entry, or over many."""
        entries = what if isinstance(what, list) else [what]
        with tempfile.TemporaryDirectory(prefix="fusepkg-command-") as scratch:
            source, out = Path(scratch, "in"), Path(scratch, "out")
            source.mkdir()
            out.mkdir()
            for entry in entries:
                path = source / entry.logical_key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(entry.get_bytes())
            if isinstance(what, list):
                self._run(source, out)
                return dict(_found(out, "", {}))
            target = out / self._renamed(Path(what.logical_key).name)
            self._run(source / what.logical_key, target)
            directory = what.logical_key.rpartition("/")[0]
            if target.is_dir():
                return dict(_found(target, directory, what.meta))
            return dict(_found(out, directory, what.meta))

    def _renamed(self, name: str) -> str:
        return str(Path(name).with_suffix(self.suffix)) if self.suffix else name

    def _run(self, source: Path, out: Path) -> None:
        words = [word.replace(IN, os.fspath(source)).replace(OUT, os.fspath(out)) for word in self.words]
        if shutil.which(words[0]) is None:
            raise CommandFailed(f"there is no command {words[0]!r}")
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise CommandFailed(f"exit code {done.returncode}{f': {said[-1][:300]}' if said else ''}")


def _found(directory: Path, below: str, meta: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise CommandFailed("it wrote nothing to {out}")
    for path in files:
        name = path.relative_to(directory).as_posix()
        yield f"{below}/{name}" if below else name, (path.read_bytes(), meta)
