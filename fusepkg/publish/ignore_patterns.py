"""The patterns of ignore files, with git's meaning, matched in time that grows with pattern times name.

Regular expressions made of such patterns can take exponential time on one name, so none are used: within a name, and
again over the names of a path, only the last ``*`` or ``**`` is ever gone back to, which is enough for an exact answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ANY_NAMES = "**"
"""A part of a pattern that stands for any number of directories."""

_ANY_TEXT = None
"""A piece of a part that stands for any text in a name: ``*``."""

_CLASSES: dict[str, Callable[[str], bool]] = {
    "alnum": str.isalnum,
    "alpha": str.isalpha,
    "blank": lambda letter: letter in " \t",
    "cntrl": lambda letter: ord(letter) < 32 or ord(letter) == 127,
    "digit": lambda letter: letter in "0123456789",
    "graph": lambda letter: "!" <= letter <= "~",
    "lower": str.islower,
    "print": lambda letter: " " <= letter <= "~",
    "punct": lambda letter: "!" <= letter <= "~" and not letter.isalnum(),
    "space": str.isspace,
    "upper": str.isupper,
    "xdigit": lambda letter: letter in "0123456789abcdefABCDEF",
}


@dataclass(frozen=True, slots=True)
class IgnorePattern:
    """One line of an ignore file. ``leaves_out`` is False for one that begins with ``!``."""

    leaves_out: bool
    directories_only: bool
    parts: tuple[str | tuple[Callable[[str], bool] | None, ...], ...]

    def matches(self, names: Sequence[str], is_directory: bool) -> bool:
        """Return whether a path below the ignore file's directory matches; ``names`` are its parts."""
        return (is_directory or not self.directories_only) and _path_matches(self.parts, names)


def parse_pattern(line: str) -> IgnorePattern | None:
    """Return the pattern of a line; None for a comment, a blank line, and one that can match nothing."""
    line = _without_trailing_spaces(line)
    if not line or line.startswith("#"):
        return None
    leaves_out = not line.startswith("!")
    if not leaves_out:
        line = line[1:]
    directories_only = line.endswith("/")
    line = line.removesuffix("/")
    if not line:
        return None
    names = line.removeprefix("/").split("/")
    if "/" not in line:
        names = [_ANY_NAMES, *names]  # a name anywhere
    try:
        parts = tuple(name if name == _ANY_NAMES else _pieces(name) for name in names)
    except ValueError:
        return None
    return IgnorePattern(leaves_out, directories_only, parts)


def _without_trailing_spaces(line: str) -> str:
    while line.endswith(" "):
        backslashes = len(line[:-1]) - len(line[:-1].rstrip("\\"))
        if backslashes % 2:
            break
        line = line[:-1]
    return line


def _pieces(name: str) -> tuple[Callable[[str], bool] | None, ...]:
    """Return what each character, or any text, has to be. Raises ValueError for a pattern that matches nothing."""
    pieces: list[Callable[[str], bool] | None] = []
    at = 0
    while at < len(name):
        letter = name[at]
        at += 1
        if letter == "*":
            if not pieces or pieces[-1] is not _ANY_TEXT:
                pieces.append(_ANY_TEXT)
        elif letter == "?":
            pieces.append(_is_anything)
        elif letter == "[":
            piece, at = _bracket(name, at)
            pieces.append(piece)
        else:
            if letter == "\\":
                if at == len(name):
                    raise ValueError("a backslash at the end")
                letter = name[at]
                at += 1
            pieces.append(letter.__eq__)
    return tuple(pieces)


def _is_anything(_letter: str) -> bool:
    return True


def _bracket(name: str, at: int) -> tuple[Callable[[str], bool], int]:
    """Return what a character has to be for ``[...]``, which begins before ``at``, and where the pattern goes on."""
    is_negated = name[at : at + 1] in ("!", "^")
    at += is_negated
    tests: list[Callable[[str], bool]] = []
    begin = at
    while True:
        if at >= len(name):
            raise ValueError("no closing bracket")
        if name[at] == "]" and at > begin:
            break
        if name.startswith("[:", at) and (end := name.find(":]", at)) > 0:
            tests.append(_CLASSES[name[at + 2 : end]] if name[at + 2 : end] in _CLASSES else _refuse())
            at = end + 2
            continue
        low, at = _bracket_letter(name, at)
        high = low
        if name[at : at + 1] == "-" and name[at + 1 : at + 2] not in ("]", ""):
            high, at = _bracket_letter(name, at + 1)
        tests.append(lambda letter, low=low, high=high: low <= letter <= high)  # type: ignore[misc]  # the defaults
    return (lambda letter: any(test(letter) for test in tests) is not is_negated), at + 1


def _refuse() -> Callable[[str], bool]:
    raise ValueError("no such class of characters")


def _bracket_letter(name: str, at: int) -> tuple[str, int]:
    if name[at] == "\\":
        at += 1
    if at >= len(name):
        raise ValueError("no closing bracket")
    return name[at], at + 1


# --- matching ------------------------------------------------------------------------------------------------


def _path_matches(parts: Sequence[str | tuple[Callable[[str], bool] | None, ...]], names: Sequence[str]) -> bool:
    """Return whether all names match, in order; ``**`` stands for any number of them, at the end for one or more."""
    at_part = at_name = 0
    back_to: tuple[int, int] | None = None
    while at_name < len(names):
        part = parts[at_part] if at_part < len(parts) else ()
        if part == _ANY_NAMES:
            if at_part == len(parts) - 1:
                return True
            at_part += 1
            back_to = (at_part, at_name)
        elif not isinstance(part, str) and at_part < len(parts) and _name_matches(part, names[at_name]):
            at_part += 1
            at_name += 1
        elif back_to is not None:
            at_part, at_name = back_to[0], back_to[1] + 1
            back_to = (at_part, at_name)
        else:
            return False
    return at_part == len(parts)


def _name_matches(pieces: Sequence[Callable[[str], bool] | None], name: str) -> bool:
    at_piece = at_letter = 0
    back_to: tuple[int, int] | None = None
    while at_letter < len(name):
        piece = pieces[at_piece] if at_piece < len(pieces) else None
        if at_piece < len(pieces) and piece is _ANY_TEXT:
            at_piece += 1
            back_to = (at_piece, at_letter)
        elif piece is not None and piece(name[at_letter]):
            at_piece += 1
            at_letter += 1
        elif back_to is not None:
            at_piece, at_letter = back_to[0], back_to[1] + 1
            back_to = (at_piece, at_letter)
        else:
            return False
    return all(piece is _ANY_TEXT for piece in pieces[at_piece:])
