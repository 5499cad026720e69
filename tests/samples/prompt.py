"""Runs the samples of the use cases as they are written: at a Python prompt, and in a shell.

A transcript has lines that start with ``> `` (typed at the prompt, with ``... `` for what goes on below) or ``$ `` (in
a shell), each followed by what is shown then. What is typed with nothing shown below it must say nothing either; a
value that a prompt would show is only looked at where the transcript shows one. Hashes differ from run to run. Lines
with ``#### `` are the document's headings.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.command import run_fusepkg

_HASHES = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{9}|[0-9a-f]{7})\b|(?<=HASH_PREFIX=)[0-9a-f]{2}")
_COLUMNS = re.compile(r" +-> +")
_FROM_ELSEWHERE = re.compile(r"otherbucket|val2017/")
_NAME = re.compile(r"(?<![\w./-])bucket/")


@dataclass
class Samples:
    """Where samples run: ``bucket`` of the document is the real one, or on ``local`` the embedded registry."""

    place: str
    data_dir: Path
    names: dict[str, Any] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """The text with the names of this place; on `local`, without what comes from another bucket."""
        if self.place == "s3":
            return text
        lines = [line for line in text.splitlines() if not _FROM_ELSEWHERE.search(line)]
        return _NAME.sub("local/", "\n".join(lines).replace("s3://bucket/", f"file://{self.data_dir}/local/"))

    def python(self, transcript: str) -> None:
        """Type at the prompt, and compare."""
        for typed, shown in _steps(self.here(transcript), "> ", "... "):
            said = self._run(typed, wants_value=bool(shown))
            assert _plain(said) == _plain(shown), f"{typed}\n{said}"

    def shell(self, transcript: str) -> None:
        """Run commands, ``quilt`` being ours, and compare what they write to standard output, or their error."""
        for typed, shown in _steps(self.here(transcript), "$ quilt ", "\0"):
            done = run_fusepkg(*shlex.split(typed), check=False)
            said = done.stderr if done.returncode > 1 else done.stdout
            assert _plain(said) == _plain(shown), f"{typed}\n{said}\n{done.stderr}"

    def _run(self, typed: str, *, wants_value: bool) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            try:
                try:
                    code = compile(typed, "<prompt>", "eval")
                except SyntaxError:
                    exec(compile(typed, "<prompt>", "exec"), self.names)
                else:
                    value = eval(code, self.names)
                    if wants_value and value is not None:
                        print(repr(value))
            except Exception as exc:
                if not wants_value:
                    raise
                print(f"Exception: {exc}")
        return said.getvalue()


def _steps(transcript: str, first: str, further: str) -> list[tuple[str, str]]:
    steps: list[tuple[list[str], list[str]]] = []
    for line in transcript.strip("\n").splitlines():
        if line.startswith(first):
            steps.append(([line.removeprefix(first)], []))
        elif line.startswith("#### "):
            continue
        elif line.startswith(further):
            steps[-1][0].append(line.removeprefix(further))
        else:
            steps[-1][1].append(line)
    return [("\n".join(typed), "\n".join(shown).strip("\n")) for typed, shown in steps]


def _plain(text: str) -> str:
    return _COLUMNS.sub(" -> ", _HASHES.sub("<hash>", text)).strip("\n")
