"""Writes docs/man/fusepkg.1 from the commands' own help. ``make docs`` writes it; ``--check`` compares."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer.main
from write_commands_and_errors import Command, argument, commands

from fusepkg.cli.application import application

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "man" / "fusepkg.1"


def man_page() -> str:
    """Return the page in roff, for man(1)."""
    root = cast("Command", typer.main.get_command(application()))
    lines = ['.\\" Written by make docs. Do not edit.', '.TH FUSEPKG 1 "" "fusepkg" "User Commands"', ".SH NAME"]
    lines += ["fusepkg \\- mount and publish immutable versions of datasets in object storage", ".SH SYNOPSIS"]
    lines += [".B fusepkg", "[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...", ".SH DESCRIPTION"]
    lines += [*_paragraphs(root.help), "Options of every command:", *_options(root), ".SH COMMANDS"]
    for name, command in commands(root, "fusepkg"):
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        lines += [f'.SS "{_text(" ".join([name, *(argument(param) for param in arguments)]))}"']
        lines += [*_paragraphs(command.help)]
        for param in arguments:
            lines += _item(f"\\fI{_text(argument(param))}\\fR", param.help) if param.help else []
        lines += _options(command)
    lines += [".SH SEE ALSO", ".BR mount.fusepkg (8),", ".BR mount (8),", ".BR umount (8)", ""]
    return "\n".join(lines)


def _options(command: Command) -> Iterator[str]:
    for param in command.params:
        if param.param_type_name == "option" and not param.hidden and "--help" not in param.opts:
            names = sorted([*param.opts, *param.secondary_opts], key=len)
            shown = ", ".join(f"\\fB{_text(name)}\\fR" for name in names)
            yield from _item(shown, param.help)


def _item(head: str, words: str | None) -> Iterator[str]:
    yield from (".TP", head, *_paragraphs(words))


def _paragraphs(words: str | None) -> list[str]:
    text = inspect.cleandoc(words or "").replace("`", "")
    found = [_text(" ".join(one.split())) for one in re.split(r"\n\s*\n", text)]
    return [line for paragraph in found for line in (paragraph, ".PP")][:-1]


def _text(words: str) -> str:
    """Return plain text as roff reads it: backslashes, hyphens that are minus signs, dots that begin a line."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it; the exit code."""
    page = man_page()
    if arguments == ["--check"]:
        if not PAGE.exists() or PAGE.read_text() != page:
            sys.stdout.write("docs/man/fusepkg.1 is not what the code says: make docs\n")
            return 1
        return 0
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
