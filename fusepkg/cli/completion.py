"""completion: the script with which a shell completes commands and options."""

from __future__ import annotations

from typing import Annotated

import typer

from fusepkg.cli.application import COMPLETION_VARIABLE
from fusepkg.cli.output import say
from fusepkg.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(completion)


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the script that lets a shell complete commands and options.

    For bash: fusepkg completion bash > /etc/bash_completion.d/fusepkg
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}", hint=f"Shells are {', '.join(SHELLS)}")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # imported there to be used

    say(get_completion_script(prog_name="fusepkg", complete_var=COMPLETION_VARIABLE, shell=shell))


def answer_shell() -> None:
    """Make the command line able to answer the script."""
    from typer.completion import completion_init  # type: ignore[attr-defined]  # as above

    completion_init()
