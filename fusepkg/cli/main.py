"""The entry point: settings, commands, and what becomes of an error.

Owns: which commands there are, and exit codes. Must not know: what a command does.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from fusepkg_cache.errors import CacheError

from fusepkg.cli import cache, mounts, options, packages, push
from fusepkg.cli.output import print_error
from fusepkg.errors import CacheFailure, FusepkgError

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(
    name="fusepkg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    callback=options.decide_settings,
    cls=options.SettingsAnywhere,
)
for register in (push.register, mounts.register, packages.register, cache.register):
    register(app)


@contextmanager
def _cache_errors_as_ours() -> Iterator[None]:
    """The cache is a library of its own, with errors of its own."""
    try:
        yield
    except CacheError as exc:
        raise CacheFailure(exc.message, hint=exc.hint) from exc


def main() -> None:
    """Run the command line; ends the process with the documented exit code."""
    try:
        with _cache_errors_as_ours():
            app()
    except FusepkgError as exc:
        if "--debug" in sys.argv:
            raise
        print_error(exc)
        sys.exit(exc.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (`fusepkg ls ... | head`): that is no error of ours. Python would complain
        # once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
