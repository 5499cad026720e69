"""The entry point: run a command, and turn errors into a message and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from fusepkg import __version__
from fusepkg.cli.output import print_error, writing_output
from fusepkg.cli.quick import answer_at_once
from fusepkg.cli.streams import prepare_streams
from fusepkg.errors import CacheFailure, FusepkgError, SystemFailure, UsageError

_INTERRUPTED = 130
"""Ctrl-C, as shells report it: 128 and the number of SIGINT."""

_READER_GONE = 141
"""As of a program that SIGPIPE ended: 0 would tell that, say, everything was verified."""


def app() -> object:
    """Run the command and return its exit code."""
    gc.disable()  # modules are no garbage: looking through them is a tenth of the time of loading them
    if answer_at_once(sys.argv[1:]):
        return None
    from fusepkg.cli.application import COMPLETION_VARIABLE, application

    if COMPLETION_VARIABLE in os.environ:
        from fusepkg.cli.completion import answer_shell

        answer_shell()
    commands = application(sys.argv[1:])
    gc.enable()
    # Its own messages for wrong arguments are text; for programs it hands the errors to us.
    return commands(prog_name="fusepkg", standalone_mode=not _wants_json())


def main() -> None:
    """Run the command line, and end the process with the documented exit code."""
    prepare_streams()
    if sys.argv[1:] == ["--version"]:  # no library is loaded for it
        print(__version__)
        status: int | str | None = 0
    else:
        status = _run()
    try:
        with writing_output():
            sys.stdout.flush()
    except BrokenPipeError:
        status = _reader_gone()
    except SystemFailure as exc:
        if status != exc.exit_code:  # else it has been said
            status = _failed(exc)
        _drop_output()
    if status == _INTERRUPTED:
        _leave_now()
    sys.exit(status)


def _leave_now() -> NoReturn:
    """End without waiting for threads, whose requests may take minutes to be given up; a second Ctrl-C ends at once."""
    from fusepkg.store.opening import abandon_uploads

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    abandon_uploads()
    sys.stderr.flush()
    os._exit(_INTERRUPTED)


def _run() -> int | str | None:
    try:
        chosen = app()
    except SystemExit as exc:
        return exc.code
    except FusepkgError as exc:
        return _failed(exc)
    except BaseException as exc:  # noqa: BLE001 - this is the last border there is
        if _holds(exc, KeyboardInterrupt):
            return _INTERRUPTED
        if _holds(exc, BrokenPipeError):
            return _reader_gone()
        return _failed(_as_ours(exc))
    return chosen if isinstance(chosen, int) else 0


def _as_ours(error: BaseException) -> FusepkgError:
    """Return the FusepkgError for an error of a library or of the system."""
    cache = sys.modules.get("fusepkg_cache.errors")  # the cache is a library of its own, with errors of its own
    if cache is not None and isinstance(error, cache.CacheError):
        return CacheFailure(error.message, hint=error.hint or "Name another directory with --cache-dir")
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return SystemFailure(
            f"{where}{error.strerror or error}", hint="See what is wrong with it; --debug shows what was being done"
        )
    said = getattr(error, "format_message", None)  # the command line's library could not understand an argument
    if said is not None:
        return UsageError(said(), hint="`fusepkg COMMAND --help` tells what it takes")
    return FusepkgError(f"a bug in fusepkg: {error!r}", hint="Run it again with --debug, and report that")


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an error is of that kind, or a group that contains one."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and error.subgroup(kind) is not None)


def _failed(error: FusepkgError) -> int:
    """Print an error and return its exit code. Call it in the ``except`` block."""
    if "--debug" in sys.argv:
        import traceback

        traceback.print_exc()
    with suppress(OSError):  # there is nowhere left to say it
        print_error(error, as_json=_wants_json())
    return error.exit_code


def _wants_json() -> bool:
    arguments = sys.argv[1:]
    return "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _reader_gone() -> int:
    """End without a message after a broken pipe (`fusepkg ls ... | head`)."""
    _drop_output()
    return _READER_GONE


def _drop_output() -> None:
    """Discard buffered output: Python would report the broken pipe again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
