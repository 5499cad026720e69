"""Questions that people and scripts ask often, answered before the command line's library is loaded.

Only their plain forms are understood; of anything else the library makes what it means, or a message. They need no
settings, so none are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_JSON = "--json"


def answer_at_once(words: Sequence[str]) -> bool:
    """Answer `mounts` or `status [DIR]` of a mount, with or without --json; return False if it is another command.

    Raises FusepkgError.
    """
    command, *rest = words or ("",)
    places = [word for word in rest if word != _JSON]
    if any(word.startswith("-") for word in places) or rest.count(_JSON) > 1:
        return False
    if command == "mounts" and not places:
        from fusepkg.cli.mounts_shown import show_mounts

        show_mounts(_JSON in rest)
        return True
    if command == "status" and len(places) <= 1:
        return _answer_status(Path(places[0]) if places else Path.cwd(), as_json=_JSON in rest)
    return False


def _answer_status(directory: Path, *, as_json: bool) -> bool:
    """Show the mount that a directory lies in; return False if it lies in none that answers."""
    from fusepkg.cli.mounts_shown import show_mount
    from fusepkg.daemon.records import find_record
    from fusepkg.errors import DaemonNotRunning, NotMounted

    try:
        record, _ = find_record(directory)
    except (NotMounted, DaemonNotRunning):
        return False
    show_mount(record, as_json)
    return True
