"""labels template, add, search, apply, export, delete."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusepkg.cli.options import JsonOption, settings_of
from fusepkg.cli.output import counted, note, print_json, print_table, progress_bar, say, short, show_phase
from fusepkg.errors import UsageError
from fusepkg.opened.contexts import use_flags

if TYPE_CHECKING:
    from fusepkg.labels.label_set import Changed, LabelSet
    from fusepkg.labels.search import SearchResult

_SHOWN = 20
"""Labels that a search prints where it writes no file."""

_Pictures = Annotated[
    str, typer.Argument(metavar="REF", help="The package of the pictures, bucket/name:tag; its labels lie beside it.")
]
_Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Why, for `log`; part of the version.")
]
_Where = Annotated[
    str | None,
    typer.Argument(metavar="[WHERE]", help="A condition in SQL over the labels' fields, or a JSON object."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(no_args_is_help=True, help="Labels of pictures: add, search, correct, delete.")
    group.command()(template)
    group.command()(add)
    group.command()(search)
    group.command()(apply)
    group.command()(export)
    group.command()(delete)
    app.add_typer(group, name="labels")


def template(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
) -> None:
    """Print a label with all the fields that a session's labels have."""
    from fusepkg.labels.session import template as text  # here: what only some users have, as in the others

    if output is None:
        say(text().rstrip("\n"))
        return
    try:
        output.write_text(text(), encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{output} cannot be written: {exc.strerror or exc}") from exc


def add(
    context: typer.Context,
    ref: _Pictures,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The session: pictures, and labels.json.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its labels, if they are not in DIR/labels.json.")
    ] = None,
    hardware: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What recorded it, if not in DIR/hardware_conf.json.")
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Fields whose values make a label's fingerprint, for a new set of labels."),
    ] = None,
    message: _Message = None,
    as_json: JsonOption = False,
) -> None:
    """Add a recorded session: its pictures, and their labels."""
    chosen = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    found = _labels(context, ref, chosen)
    with progress_bar() as show:
        changed = found.add(directory, labels=labels, hardware=hardware, message=message, progress=show_phase(show))
    _report(found, changed, as_json)


def search(
    context: typer.Context,
    ref: _Pictures,
    where: _Where = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the labels there, by img_id.")
    ] = None,
    download: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Bring missing pictures there, and the labels as DIR/labels.json."),
    ] = None,
    mount: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Mount the pictures there, and labels.json, without copying any.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--as", metavar="EXPRESSION", help="Name pictures there anew: \"label.label_speed || '/' || name\"."
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Stop the search after so long.")] = 300.0,
    as_json: JsonOption = False,
) -> None:
    """Find labels by their fields, and the pictures they are of.

    For example: "event = 'iron car' AND label.label_speed >= 1", or {"label.label_speed": {"gte": 1}}.
    """
    if layout and download is None and mount is None:
        raise UsageError("--as goes with --download or --mount", hint="Name a directory, for example --mount DIR")
    labels = _labels(context, ref)
    found = labels.search(_condition(where), layout=layout, timeout_s=timeout)
    _warn_of_several(found)
    if download is not None:
        with progress_bar() as show:
            lost = labels.download(found, download, progress=show_phase(show))
        for name in lost:
            note(f"Warning: the picture {name} is not in {ref}")
    if mount is not None:
        say(f"Mounted {labels.mount(found, mount).reference} at {mount}")
        if output is None and download is None:
            return
    _write(found, output or (None if download is None else download / "labels.json"), as_json)


def export(
    context: typer.Context,
    ref: _Pictures,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: all labels by img_id, as JSON.")],
) -> None:
    """Write all labels to a file, one a picture, as a labeller takes them."""
    found = _labels(context, ref).search()
    _warn_of_several(found)
    _write(found, output, False)


def apply(
    context: typer.Context,
    ref: _Pictures,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The labeller's file: new labels, and to_delete ones.")],
    message: _Message = None,
    as_json: JsonOption = False,
) -> None:
    """Take over a labeller's file: add what is new, delete what says `"to_delete": true`, with its picture.

    A picture stays as long as another label is of it.
    """
    found = _labels(context, ref)
    _report(found, found.apply(file, message=message), as_json)


def delete(
    context: typer.Context,
    ref: _Pictures,
    where: Annotated[str, typer.Argument(metavar="WHERE", help="A condition as `labels search` takes it.")],
    message: _Message = None,
    as_json: JsonOption = False,
) -> None:
    """Delete labels that fit a condition, and the pictures that no label is of then."""
    condition = _condition(where)
    if condition is None or not where.strip():
        raise UsageError("the condition is empty", hint="Write `true` for all labels")
    found = _labels(context, ref)
    _report(found, found.delete(condition, message=message), as_json)


def _labels(context: typer.Context, ref: str, fields: list[str] | None = None) -> LabelSet:
    from fusepkg.labels.label_set import LabelSet

    use_flags(settings_of(context).flags)
    return LabelSet(ref, fields=fields)


def _condition(where: str | None) -> str | dict[str, Any] | None:
    """A condition as it was typed: JSON if it begins like an object."""
    if where is None or not where.lstrip().startswith("{"):
        return where
    try:
        found = json.loads(where)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"the condition is not JSON: {exc}", hint="Write SQL, or one JSON object") from exc
    return found if isinstance(found, dict) else where


def _warn_of_several(found: SearchResult) -> None:
    if found.several:
        some = ", ".join(found.several[:3]) + (", ..." if len(found.several) > 3 else "")
        pictures = counted(len(found.several), "picture")
        note(f"Warning: {pictures} with several labels that fit ({some}): the newest counts")


def _write(found: SearchResult, output: Path | None, as_json: bool) -> None:
    counts = f"{counted(len(found), 'picture')}, {counted(found.labels, 'label')}"
    if output is not None:
        from fusepkg.labels.label_set import write_labels

        write_labels(found, output)
        note(f"{counts}: written to {output}")
    elif as_json:
        print_json(found.documents)
    else:
        shown = list(found.documents.items())[:_SHOWN]
        rows = [
            (key, one.get("file_name") or "", json.dumps(one.get("label"), ensure_ascii=False)) for key, one in shown
        ]
        print_table(("img_id", "file_name", "label"), rows)
        rest = len(found) - _SHOWN
        note(
            f"{counted(len(found), 'picture')}, {counted(found.labels, 'label')}" + (" (20 shown)" if rest > 0 else "")
        )


def _report(labels: LabelSet, changed: Changed, as_json: bool) -> None:
    if as_json:
        print_json({"reference": labels.reference, **asdict(changed)})
        return
    for where in changed.not_there:
        note(f"Warning: {where} was to be deleted, and is not there")
    if changed.pictures_left:
        note(f"{counted(changed.pictures_left, 'picture')} without labels stay: a package cannot be empty")
    parts = [f"{counted(changed.added, 'label')} added"]
    parts += [f"{changed.already_there:,} there already"] if changed.already_there else []
    parts += [f"{changed.deleted:,} deleted"] if changed.deleted else []
    parts += [f"{counted(changed.pictures_added, 'picture')} added"] if changed.pictures_added else []
    parts += [f"{counted(changed.pictures_deleted, 'picture')} deleted"] if changed.pictures_deleted else []
    say(f"{labels.reference} ({short(changed.labels or '')}): {', '.join(parts)}")
