"""Regular expressions whose time grows with the text and no faster: RE2, which never goes back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from fusepkg.errors import SpecInvalid
from fusepkg.schemas.libraries import re2

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PATTERN_LENGTH = 2_000
"""Characters of a regular expression; longer ones are generated, and belong into a list."""

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 16 << 20


class Match(Protocol):
    """What a pattern has found."""

    def groupdict(self) -> Mapping[str, str | None]:
        """Named groups."""
        ...


class Pattern(Protocol):
    """A regular expression."""

    def search(self, text: str) -> Match | None:
        """Find it anywhere."""
        ...

    def fullmatch(self, text: str) -> Match | None:
        """Match the whole text."""
        ...


@cache
def compile_pattern(text: str) -> Pattern:
    """Return a pattern. Raises SpecInvalid for one that RE2 does not know: look-around, back references."""
    if len(text) > MAX_PATTERN_LENGTH:
        raise SpecInvalid(
            f"a regular expression of {len(text):,} characters", hint=f"At most {MAX_PATTERN_LENGTH:,} are taken"
        )
    try:
        pattern: Pattern = re2.compile(text, _OPTIONS)
    except re2.error as exc:
        said = exc.args[0].decode(errors="replace") if exc.args and isinstance(exc.args[0], bytes) else str(exc)
        raise SpecInvalid(
            f"the regular expression {text!r} is not understood: {said}",
            hint="Look-around and back references are not taken, because they can run for ever (syntax: RE2)",
        ) from exc
    return pattern
