"""top: what all mounts are doing now, renewed every second, at 80 columns."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.options import JsonOption
from fusepkg.cli.output import human_bytes, print_json, print_table
from fusepkg.daemon.observed import observe_mounts
from fusepkg.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from fusepkg.daemon.observed import Observed

COLUMNS = ("PACKAGE", "READ/s", "HITS", "FETCHED/s", "GETS/s", "FAILED", "DIRECTORY")


@dataclass(frozen=True, slots=True)
class Rates:
    """What a mount did between two looks. ``hits`` is the share of reads that the cache answered; None without any."""

    served_bytes_s: float
    fetched_bytes_s: float
    fetched_objects_s: float
    hits: float | None
    failed: int


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print what happened between, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what all mounts read and fetch, again each second, until Ctrl-C.

    READ is what programs were given, HITS the share of reads that the cache answered, FETCHED what the bucket gave.
    """
    if not 0.1 <= interval <= 3600:
        raise UsageError(
            f"--interval {interval:g} is not between 0.1 and 3600 seconds", hint="For example --interval 2"
        )
    before, at = observe_mounts(), time.monotonic()
    if once or as_json or not sys.stdout.isatty():
        time.sleep(interval)
        now = observe_mounts()
        _print_once(before, now, time.monotonic() - at, as_json=as_json)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(_table(_rows({}, before, 1.0)), console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            now, looked_at = observe_mounts(), time.monotonic()
            known = {one.record.mount_id: one for one in before}
            live.update(_table(_rows(known, now, looked_at - at)), refresh=True)
            before, at = now, looked_at


def rates_between(before: Observed | None, now: Observed, seconds: float) -> Rates:
    """Return what a mount did in so many seconds: nothing, as far as is known, where its counters began anew."""

    def grown(name: str) -> int:
        start = before.counter(name) if before else now.counter(name)
        return max(0, now.counter(name) - start)

    reads = grown("cache_hits") + grown("cache_misses")
    return Rates(
        grown("served_bytes") / seconds,
        grown("fetched_bytes") / seconds,
        grown("fetched_objects") / seconds,
        grown("cache_hits") / reads if reads else None,
        now.counter("failed_fetches"),
    )


def _print_once(before: list[Observed], now: list[Observed], seconds: float, *, as_json: bool) -> None:
    known = {one.record.mount_id: one for one in before}
    if not as_json:
        print_table(COLUMNS, _rows(known, now, seconds))
        return
    facts = []
    for one in now:
        rates = rates_between(known.get(one.record.mount_id), one, seconds)
        facts.append(
            {
                "mountpoint": one.record.mountpoint,
                "reference": one.record.reference,
                "answers": one.facts is not None,
                "served_bytes_per_s": round(rates.served_bytes_s, 1),
                "fetched_bytes_per_s": round(rates.fetched_bytes_s, 1),
                "fetched_objects_per_s": round(rates.fetched_objects_s, 1),
                "hits": rates.hits,
                "failed_fetches": rates.failed,
            }
        )
    print_json(facts)


def _rows(known: dict[str, Observed], now: list[Observed], seconds: float) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in now:
        record = one.record
        if one.facts is None:
            rows.append((record.reference, "", "", "", "", one.trouble, record.mountpoint))
            continue
        rates = rates_between(known.get(record.mount_id), one, seconds)
        rows.append(
            (
                record.reference,
                human_bytes(rates.served_bytes_s),
                "" if rates.hits is None else f"{rates.hits:.0%}",
                human_bytes(rates.fetched_bytes_s),
                f"{rates.fetched_objects_s:.0f}",
                str(rates.failed),
                record.mountpoint,
            )
        )
    return rows


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=True)
    for column in COLUMNS:
        is_name = column in ("PACKAGE", "DIRECTORY")
        table.add_column(column, justify="left" if is_name else "right", overflow="fold", no_wrap=not is_name)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if not rows:
        table.add_row("no mounts")
    return table
