"""Writes docs/reference/errors.md and cli.md from the code, so that they cannot say anything else.

``make docs`` writes them; ``--check`` fails where they are not what it would write.
"""

from __future__ import annotations

import inspect
import re
import sys
from errno import errorcode
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import typer.main

from fusepkg.cli.application import application
from fusepkg.engines.errnos import ERRNOS
from fusepkg.errors import FusepkgError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(__file__).parents[1] / "docs" / "reference"
_GENERATED = "<!-- Written by `make docs`. Do not edit. -->"


class Parameter(Protocol):
    """What we use of an argument or option of the command line's library, whichever it is built on."""

    name: str
    opts: list[str]
    secondary_opts: list[str]
    help: str | None
    hidden: bool
    metavar: str | None
    nargs: int
    param_type_name: str
    required: bool


class Command(Protocol):
    """What we use of a command or, where it has ``commands``, a group of them."""

    help: str | None
    hidden: bool
    params: list[Parameter]
    commands: dict[str, Command]


def errors_page() -> str:
    """Every error: its code for programs, the exit code, what a program in a mount sees, what it means."""
    lines = ["# Errors", "", _GENERATED, ""]
    lines += [
        'With `--json` an error is one line of JSON on standard error: `{"error": {"code": ..., "message": ...,',
        '"hint": ..., "exit_code": ...}}`. Codes and exit codes are stable. A program that reads from a mount sees',
        "the errno. *Retry* means: the same call may succeed later by itself.",
        "",
        "Exit codes that no error has: 0 done, 1 the check found differences, 130 interrupted (Ctrl-C), 141 the reader",
        "of the output went away before its end. 70 is also the code of a bug; `--debug` shows where.",
        "",
    ]
    lines += ["| code | exit | errno | retry | meaning |", "|---|---|---|---|---|"]
    for error in _tree(FusepkgError):
        number = next(ERRNOS[base][0] for base in error.__mro__ if base in ERRNOS)
        meaning = inspect.cleandoc(error.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")
        retry = "yes" if error.retryable else ""
        lines += [f"| `{error.code}` | {error.exit_code} | {errorcode[number]} | {retry} | {meaning} |"]
    lines += ["", "Exit code 0: done. 1: a check found differences. 2: the command was not understood.", ""]
    return "\n".join(lines)


def _tree(error: type[FusepkgError]) -> Iterator[type[FusepkgError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


def cli_page() -> str:
    """Every command with its arguments and options."""
    root = cast("Command", typer.main.get_command(application()))
    lines = ["# Command line", "", _GENERATED, "", _prose(root.help), "", "Options of every command:", ""]
    lines += [*_options(root), ""]
    for name, command in commands(root, "fusepkg"):
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        lines += [f"## `{' '.join([name, *(argument(param) for param in arguments)])}`", "", _prose(command.help), ""]
        told = [f"- `{argument(param)}`: {_prose(param.help)}" for param in arguments if param.help]
        told += _options(command)
        lines += [*told, ""] if told else []
    return "\n".join(lines)


def commands(group: Command, name: str) -> Iterator[tuple[str, Command]]:
    """Yield all commands with their whole names."""
    for child_name, child in group.commands.items():
        if hasattr(child, "commands"):
            yield from commands(child, f"{name} {child_name}")
        elif not child.hidden:
            yield f"{name} {child_name}", child


def argument(param: Parameter) -> str:
    """Return an argument as a synopsis shows it."""
    shown = (param.metavar or param.name).strip("[]{}").removesuffix("...").upper()
    shown += "..." if param.nargs == -1 else ""
    return shown if param.required else f"[{shown}]"


def _options(command: Command) -> list[str]:
    lines = []
    for param in command.params:
        if param.param_type_name == "option" and not param.hidden and "--help" not in param.opts:
            names = ", ".join(f"`{name}`" for name in sorted([*param.opts, *param.secondary_opts], key=len))
            lines.append(f"- {names}: {_prose(param.help)}")
    return lines


def _prose(text: str | None) -> str:
    """A help text as one Markdown paragraph per paragraph."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or "").replace("``", "`"))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; the exit code."""
    wrong = []
    for name, page in (("errors.md", errors_page()), ("cli.md", cli_page())):
        path = DIRECTORY / name
        if arguments == ["--check"]:
            if not path.exists() or path.read_text() != page:
                wrong.append(f"docs/reference/{name} is not what the code says: make docs")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page)
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
