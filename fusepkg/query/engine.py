"""The engine of queries: DuckDB, locked down to one package, within a deadline and a bound of memory."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fusepkg.errors import MissingExtra, QueryInvalid, QueryStopped, UsageError

try:
    import duckdb
    import pyarrow  # noqa: F401 - results and entries are Arrow's; said here, once
except ImportError as exc:
    raise MissingExtra(
        f"queries need DuckDB and PyArrow ({exc.name} is missing)", hint='pip install "fusepkg[query]"'
    ) from exc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fusepkg.fsspec.filesystem import PackageFileSystem

TIMEOUT_S = 300.0
"""How long a query may take unless told otherwise."""

MEMORY_BYTES = 4 << 30
"""What a query may use at most; half of the machine's memory where that is less."""

_INTERRUPT_EVERY_S = 0.1
"""An interrupt that comes between two statements is lost, so it is sent again."""

_SETTINGS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",  # FROM name reads no variable of the caller's
    "temp_directory": "",  # memory is the bound: nothing is written to a disk
}


def connect() -> duckdb.DuckDBPyConnection:
    """Return an engine that knows nothing yet, and may load nothing."""
    memory = min(MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return duckdb.connect(":memory:", config={**_SETTINGS, "memory_limit": f"{memory // 1_000_000}MB"})


def lock(connection: duckdb.DuckDBPyConnection, files: PackageFileSystem, root: str) -> None:
    """Let it read the files below ``root`` and no others, and keep it from being told otherwise."""
    connection.register_filesystem(files)
    # Threads of the engine share one open file, and move and read it in two steps: they would read each other's bytes.
    connection.execute("SET threads = 1")
    connection.execute(f"SET allowed_directories = [{quoted(f'{root}/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """Return the name of a table or column as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def deadline(
    connection: duckdb.DuckDBPyConnection, timeout_s: float, files: PackageFileSystem | None = None
) -> Iterator[None]:
    """Stop the queries of the block after so many seconds. Raises QueryStopped, QueryInvalid, and as reading does."""
    if not 0 < timeout_s < threading.TIMEOUT_MAX:
        raise UsageError(f"a timeout of {timeout_s} s", hint="Write a number of seconds above 0")
    done = threading.Event()
    is_late = threading.Event()

    def watch() -> None:
        if done.wait(timeout_s):
            return
        is_late.set()
        while not done.wait(_INTERRUPT_EVERY_S):
            connection.interrupt()

    watcher = threading.Thread(target=watch, name="fusepkg-query-deadline", daemon=True)
    watcher.start()
    try:
        yield
    except duckdb.InterruptException as exc:
        if is_late.is_set():
            raise QueryStopped(
                f"the query was stopped after {timeout_s:g} s", hint="Choose fewer rows, or give it more with --timeout"
            ) from exc
        raise KeyboardInterrupt from exc
    except duckdb.OutOfMemoryException as exc:
        raise QueryStopped(f"the query needs too much memory: {_first_line(exc)}", hint="Choose fewer rows") from exc
    except duckdb.Error as exc:
        # The engine only keeps the text of what a file raised.
        raise (files.failed_reads.pop() if files and files.failed_reads else _own(exc)) from exc
    finally:
        done.set()
        watcher.join()


def _own(error: duckdb.Error) -> QueryInvalid:
    if isinstance(error, duckdb.PermissionException):
        return QueryInvalid(_first_line(error), hint="A query reads `entries` and files of its package, nothing else")
    hint = "Tables are `entries` (`DESCRIBE entries`), and files of the package: 'labels.csv', 'train/*.parquet'"
    return QueryInvalid(_first_line(error), hint=hint)


def _first_line(error: duckdb.Error) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]).strip() if lines else repr(error)
