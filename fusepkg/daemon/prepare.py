"""Fetch a manifest and build its index in another process, so that a mount's own goes on answering meanwhile."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from fusepkg.app.context import Context
from fusepkg.errors import FusepkgError, MountFailed
from fusepkg.index.difference import Change, compare_indexes
from fusepkg.index.opening import open_index
from fusepkg.model.reported_error import error_from_code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg.app.settings import Settings
    from fusepkg.model.reference import Reference

log = logging.getLogger(__name__)

MOST_NAMES = 10
"""Of each kind of change, in what a dry run tells."""

_PROGRAM = (
    f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); "
    "from fusepkg.daemon.prepare import be_preparing; be_preparing()"
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """A version to be built here, and compared with the one at ``shown`` (where its index lies, and its top hash)."""

    reference: Reference
    settings: Settings
    shown: tuple[Path, str] | None = None


class DifferenceSummary(msgspec.Struct):
    """How many entries differ, the first of their names, and the size of the new ones and the modified ones."""

    added: int = 0
    removed: int = 0
    modified: int = 0
    names: dict[str, list[str]] = {}
    new_bytes: int = 0


class _Answer(msgspec.Struct):
    changes: DifferenceSummary | None = None
    code: str = ""
    message: str = ""
    hint: str = ""


async def prepare(preparation: Preparation) -> DifferenceSummary | None:
    """Run a preparation. Raises what ``Context.open_package`` raises; MountFailed if its process dies."""
    done = await trio.run_process(
        [sys.executable, "-c", _PROGRAM], stdin=pickle.dumps(preparation), capture_stdout=True, check=False
    )
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise MountFailed(
            f"the process that was to fetch the manifest of {preparation.reference} ended with {done.returncode}",
            hint="The mount's log has its last words (`fusepkg status DIR` names the log)",
        ) from exc
    if answer.code:
        raise error_from_code(answer.code, answer.message, answer.hint)
    return answer.changes


def be_preparing() -> None:
    """Be that process: read a Preparation from standard input, write the answer to standard output."""
    output = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    preparation: Preparation = pickle.load(sys.stdin.buffer)
    try:
        answer = _Answer(_prepared(preparation))
    except FusepkgError as exc:
        answer = _Answer(code=exc.code, message=exc.message, hint=exc.hint)
    with open(output, "wb") as file:
        file.write(msgspec.json.encode(answer))


def _prepared(preparation: Preparation) -> DifferenceSummary | None:
    context = Context(preparation.settings)
    with closing(context):
        opened = context.open_package(preparation.reference)
        if preparation.shown is None:
            return None
        shown = open_index(*preparation.shown)
        if shown is None:
            raise MountFailed("the index of the mounted version is gone", hint="`fusepkg diff REF REF` compares")
        return count_changes(compare_indexes(shown, opened.index))


def count_changes(changes: Iterable[Change]) -> DifferenceSummary:
    """Return how many changes there are of each kind, and the first names of each."""
    counted = DifferenceSummary(names={"added": [], "removed": [], "modified": []})
    for change in changes:
        setattr(counted, change.kind, getattr(counted, change.kind) + 1)
        if len(counted.names[change.kind]) < MOST_NAMES:
            counted.names[change.kind].append(change.logical_key)
        if change.new is not None and not change.is_meta_only:
            counted.new_bytes += change.new.size
    return counted
