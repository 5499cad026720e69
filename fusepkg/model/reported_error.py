"""An error that another process reported, as an exception again."""

from __future__ import annotations

from fusepkg.errors import FusepkgError


def error_from_code(code: str, message: str, hint: str) -> FusepkgError:
    """Return the error that another process reported, by its code; a FusepkgError if the code is unknown."""
    waiting: list[type[FusepkgError]] = [FusepkgError]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            error = kind.__new__(kind)
            FusepkgError.__init__(error, message, hint=hint)
            return error
        waiting.extend(kind.__subclasses__())
    return FusepkgError(message, hint=hint)
