"""switch: move a mount to another version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fusepkg.cli.options import DirArgument, FollowOption, JsonOption
from fusepkg.cli.output import counted, human_bytes, note, print_json, say, short
from fusepkg.daemon import control, records
from fusepkg.daemon.records import MountRecord
from fusepkg.errors import UsageError

_SIGNS = (("added", "+"), ("removed", "-"), ("modified", "~"))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(switch)


def switch(
    context: typer.Context,
    directory: DirArgument,
    target: Annotated[
        str | None, typer.Argument(metavar="[TAG|@HASH]", help="The version to show: a tag, or @ and a hash.")
    ] = None,
    follow: FollowOption = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Follow no tag any more.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show another version at a mount, at once: open files stay as they are, what is opened then is of that version."""
    if (target is not None) + (follow is not None) + no_follow != 1:
        raise UsageError("Name one of TAG, @HASH, --follow TAG and --no-follow", hint="`fusepkg switch --help`")
    record, inner = records.find_record(directory)
    if inner != ".":
        raise UsageError(f"{directory} lies inside the mount {record.mountpoint}", hint="Name the mount's directory")
    wanted = target or follow or ""
    if no_follow:
        _stop_following(record, dry_run, as_json)
    elif dry_run:
        _show_plan(_asked(record, "plan", wanted), as_json)
    else:
        _show_switch(_asked(record, "switch" if target else "follow", wanted), record, as_json)


def _asked(record: MountRecord, what: str, argument: str) -> dict[str, Any]:
    return control.ask(Path(record.socket), control.Question(what, argument))


def _stop_following(record: MountRecord, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        raise UsageError("--dry-run is for a version", hint="`fusepkg status DIR` tells which tag is followed")
    facts = _asked(record, "follow", "")
    if as_json:
        print_json(facts)
    else:
        note(f"{record.mountpoint} follows no tag" + (f" any more (it was {record.follow})" if record.follow else ""))


def _show_switch(facts: dict[str, Any], record: MountRecord, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    _say_versions(facts, "Switched {0} from {1} to {2}")
    if facts.get("follow"):
        note(f"It follows the tag {facts['follow']}")
    elif record.follow:
        note(f"It does not follow the tag {record.follow} any more: a version was named")


def _show_plan(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    _say_versions(facts, "A switch of {0} would lead from {1} to {2}")
    if not facts["changed"]:
        return
    changes = facts["changes"]
    counts = ", ".join(f"{changes[kind]:,} {kind}" for kind, _ in _SIGNS)
    say(f"{counts}; {human_bytes(changes['new_bytes'])} in what is added or modified")
    for kind, sign in _SIGNS:
        names = changes["names"][kind]
        for name in names:
            say(f"{sign} {name}")
        if changes[kind] > len(names):
            say(f"{sign} and {counted(changes[kind] - len(names), 'other')}")


def _say_versions(facts: dict[str, Any], text: str) -> None:
    old, new = ({**facts[name]} for name in ("from", "to"))
    if not facts["changed"]:
        say(f"{facts['mountpoint']} shows {new['reference']} ({short(new['top_hash'])}) already: nothing to do")
        return
    shown = [f"{version['reference']} ({short(version['top_hash'])})" for version in (old, new)]
    say(text.format(facts["mountpoint"], *shown))
