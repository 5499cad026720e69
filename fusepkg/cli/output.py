"""How results, progress and errors look.

Results go to standard output; progress, notes and errors to standard error, progress only on a terminal.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from fusepkg.errors import SystemFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console

    from fusepkg.errors import FusepkgError
    from fusepkg.work.progress import Progress as PhaseProgress

EXIT_DIFFERENT = 1
"""A check that found differences; not an error."""

SHORT_HASH_DIGITS = 9
"""Digits of a top hash shown to people."""

_STEERING = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, bytes that are not UTF-8, and what breaks lines."""

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


class ShowProgress(Protocol):
    """Shows one line of progress: ``what``, ``done`` of ``total`` (0: unknown), in bytes or items."""

    def __call__(self, what: str, done: int, total: int, *, is_bytes: bool = False) -> None:
        """Show it."""
        ...


_bar_on_terminal: list[Console] = []
"""Where a progress bar is shown just now: results that go to the terminal too are printed above it."""


def say(text: str) -> None:
    """Print one line of a result."""
    if _bar_on_terminal and sys.stdout.isatty():
        _bar_on_terminal[0].print(
            _legible(text, sys.stdout), markup=False, highlight=False, emoji=False, soft_wrap=True
        )
    else:
        with writing_output():
            print(_legible(text, sys.stdout))


@contextmanager
def writing_output() -> Iterator[None]:
    """Raise SystemFailure if the block cannot write to standard output; a closed pipe passes as it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise SystemFailure(
            f"standard output cannot be written: {exc.strerror or exc}", hint="The command's result is incomplete"
        ) from exc


def note(text: str) -> None:
    """Print one line for people on standard error."""
    print(_legible(text, sys.stderr), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print a result as JSON."""
    with writing_output():
        print(json.dumps(value, ensure_ascii=False, indent=2))


def print_error(error: FusepkgError, *, as_json: bool = False) -> None:
    """Print an error and its hint on standard error, as one line of JSON with ``--json``."""
    if as_json:
        facts = {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        print(json.dumps({"error": facts}), file=sys.stderr, flush=True)
        return
    note(f"Error: {error.message}")
    if error.hint:
        note(f"  {error.hint}")


def _legible(text: str, stream: TextIO) -> str:
    """Return the text with control characters escaped if ``file`` is a terminal: publishers choose names freely."""
    if not stream.isatty():
        return text
    return "".join(
        letter.encode("unicode_escape", "backslashreplace").decode()
        if unicodedata.category(letter) in _STEERING
        else letter
        for letter in text
    )


def short(top_hash: str) -> str:
    """Return the first digits of a top hash."""
    return top_hash[:SHORT_HASH_DIGITS]


def human_bytes(count: float) -> str:
    """Return ``1.5 KiB`` for 1536."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == _UNITS[0] else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes all")


def counted(count: int, noun: str) -> str:
    """``1,024 files``, ``1 file``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def time_text(seconds: float) -> str:
    """Return a Unix time in words, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with a header line; tab-separated if the output is not a terminal."""
    rows = list(rows)
    if not sys.stdout.isatty():
        with writing_output():
            for row in (columns, *rows):
                print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # never "...": paths and hashes are there to be copied
    for row in rows:
        table.add_row(
            *(Text(_legible(cell, sys.stdout)) for cell in row)
        )  # as it is: messages and paths may look like markup
    Console().print(table)


def show_phase(show: ShowProgress) -> Callable[[PhaseProgress], None]:
    """Return a callback that shows phases on a progress line, in bytes if there are any, else in items."""

    def shown(phase: PhaseProgress) -> None:
        what = phase.phase.value.capitalize()
        if phase.total_bytes:
            show(what, phase.done_bytes, phase.total_bytes, is_bytes=True)
        else:
            show(what, phase.done, phase.total)

    return shown


@contextmanager
def progress_bar() -> Iterator[ShowProgress]:
    """Show a progress bar on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total, *, is_bytes=False: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
        task = bars.add_task("", total=None, amount="")

        def show(what: str, done: int, total: int, *, is_bytes: bool = False) -> None:
            unit = human_bytes if is_bytes else "{:,}".format
            amount = f"{unit(done)} of {unit(total)}" if total else unit(done) if done else ""
            bars.update(task, description=what, completed=done, total=total or None, amount=amount)

        _bar_on_terminal.append(bars.console)
        try:
            yield show
        finally:
            _bar_on_terminal.remove(bars.console)
