"""The base of all errors."""

from __future__ import annotations

from typing import ClassVar


class FusepkgError(Exception):
    """Base of all errors a caller may want to catch.

    ``message`` says what happened and to which object, ``hint`` what to do next (empty if there is nothing to do).
    Programs compare ``code``, which never changes; the command line ends with ``exit_code``. ``retryable`` is True if
    the same call may succeed later without any change.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message
