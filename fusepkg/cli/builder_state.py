"""The file of a builder: the version it starts from, and every change since.

JSON lines: the package first, then one change a line in the order they were made, then the contents as they are shown,
so that a person can read the file, git can merge it, and an error can name a line. The changes say where data come
from, not what they are: made again on another machine they give the same version, as long as the data are there.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec

from fusepkg.errors import BuilderUnfit, InvalidReference
from fusepkg.model.reference import parse_reference
from fusepkg.publish.workspace import STATE_NAME
from fusepkg.state.trusted_file import hint_for, why_not_ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT = 1

_TopHash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="do"):
    """Keys of directories end with a slash; "" is the root."""


class Add(_Line, frozen=True, tag="add", rename={"source": "from"}):
    """A file, a directory, an object or objects of a bucket, added below a key; with ``package``, a version's entries.

    Local sources are relative to the working directory. ``symlinks`` says what becomes of links, if not the usual
    thing. ``record`` is what was recorded when all of that was added:
    git's commit, and the packages mounted in it.
    """

    key: str
    source: str = ""
    package: str = ""
    record: dict[str, Any] | None = None
    symlinks: str = "refuse"


class Set(_Line, frozen=True, tag="set", rename={"source": "from"}):
    """One entry, added or replaced. ``meta`` is None where none was given."""

    key: str
    source: str
    meta: dict[str, Any] | None = None


class SetMeta(_Line, frozen=True, tag="set-meta"):
    """Metadata of an entry, of a directory, or ("") of the package."""

    key: str
    meta: dict[str, Any]


class Move(_Line, frozen=True, tag="mv"):
    """The content of one directory moved to another."""

    key: str
    to: str
    overwrite: bool = False


class Remove(_Line, frozen=True, tag="rm"):
    """An entry, or all below a directory, taken out."""

    key: str


BuilderChange = Add | Set | SetMeta | Move | Remove


class BuilderHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line.

    ``base`` is the version the changes start from, ``tag`` the tag it was last pushed to. ``built`` is the version the
    changes make, once ``build-manifest`` has told it; ``pushed`` the one whose data ``push-data`` has put in the
    bucket. Both are gone with the next change.
    """

    builder: str
    format: int
    base: _TopHash | None = None
    tag: str | None = None
    message: str | None = None
    built: _TopHash | None = None
    pushed: _TopHash | None = None


class ShownItem(_Line, frozen=True, tag="show", rename={"source": "from"}):
    """A line of the contents as ``status`` shows it: what the last command made of the changes, for people."""

    key: str
    source: str


class BuilderState(msgspec.Struct, frozen=True):
    """The content of a builder's file."""

    header: BuilderHeader
    changes: tuple[BuilderChange, ...] = ()
    items: tuple[ShownItem, ...] = ()

    @property
    def is_pushed(self) -> bool:
        """Whether this version is in the bucket, with no change since."""
        return self.header.base is not None and not self.changes

    def with_change(self, change: BuilderChange, items: Iterable[ShownItem]) -> BuilderState:
        """Return a copy with one more change, and without the hashes of what was built and pushed."""
        header = msgspec.structs.replace(self.header, built=None, pushed=None)
        return BuilderState(header, (*self.changes, change), tuple(items))

    def with_header(self, **fields: Any) -> BuilderState:  # noqa: ANN401 - the fields of BuilderHeader
        """Return a copy with another header."""
        return BuilderState(msgspec.structs.replace(self.header, **fields), self.changes, self.items)


def find_directory(start: Path) -> Path | None:
    """Return the nearest directory with a builder, from ``start`` up to the root; None if there is none."""
    start = start.absolute()
    return next((directory for directory in (start, *start.parents) if (directory / STATE_NAME).is_file()), None)


