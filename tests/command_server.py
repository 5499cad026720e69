"""Starts ``python -m fusepkg`` by forking a process that has imported everything: 20 ms instead of 0.6 s of CPU.

Each command is a process of its own, with its own environment, directory, files, exit code and signals. Tests whose
subject is the start itself run the interpreter.

``python -m tests.command_server fusepkg ...`` reads requests from the socket at descriptor 0, until it is closed. With
``extras`` in place of ``fusepkg`` it has imported the libraries of the extras too: NumPy, DuckDB and their like double
what a fork costs, so only commands that use them are forked from there. With ``quilt3`` it imports what that needs. A
request is one message with four descriptors: a
stream socket for the conversation, then stdin, stdout and stderr of the command. The child reads a JSON object from
the conversation: ``arguments``, ``environment``, ``directory``, ``umask``; ``program`` where it is to run as that
script instead of ``python -m fusepkg``, or ``source``, Python to run in place of it. The server writes the child's
process id there, and when it has ended its wait status, a line each.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NoReturn

DESCRIPTORS = 4
LAZY = (
    "boto3.session",
    "botocore.session",
    "botocore.handlers",
    "awscrt.checksums",
    "rich.progress",
    "rich.markdown",
    "typer.rich_utils",
    "typer._adapters",
)
"""What is imported inside functions, by fusepkg and the libraries, where it exists."""

LAZY_EXTRAS = (
    "pyarrow.parquet",
    "pyarrow.csv",
    "duckdb",
    "pandas",
)
"""The same for extras."""

EXTRAS = ("csi", "datasets", "fit", "fsspec", "labels", "metrics", "pool", "query", "torch")
"""Packages of fusepkg that import the libraries of an extra."""

NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Keeps NumPy and PyArrow from starting threads when they are imported."""


def main() -> None:
    """Serve until the client is gone."""
    if sys.argv[1] == "quilt3":
        _import_quilt3()
    else:
        _import_all(extras=sys.argv[1] == "extras")
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    ended_r, ended_w = os.pipe()
    os.set_blocking(ended_w, False)
    signal.set_wakeup_fd(ended_w)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests, ended_r], [], [])
        if ended_r in ready:
            os.read(ended_r, 4096)
            _report_ended(running)
        if requests not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, 1, DESCRIPTORS)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (requests, *running.values()):
                one.close()
            os.close(ended_r)
            os.close(ended_w)
            request = _become(descriptors)
            _run(request.get("program"), request.get("source"))
        running[pid] = conversation = socket.socket(fileno=descriptors[0])
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        _say(conversation, pid)


def _import_all(*, extras: bool) -> None:
    os.environ.update(NO_THREADS)  # a command gets an environment of its own
    left_out = tuple(f"fusepkg.{name}" for name in (("torch",) if extras else EXTRAS))
    for package in ("fusepkg", "fusepkg_cache"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and not module.name.startswith(left_out):
                importlib.import_module(module.name)
    for name in (*LAZY, *(LAZY_EXTRAS if extras else ())):
        with suppress(ImportError):
            importlib.import_module(name)
    _parse_descriptions()
    _freeze()


def _import_quilt3() -> None:
    """Import what quilt3 imports, but not itself: it looks for its home when it is imported."""
    os.environ.update(NO_THREADS)
    for name in ("quilt3", "quilt3.backends.base", "quilt3.hooks", *LAZY[:3]):
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "quilt3"]:
        del sys.modules[name]
    _parse_descriptions()
    _freeze()


def _parse_descriptions() -> None:
    """Have botocore parse its descriptions of S3 here, once: a tenth of a second of CPU in each command."""
    import botocore.session

    from fusepkg.store.s3 import S3Settings
    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import _loader, connect

    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    botocore.session.create_loader = lambda search_path: _loader(search_path or "")
    connect(
        S3Settings(endpoint_url="http://127.0.0.1:1", sign=False),
        Address("bucket", "", "http://127.0.0.1:1", signed=False),
    )


def _freeze() -> None:
    """Keep children from copying every page, and refuse to serve with a second thread."""
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    if threading.active_count() > 1 or len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("an import has started a thread: nothing may be forked from here")


def _report_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as conversation:
            _say(conversation, status)


def _say(conversation: socket.socket, number: int) -> None:
    with suppress(OSError):  # a client that has given up
        conversation.sendall(b"%d\n" % number)


def _become(descriptors: list[int]) -> dict[str, Any]:
    """Take over what the request says: files, environment, directory, arguments. Return it."""
    conversation = socket.socket(fileno=descriptors[0])
    with conversation.makefile("rb") as asked:
        request: dict[str, Any] = json.load(asked)
    conversation.close()
    for target, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, target)
        os.close(descriptor)
    # What the server's own objects know of its files, seekable or not, holds for them only.
    sys.stdin = sys.__stdin__ = open(0, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115 - open to the end
    raw = "PYTHONUNBUFFERED" in request["environment"]
    output: BinaryIO = open(1, "wb", 0 if raw else -1, closefd=False)  # noqa: SIM115 - open to the end
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(output, errors=sys.stdout.errors, write_through=raw)
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115 - open to the end
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["directory"])
    sys.argv[1:] = request["arguments"]
    _show([sys.executable, "-m", "fusepkg", *sys.argv[1:]], [f"{k}={v}" for k, v in os.environ.items()])
    return request


def _run(program: str | None, source: str | None) -> NoReturn:
    """Run the command and end as the interpreter does, but for freeing every object, which would copy every page."""
    status = 1
    try:
        if source is not None:
            sys.modules["__main__"] = module = ModuleType("__main__")
            exec(compile(source, "<stdin>", "exec"), module.__dict__)
            status = 0
        elif program is None:
            runpy.run_module("fusepkg", run_name="__main__", alter_sys=True)
        else:
            sys.argv[0] = program
            sys.modules["__main__"].__package__ = None
            importlib.import_module("fusepkg.cli.main").main()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except BaseException:  # noqa: BLE001 - what the interpreter would show
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _show(arguments: list[str], environment: list[str]) -> None:
    """Write a command line and an environment where ``ps`` and /proc read them: over those of the server."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end, environment_start, environment_end = (int(field) for field in fields[45:49])
    for words, low, high in ((arguments, start, end), (environment, environment_start, environment_end)):
        block = b"".join(os.fsencode(word) + b"\0" for word in words)[: high - low - 1]
        ctypes.memset(low, 0, high - low)
        ctypes.memmove(low, block, len(block))


if __name__ == "__main__":
    main()
