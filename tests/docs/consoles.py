"""Console blocks of the documents: found, run as they are printed, compared with what is printed below them.

A block to be run starts with ```` ```console run ````. Lines from ``$ `` on are commands (``> `` continues one), the
others what they print; ``...`` stands for anything, alone on a line for any lines. Commands of one document run in one
shell, in an empty home directory, which documents write as ``/home/ada``. They must end with 0; in a block marked
``fails=N`` the last one ends with N. Blocks marked ``s3`` need an S3 server with the bucket ``my-bucket``, those marked
``torch``, ``spark`` or ``dvc`` need PyTorch, PySpark or DVC.

    python -m tests.docs.consoles FILE...    prints each document with what its commands print here
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

TIMEOUT_S = 300.0
"""A document takes a twentieth of it on an idle machine."""

HOME = "/home/ada"
BUCKET = "my-bucket"

NEEDS = ("s3", "torch", "spark", "dvc")
"""What a block may need besides fusepkg."""

_MARK = "--- exit code"
_PYTHON = 'python() { if [ "$*" = - ]; then python-from-input; else command python "$@"; fi; }'
_FENCE = "```"

_DIFFERENT = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+Z| UTC|,\d+)"), "TIME"),
    (re.compile(r"\bprocess \d+"), "process N"),
    (re.compile(r"[\w.-]+@[\w.-]+(?=[\s\"])"), "USER@HOST"),
    (re.compile(r"^Engine: .*"), "Engine"),
    (re.compile(r"\b(erofs|fuse) engine"), "E engine"),
    (re.compile(r"\s(erofs|fuse)\s+(?=mounted)"), " E "),
    (re.compile(r"-[0-9a-f]{8}\.log"), "-N.log"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "ENDPOINT"),
    (re.compile(r"\s+"), " "),  # columns are aligned on a terminal only
)
"""What is not the same in two runs, and what stands for it."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command, the line of the document it starts on (from 1), what the document says it prints and ends with."""

    text: str
    line: int
    output: tuple[str, ...]
    exit_code: int
    need: str


@dataclass(frozen=True, slots=True)
class Ran:
    """A command and what it did."""

    command: Command
    output: tuple[str, ...]
    exit_code: int

    def difference(self) -> str:
        """How it differs from what the document says; empty if it does not."""
        if self.exit_code != self.command.exit_code:
            return f"ends with {self.exit_code} instead of {self.command.exit_code}"
        if not _pattern(self.command.output).fullmatch("".join(f"{_same(line)}\n" for line in self.output)):
            return "prints something else"
        return ""


def find_commands(document: Path) -> list[Command]:
    """All commands to be run, in order."""
    commands: list[Command] = []
    block: list[Command] | None = None
    words: list[str] = []
    need = ""
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if block is None:
            if line.startswith(f"{_FENCE}console run"):
                words, block = line.split()[2:], []
                need = next((word for word in NEEDS if word in words), "")
        elif line.startswith(_FENCE):
            commands += _with_exit_code(block, words)
            block = None
        elif line.startswith("$ "):
            block.append(Command(line[2:], number, (), 0, need))
        elif block and (line == ">" or line.startswith("> ")) and not block[-1].output:
            last = block.pop()
            block.append(Command(f"{last.text}\n{line[2:]}", last.line, (), 0, last.need))
        elif block:
            last = block.pop()
            block.append(Command(last.text, last.line, (*last.output, line), 0, last.need))
    return commands


def _with_exit_code(block: list[Command], words: list[str]) -> list[Command]:
    for word in words:
        name, _, value = word.partition("=")
        if name == "fails":
            last = block.pop()
            block.append(Command(last.text, last.line, last.output, int(value), last.need))
    return block


@dataclass(frozen=True, slots=True)
class Programs:
    """A directory of programs that go before those of the environment, and the descriptors that they inherit.

    One of them, ``python-from-input``, runs what documents pass to ``python -``.
    """

    directory: Path
    descriptors: tuple[int, ...]
    environment: dict[str, str]


def run_commands(commands: list[Command], home: Path, programs: Programs | None = None) -> list[Ran]:
    """Run commands in one shell, with ``home`` as home and working directory."""
    script = "".join(
        f"eval {shlex.quote(command.text)} </dev/null\nprintf '%s %d\\n' {shlex.quote(_MARK)} $?\n"
        for command in commands
    )
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",  # results and notes in the order of a terminal
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "80",
    }
    if programs is not None:
        script = f"{_PYTHON}\n{script}"
        environment |= {"PATH": f"{programs.directory}:{environment['PATH']}", **programs.environment}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        pass_fds=programs.descriptors if programs is not None else (),
    )
    ran: list[Ran] = []
    output: list[str] = []
    for line in done.stdout.splitlines():
        before, mark, code = line.partition(f"{_MARK} ")
        if mark:
            if before:
                output.append(before)  # a command's last line had no end
            shown = tuple(line.replace(str(home), HOME) for line in output if not _is_foreign_mount(line, home))
            ran.append(Ran(commands[len(ran)], shown, int(code)))
            output = []
        else:
            output.append(line)
    return ran


def _is_foreign_mount(line: str, home: Path) -> bool:
    """Whether it is a row of `fusepkg mounts` about another directory: root's are one list, other tests' among them."""
    row = line.split("\t")
    return len(row) == 5 and row[3] in ("erofs", "fuse") and not row[2].startswith(f"{home}/")


def _same(line: str) -> str:
    """A line without what differs between two runs."""
    for found, instead in _DIFFERENT:
        line = found.sub(instead, line)
    return line.strip()


def _pattern(lines: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("".join(r"(?:.*\n)*?" if line == "..." else _line_pattern(_same(line)) for line in lines))


def _line_pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("...")) + r"\n"


def _main() -> None:
    for name in sys.argv[1:]:
        document = Path(name)
        there = {"", "s3" if "AWS_ENDPOINT_URL_S3" in os.environ else "", "torch" if find_spec("torch") else ""}
        there |= {"spark" if find_spec("pyspark") else "", "dvc" if shutil.which("dvc") else ""}
        commands = [command for command in find_commands(document) if command.need in there]
        for ran in run_commands(commands, Path.home()):
            print(f"--- {name}:{ran.command.line}: {ran.difference() or 'as printed'} (exit code {ran.exit_code})")
            print(f"$ {ran.command.text}", *ran.output, sep="\n")


if __name__ == "__main__":
    _main()