def require_directory(start: Path) -> Path:
    """Return the same. Raises BuilderUnfit if there is none."""
    directory = find_directory(start)
    if directory is None:
        raise BuilderUnfit(
            f"there is no {STATE_NAME} in {start.absolute()} or above it",
            hint="Start a package here with: fusepkg init bucket/name",
        )
    return directory


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the builder while the block runs. Raises BuilderUnfit if another command has locked it.

    The lock is a flock of the working directory: the kernel drops it with the process, however that ends.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise BuilderUnfit(f"{directory} cannot be opened: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BuilderUnfit(
                f"another command is changing the builder in {directory}", hint="Run this one when that has ended"
            ) from exc
        except OSError as exc:
            raise BuilderUnfit(
                f"{directory} cannot be locked: {exc.strerror}", hint="Work in a directory on a local disk"
            ) from exc
        yield
    finally:
        os.close(descriptor)


def read_state(directory: Path) -> BuilderState:
    """Read a builder. Raises BuilderUnfit naming the line that is wrong, or whose file it is if not this user's."""
    path = directory / STATE_NAME
    try:
        _check_ours(path)
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise BuilderUnfit(f"{path} cannot be read: {exc}") from exc
    return state_from(text, path)


def _check_ours(path: Path) -> None:
    """Raise BuilderUnfit if another user may have written a builder's file: it says what is uploaded, and where to."""
    why = why_not_ours(path)
    if why:
        raise BuilderUnfit(f"{path} is not used: it {why}", hint=hint_for(path))


def state_from(text: str, path: Path) -> BuilderState:
    """Read the text of a file. Raises BuilderUnfit naming the line of ``path`` that is wrong."""
    lines = text.split("\n")  # not splitlines: names may hold what that takes for an end
    header = _read_header(path, lines[0])
    items: list[ShownItem] = []
    changes: list[BuilderChange] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            one = msgspec.convert(_parse(line), ShownItem | BuilderChange)
        except (ValueError, RecursionError) as exc:  # msgspec's own are ValueErrors too
            _refuse(path, number, str(exc))
        if isinstance(one, ShownItem):
            items.append(one)
        else:
            changes.append(one)
    return BuilderState(header, tuple(changes), tuple(items))


def text_of(state: BuilderState) -> str:
    """Return the text of a builder's file."""
    lines = [state.header, *state.changes, *state.items]
    return "".join(f"{json.dumps(msgspec.to_builtins(line), ensure_ascii=False)}\n" for line in lines)


def _read_header(path: Path, line: str) -> BuilderHeader:
    try:
        content = _parse(line)
        if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
            _refuse(path, 1, f"format {content['format']} is not known to this version of fusepkg")
        header = msgspec.convert(content, BuilderHeader)
        parse_reference(header.builder)
    except (ValueError, RecursionError, InvalidReference) as exc:
        _refuse(path, 1, str(exc))
    return header


def _parse(line: str) -> Any:  # noqa: ANN401 - whatever JSON can hold
    return json.loads(line, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(path: Path, number: int, reason: str) -> NoReturn:
    raise BuilderUnfit(
        f"line {number} of {path} is damaged: {reason}",
        hint="Mend or remove that line, or take the file back from git",
    )


def create_state(directory: Path, state: BuilderState) -> None:
    """Write the file of a new builder; the directory must be locked. Raises BuilderUnfit where there is one."""
    if (directory / STATE_NAME).exists():
        raise BuilderUnfit(
            f"{directory} holds a builder already ({STATE_NAME})",
            hint="Look at it with `fusepkg status`, or remove that file to start again",
        )
    write_state(directory, state)
    try:
        _check_ours(directory / STATE_NAME)
    except BuilderUnfit:
        (directory / STATE_NAME).unlink()
        raise


def write_state(directory: Path, state: BuilderState) -> None:
    """Replace the file atomically."""
    _write_beside(directory, state).replace(directory / STATE_NAME)


def _write_beside(directory: Path, state: BuilderState) -> Path:
    new = directory / f".{STATE_NAME}.{os.getpid()}"
    try:
        with new.open("wb") as file:
            file.write(text_of(state).encode())
            file.flush()
            os.fsync(file.fileno())
    except (OSError, UnicodeEncodeError) as exc:
        new.unlink(missing_ok=True)
        raise BuilderUnfit(f"{directory / STATE_NAME} cannot be written: {exc}") from exc
    return new
