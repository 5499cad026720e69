"""The entry point: settings, commands, and what becomes of an error.

Owns: which commands there are, and exit codes. Must not know: what a command does.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from typing import NoReturn

import typer
from fusepkg_cache.errors import CacheError

from fusepkg.cli import builder, builder_push, cache, install, mounts, options, packages, push, status, versions
from fusepkg.cli.output import print_error
from fusepkg.errors import CacheFailure, FusepkgError
from fusepkg.store.opening import abandon_uploads

_INTERRUPTED = 130
"""Ctrl-C, as shells report it: 128 and the number of SIGINT."""

_READER_GONE = 141
"""As of a program that SIGPIPE ended: 0 would tell that, say, everything was verified."""

app = typer.Typer(
    name="fusepkg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    callback=options.decide_settings,
    cls=options.SettingsAnywhere,
)
for commands in (push, mounts, install, status, packages, versions, builder, builder_push, cache):
    commands.register(app)


def main() -> None:
    """Run the command line; ends the process with the documented exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names are bytes, and leave as they came
    status = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _reader_gone()
    if status == _INTERRUPTED:
        _leave_now()
    sys.exit(status)


def _leave_now() -> NoReturn:
    """End without waiting for threads, whose requests may take minutes to be given up; a second Ctrl-C ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    abandon_uploads()
    sys.stderr.flush()
    os._exit(_INTERRUPTED)


def _run() -> int | str | None:
    try:
        app()
    except SystemExit as exc:
        return exc.code
    except FusepkgError as exc:
        return _failed(exc)
    except CacheError as exc:  # the cache is a library of its own, with errors of its own
        return _failed(CacheFailure(exc.message, hint=exc.hint or "Name another directory with --cache-dir"))
    except BaseException as exc:  # noqa: BLE001 - this is the last border there is
        if _holds(exc, KeyboardInterrupt):
            return _INTERRUPTED
        if _holds(exc, BrokenPipeError):
            return _reader_gone()
        return _failed(FusepkgError(f"a bug in fusepkg: {exc!r}", hint="Run it again with --debug, and report that"))
    return 0


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether it is one of that kind, or a group with one in it."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and error.subgroup(kind) is not None)


def _failed(error: FusepkgError) -> int:
    """Called while the error, or the one it stands for, is handled."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    print_error(error)
    return error.exit_code


def _reader_gone() -> int:
    """The reader of our output has left (`fusepkg ls ... | head`), which is no error: end as quietly as others do."""
    # What is still buffered goes nowhere: Python would complain once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _READER_GONE
