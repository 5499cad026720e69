"""The command pack: add packs to a published version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonOption, RefArgument, app_of
from fusepkg.cli.output import counted, human_bytes, note, print_json, progress_bar, say, short, show_phase
from fusepkg.packs.table import FEWEST_SMALL_ENTRIES
from fusepkg.publish.packs import pack_version

if TYPE_CHECKING:
    from fusepkg.publish.packs import PackReport


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(pack)


def pack(
    context: typer.Context,
    ref: RefArgument,
    check: Annotated[bool, typer.Option("--check", help="Compare the bytes of packs that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the small files of a version once more, many to an object, to be read faster. Its top hash stays."""
    app = app_of(context)
    opened = open_package(app, ref)
    reference, top_hash = opened.resolved.reference, opened.index.top_hash
    reader = app.blocking_reader(reference.bucket)
    with progress_bar() as show:
        report = pack_version(
            app.store(reference.bucket), opened.index, reader.read, check=check, progress=show_phase(show)
        )
    for warning in report.warnings:
        note(f"Warning: {warning}")
    if as_json:
        print_json({"reference": str(reference), "top_hash": top_hash, **pack_facts(report)})
        return
    say(f"{reference} ({short(top_hash)}): {describe_packs(report)}")


def describe_packs(report: PackReport) -> str:
    """Return in words what packs a version has."""
    if not report.packs:
        return f"no packs: they serve versions with {FEWEST_SMALL_ENTRIES} small files or more"
    return f"{counted(report.packs, 'pack')}, of them {report.new_packs:,} new, {human_bytes(report.new_bytes)}"


def pack_facts(report: PackReport) -> dict[str, object]:
    """Return the same for programs."""
    return {
        "packs": report.packs,
        "new_packs": report.new_packs,
        "new_pack_bytes": report.new_bytes,
        "warnings": list(report.warnings),
    }
