"""metrics: the counters of all mounts for Prometheus, over HTTP or into a file, and for collectors of OpenTelemetry."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from fusepkg.cli.output import note, say
from fusepkg.errors import SystemFailure, UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(metrics)


def metrics(
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Answer Prometheus there until Ctrl-C: 127.0.0.1:9464.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.prom", help="Write a file for node_exporter, and end."),
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Send them to an OpenTelemetry collector until Ctrl-C.")
    ] = None,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="How often, with --otlp.", min=0.1)] = 60.0,
) -> None:
    """Print the counters of all mounts of this user as Prometheus reads them, serve them, or send them by OTLP.

    One process tells of all mounts; it asks them when it is asked itself, and may end without a mount noticing.
    """
    from fusepkg.metrics.exposition import exposition, serve, write_file  # here: only some users have the library

    if sum(one is not None for one in (listen, output, otlp)) > 1:
        raise UsageError("--listen, --output and --otlp exclude each other", hint="Choose one of them")
    if otlp is not None:
        _send(otlp, every)
        return
    if output is not None:
        write_file(output)
        return
    if listen is None:
        say(exposition().decode().rstrip("\n"))
        return
    host, port = _address(listen)
    try:
        ended = serve(host, port)
    except OSError as exc:
        raise SystemFailure(
            f"{listen} cannot be listened at: {exc.strerror or exc}", hint="Another process may have that port"
        ) from exc
    note(f"Serving http://{listen}/metrics")
    try:
        while True:
            time.sleep(3600)
    finally:
        ended()


def _send(url: str, every_s: float) -> None:
    from fusepkg.daemon.logs import log_to_terminal
    from fusepkg.metrics.otlp import Collector

    collector = Collector(url)
    log_to_terminal(debug=False)
    note(f"Sending to {url} every {every_s:g} s")
    collector.send_every(every_s, threading.Event())


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--listen {text} is not HOST:PORT", hint="For example --listen 127.0.0.1:9464")
    return host.strip("[]") or "127.0.0.1", int(port)
